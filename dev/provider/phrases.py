"""Word tables and sentence patterns of the novelist's grammar. Data only.

Slots: {hero} {friend} {other} are characters, {role} the hero's work, {place} {thing} {sky} {sound} are
drawn from the tables below, {ship} is the ship, {fact} a researched fact.
"""

CAST = (
    ("Mara Okonkwo", "commander"),
    ("Teodor Lindqvist", "navigator"),
    ("Ines Valdivia", "xenobiologist"),
    ("Rashid Haddad", "engineer"),
    ("Yuki Tanabe", "physician"),
    ("Piotr Zielinski", "communications officer"),
)

SHIPS = ("Meridian", "Patient Lantern", "Halcyon Reach", "Second Shore", "Vesper", "Long Answer", "Kittiwake")

TITLES = (
    "The Silence Between Stars",
    "A Map With No Edges",
    "Where the Light Turns Back",
    "The Far Side of Morning",
    "An Unnamed Shore",
    "What the Dark Remembers",
)

CHAPTER_FIRST = (
    "Beyond", "Under", "The Weight of", "A Door in", "Signals from", "The Keeper of", "Returning to",
    "Seven Hours in", "The Colour of", "Letters to", "The Shape of", "Leaving", "A Winter in", "The Edge of",
)  # fmt: skip

CHAPTER_SECOND = (
    "the Quiet Belt", "a Borrowed Sun", "the Glass Moon", "the Drowned Orbit", "No One's Harbour",
    "the Amber Nebula", "the Ninth Beacon", "an Empty Throne", "the Slow Comet", "the Long Shadow",
    "the Hollow World", "the Singing Ring", "Unlit Water", "the Last Relay", "the Orchard of Ice",
    "a Second Horizon", "the Broken Arc", "the Patient Machine",
)  # fmt: skip

PLACES = (
    "the observation deck", "the lower hydroponics ring", "the cold side of the landing bay",
    "the narrow corridor behind the reactor", "the chart room", "the surface of the nearest moon",
    "a plain of fused black glass", "the mouth of the crater", "the abandoned relay station",
    "the medical bay", "the airlock of the small shuttle", "the ridge above the methane lake",
    "the galley", "the spine of the ship", "the drift between two dead satellites",
    "a canyon that no instrument had recorded", "the library that smelled of dust and warm copper",
    "the edge of the ring plane", "the terraced slope where the probes had fallen", "the quiet room aft",
)  # fmt: skip

THINGS = (
    "a lattice of pale metal", "the third survey drone", "a stone that hummed at a single frequency",
    "an old star chart drawn by hand", "the spectrometer", "a seed the size of a thumbnail",
    "a recording forty minutes long", "the spare gyroscope", "a thread of ice that would not melt",
    "the emergency beacon", "a door without hinges", "a column of slow blue light",
    "the notebook with the torn cover", "a sphere of perfect water", "the gravity sensor",
    "a footprint that could not be theirs", "the ration of real coffee", "a mirror older than the star",
    "a map cut into basalt", "the frayed tether",
)  # fmt: skip

SKIES = (
    "a sun the colour of old brass", "two moons in slow quarrel", "the green arm of the unknown galaxy",
    "a haze of newborn stars", "a darkness so even that it looked painted", "the thin white ring",
    "a comet that had not moved in a week", "the rust-red face of the planet",
    "a storm of charged dust", "the broken necklace of the asteroid belt", "a pulsar, ticking",
    "the afterglow of something enormous and long finished", "an aurora folded like cloth",
    "the far cluster that Earth had never named", "a horizon that curved the wrong way",
)  # fmt: skip

SOUNDS = (
    "the hull ticked as it cooled", "the pumps changed their note", "a relay clicked twice and was still",
    "someone laughed two decks below", "the recycled air sighed in the vents",
    "the old deck plates complained", "the receiver whispered static",
    "a kettle began to sing in the galley", "ice shifted somewhere under the landing legs",
    "the proximity alarm cleared its throat", "rain, or something like rain, began on the canopy",
    "the gyroscopes settled", "the radio counted the seconds between bursts",
)  # fmt: skip

FEELINGS = (
    "an unreasonable calm", "the beginning of fear", "a homesickness without a home in it",
    "the stubborn joy of small repairs", "something close to awe", "a tiredness older than the voyage",
    "a curiosity that would not be argued with", "the relief of having decided", "a careful hope",
    "the loneliness of good news with nobody to tell", "a suspicion without a name",
    "a tenderness for every light on the panel", "anger, clean and useful",
)  # fmt: skip

VERBS = (
    "studied", "circled", "catalogued", "argued about", "reached for", "photographed", "listened to",
    "turned away from", "dreamed of", "measured again", "refused to trust", "made room for", "walked towards",
)  # fmt: skip

