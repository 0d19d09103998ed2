"""The emulator's prose: a seeded grammar that writes a novel, or a short analysis, from a plan."""

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from dev.provider import phrases
from dev.provider.plan import CAST_TOOL, Plan, topic_of

T = TypeVar("T")

NOVEL_LENGTH = 320_000
_CHAPTER_LENGTH = 5_400
_NAME = re.compile(r"\b[A-Z][a-z]+ [A-Z][a-z]+\b")
_SENTENCE = re.compile(r"[A-Z][^.!?\n]{24,240}[.!?]")
_SOURCE = re.compile(r"\(Source:[^)]*\)")


@dataclass(frozen=True)
class Sections:
    """A text in `count` sections, each written when it is read."""

    count: int
    texts: Iterator[str]


class Deck:
    """Draws from tables without repetition: no entry comes again before all others were drawn."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self._left: dict[tuple[Any, ...], list[Any]] = {}

    def draw(self, table: tuple[T, ...]) -> T:
        left: list[T] = self._left.setdefault(table, [])
        if not left:
            left += self.rng.sample(table, len(table))
        return left.pop()


@dataclass(frozen=True)
class Story:
    """What all chapters share."""

    ship: str
    cast: tuple[tuple[str, str], ...]
    facts: tuple[str, ...]
    deck: Deck


def prose(plan: Plan) -> Sections:
    """Return a novel where the plan's request offers the novelist's tools, else a short analysis."""
    return _novel(plan) if plan.is_novel else _analysis(plan)


def _novel(plan: Plan) -> Sections:
    length = NOVEL_LENGTH if plan.turn.length is None else plan.turn.length
    count = max(1, -(-length // _CHAPTER_LENGTH))
    return Sections(count, _chapters(plan, count, -(-length // count)))


def _chapters(plan: Plan, count: int, length: int) -> Iterator[str]:
    deck = Deck(random.Random(plan.seed))
    story = Story(ship=deck.draw(phrases.SHIPS), cast=_cast(plan), facts=_facts(plan), deck=deck)
    for number in range(1, count + 1):
        head = ""
        if number == 1:
            head = f"# {deck.draw(phrases.TITLES)}\n\n*A novel about {topic_of(plan.prompt)}*\n\n"
        title = f"{deck.draw(phrases.CHAPTER_FIRST)} {deck.draw(phrases.CHAPTER_SECOND)}"
        text = f"{head}## Chapter {number}: {title}\n\n"
        end = "\n\nTHE END\n" if number == count else "\n\n"
        yield text + _chapter(story, length - len(text)) + end


def _chapter(story: Story, length: int) -> str:
    rng, scene = story.deck.rng, _scene(story)
    paragraphs = [_paragraph(story, scene, [phrases.OPENINGS, phrases.ACTION, phrases.REFLECTION])]
    size = len(paragraphs[0])
    while size < length:
        kinds = [story.deck.draw((phrases.ACTION, phrases.SPEECH, phrases.REFLECTION, phrases.FACTS))]
        kinds += rng.choices((phrases.ACTION, phrases.SPEECH, phrases.REFLECTION), k=rng.randint(2, 4))
        paragraphs.append(_paragraph(story, scene, kinds))
        size += len(paragraphs[-1]) + 2
        if rng.random() < 0.12:
            scene["place"] = story.deck.draw(phrases.PLACES)
    paragraphs.append(_paragraph(story, scene, [phrases.REFLECTION, phrases.CLOSINGS]))
    return "\n\n".join(paragraphs)


def _scene(story: Story) -> dict[str, str]:
    (hero, role), (friend, _), (other, _) = story.deck.rng.sample(story.cast, 3)
    place = story.deck.draw(phrases.PLACES)
    return {"hero": hero, "role": role, "friend": friend, "other": other, "place": place}


def _paragraph(story: Story, scene: dict[str, str], kinds: list[tuple[str, ...]]) -> str:
    """Write one sentence of each kind; people have their full name once in a paragraph."""
    draw, rng = story.deck.draw, story.deck.rng
    names = {key: scene[key] for key in ("hero", "friend", "other")}
    sentences = []
    for kind in kinds:
        pattern = draw(kind)
        sentence = pattern.format(
            **{**scene, **names},
            ship=story.ship,
            thing=draw(phrases.THINGS),
            sky=draw(phrases.SKIES),
            sound=draw(phrases.SOUNDS),
            feeling=draw(phrases.FEELINGS),
            verb=draw(phrases.VERBS),
            number=rng.randint(3, 900),
            nth=_ordinal(rng.randint(2, 400)),
            fact=draw(story.facts) if "{fact}" in pattern else "",
        )
        sentences.append(sentence[0].upper() + sentence[1:])
        names |= {key: name.split()[0] for key, name in names.items() if "{" + key + "}" in pattern}
    return " ".join(sentences)


def _ordinal(number: int) -> str:
    suffix = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def _facts(plan: Plan) -> tuple[str, ...]:
    found: list[str] = []
    for name, output in plan.outputs:
        if name != CAST_TOOL:
            for text in _strings(_parsed(output)):
                found += _SENTENCE.findall(_SOURCE.sub("", text))
    return tuple(dict.fromkeys(found)) or ("Light from the nearest galaxy is older than anyone who sees it.",)


def _cast(plan: Plan) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for name, output in plan.outputs:
        if name == CAST_TOOL:
            value = _parsed(output)
            found |= dict(_named(value))
            if not found:
                found |= {match: "specialist" for text in _strings(value) for match in _NAME.findall(text)}
    # A scene needs three people.
    for person, role in phrases.CAST:
        if len(found) >= 3:
            break
        found.setdefault(person, role)
    return tuple(found.items())


def _parsed(output: str) -> Any:
    try:
        return json.loads(output)
    except ValueError:
        return output


def _strings(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from _strings(item)
        case dict():
            for item in value.values():
                yield from _strings(item)


def _named(value: Any) -> Iterator[tuple[str, str]]:
    """Find every object with a name; yield the name and the person's role."""
    match value:
        case list():
            for item in value:
                yield from _named(item)
        case dict():
            if isinstance(value.get("name"), str):
                yield value["name"], str(value.get("role") or value.get("occupation") or "specialist")
            for item in value.values():
                yield from _named(item)


def _analysis(plan: Plan) -> Sections:
    rng = random.Random(plan.seed)
    topic = topic_of(plan.prompt)
    length = 1_500 if plan.turn.length is None else plan.turn.length
    paragraphs = [f"# Market analysis: {topic}"]
    heads = ("Demand", "Competition", "Outlook", "Risks", "What to watch")
    while sum(map(len, paragraphs)) < length or len(paragraphs) < 4:
        head = heads[(len(paragraphs) - 1) % len(heads)]
        paragraphs.append(f"## {head}\n\n" + " ".join(_market(rng) for _ in range(3)))
    return Sections(len(paragraphs), (paragraph + "\n\n" for paragraph in paragraphs))


def _market(rng: random.Random) -> str:
    one, two = rng.sample(phrases.MARKET_FORCES, 2)
    return rng.choice(phrases.MARKET).format(a=one, b=two, number=rng.randint(2, 12))