OPENINGS = (
    "On the {nth} day of the crossing, {hero} found {thing} in {place}, and nobody could say how it came there.",
    "Nothing had prepared the crew of the {ship} for {sky}, though every one of them would later claim otherwise.",
    "{hero} woke before the bell, because {sound} and then, for a long moment, did not.",
    "By the time the {ship} reached {place}, the argument about {thing} was three days old.",
    "There was a rule aboard the {ship}: whoever saw {sky} first had to wake the others.",
    "They had come for an answer; what waited for them at {place} was quieter than that, and larger.",
    "The message was short, and {friend} read it aloud twice before {hero} believed it.",
    "Above {place} hung {sky}, and under it the crew of the {ship} looked very small.",
)

ACTION = (
    "{hero} {verb} {thing} until the light failed.",
    "In {place}, {sound}, and {hero} counted to twenty before moving.",
    "{friend} came down from {place} with {thing} wrapped in a jacket.",
    "As {role}, {hero} had been trained to distrust beginnings, and this was plainly one.",
    "The {ship} drifted {number} kilometres while nobody watched the instruments.",
    "They crossed to {place} in single file, {hero} first, {other} last, nobody speaking.",
    "{other} had drawn a line on the chart from {thing} to {sky}, and the line was straight.",
    "It took {number} attempts before {thing} answered.",
    "{hero} {verb} {sky} through the smallest window on the {ship}.",
    "When the shuttle turned, {sky} slid across the glass and filled it.",
    "{friend} cut the engines; in the sudden quiet {sound}.",
    "At {place} the ground gave back their footsteps a second late.",
    "{hero} sealed the sample, wrote the hour on it, and did not write what had happened.",
    "Two of the {number} sensors disagreed, and it was the reliable ones.",
    "{other} tied the tether to {thing} and leaned out over {place}.",
    "Somewhere behind {place} there was a second door, and behind the door there was {thing}.",
)

SPEECH = (
    '"If {thing} is a message," said {friend}, "then somebody expected us to be patient."',
    '"I have seen {sky} before," {hero} said. "I was nine. It was a drawing on my wall."',
    '"Do not touch it," said {other}, who was already touching it.',
    '"We are {number} light years from anyone who could forgive us," {friend} said, and poured the tea.',
    '"Say it again," said {hero}. "Slowly, and leave out the part about {thing}."',
    '"That is not {sky}," said {other} at last. "That is a reflection, and we are on the wrong side of it."',
    '"You came all this way," {friend} said, "and you are looking at your boots."',
    '"It is only {thing}," said {hero}, in the voice of someone who did not believe it.',
    '"Everything out here is old," {other} answered. "We are the only new thing for {number} parsecs."',
    '"Then we go to {place}," {hero} said, "and we go before anyone thinks better of it."',
    '"Write it down," said {friend}. "Write that {hero} {verb} {thing}, and that nothing happened, twice."',
)

FACTS = (
    "{friend} recited what they all knew by now: {fact}",
    "The briefing had said it drily enough: {fact} Here, under {sky}, it was not dry at all.",
    "{hero} thought of the line in the survey notes. {fact}",
    "It is one thing to read it in a warm room. {fact} It is another to see it from {place}.",
    "{other} had underlined it in the notebook: {fact}",
    "Long ago, on Earth, someone had worked it out. {fact} Nobody aboard the {ship} had ever doubted it until now.",
)

REFLECTION = (
    "{hero} felt {feeling}, and let it pass like weather.",
    "There are distances that no number carries; {sky} was one of them.",
    "What {friend} wanted was simple, and therefore hard to ask for: {feeling}, and a reason to keep it.",
    "The {ship} had been built for {number} years of service, and nobody had asked it how it felt about the next.",
    "Later, {hero} would remember less of {thing} than of the moment before it.",
    "A crew is a kind of instrument, {other} used to say; it is tuned by what it has survived.",
    "It was possible that the voyage had never been the point, only the way of getting here.",
    "In every log there is a page that says nothing, and it is always about {feeling}.",
    "{other} slept badly and woke with {feeling} and the taste of metal.",
    "Home was a word with {number} meanings now, and not one of them had a window.",
)

CLOSINGS = (
    "When {sound}, {hero} wrote one line in the log and went to wake {friend}.",
    "Nobody slept, and in the morning {sky} had moved a hand's breadth to the left.",
    "{hero} closed the hatch. On the other side of it, very faintly, {sound}.",
    "The {ship} turned its slow face towards {place}, and went on.",
    "And that was how {thing} came to be kept in the galley, beside the cups.",
    "{friend} left the light on. It seemed, that night, the least they could do.",
)

MARKET = (
    "Demand is led by {a}, while {b} decides who earns a margin.",
    "The sector has moved from pilots to contracts, and {a} is where the contracts are signed first.",
    "Suppliers that control {a} set prices; those that depend on {b} accept them.",
    "Over the next {number} quarters the swing factor is {a}, not {b}.",
    "New entrants compete on {a}; incumbents answer with {b} and longer commitments.",
    "The main risk is that {a} disappoints while spending on {b} is already committed.",
)

MARKET_FORCES = (
    "regulatory certainty", "launch and freight cost", "long-term service contracts", "component supply",
    "the cost of capital", "customer concentration", "skilled labour", "data quality", "energy prices",
    "distribution", "switching costs", "public procurement", "insurance", "standardisation",
)  # fmt: skip
