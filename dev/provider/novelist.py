"""The emulator's prose: a seeded grammar that writes a novel, or a short analysis, from a plan."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dev.provider import phrases
from dev.provider.plan import CAST_TOOL, Plan, topic_of

NOVEL_LENGTH = 320_000
_CHAPTER_LENGTH = 5_400
_NAME = re.compile(r"\b[A-Z][a-z]+ [A-Z][a-z]+\b")
_SENTENCE = re.compile(r"[^.!?\n]{25,240}[.!?]")


@dataclass(frozen=True)
class Pieces:
    """A text in `count` pieces, written as they are asked for."""

    count: int
    texts: Iterator[str]


@dataclass(frozen=True)
class Story:
    """What the whole novel shares."""

    topic: str
    ship: str
    cast: tuple[tuple[str, str], ...]
    facts: tuple[str, ...]


def prose(plan: Plan) -> Pieces:
    """Return a novel where the plan's request offers the novelist's tools, else a short analysis."""
    return _novel(plan) if plan.is_novel else _analysis(plan)


def _novel(plan: Plan) -> Pieces:
    length = NOVEL_LENGTH if plan.turn.length is None else plan.turn.length
    count = max(1, -(-length // _CHAPTER_LENGTH))
    return Pieces(count, _chapters(plan, count, -(-length // count)))


def _chapters(plan: Plan, count: int, length: int) -> Iterator[str]:
    rng = random.Random(plan.seed)
    story = Story(
        topic=topic_of(plan.prompt),
        ship=rng.choice(phrases.SHIPS),
        cast=_cast(plan),
        facts=_facts(plan),
    )
    facts = _endless(story.facts, rng)
    for number in range(1, count + 1):
        head = f"# {rng.choice(phrases.TITLES)}\n\n" if number == 1 else ""
        title = f"{rng.choice(phrases.CHAPTER_FIRST)} {rng.choice(phrases.CHAPTER_SECOND)}"
        text = f"{head}## Chapter {number}: {title}\n\n"
        end = "\n\nTHE END\n" if number == count else "\n\n"
        yield text + _chapter(story, facts, rng, length - len(text)) + end


def _chapter(story: Story, facts: Iterator[str], rng: random.Random, length: int) -> str:
    scene = _scene(story, rng)
    patterns = [phrases.OPENINGS, phrases.ACTION, phrases.REFLECTION]
    paragraphs = [_paragraph(scene, patterns, facts, rng)]
    size = len(paragraphs[0])
    while size < length:
        kind = rng.choice((phrases.ACTION, phrases.SPEECH, phrases.REFLECTION, phrases.FACTS))
        patterns = [kind, *rng.choices((phrases.ACTION, phrases.SPEECH, phrases.REFLECTION), k=rng.randint(1, 4))]
        paragraphs.append(_paragraph(scene, patterns, facts, rng))
        size += len(paragraphs[-1]) + 2
        if rng.random() < 0.12:
            scene = {**scene, "place": rng.choice(phrases.PLACES)}
    paragraphs.append(_paragraph(scene, [phrases.REFLECTION, phrases.CLOSINGS], facts, rng))
    return "\n\n".join(paragraphs)


def _scene(story: Story, rng: random.Random) -> dict[str, str]:
    (hero, role), (friend, _), (other, _) = rng.sample(story.cast, 3)
    return {
        "hero": hero,
        "role": role,
        "friend": friend,
        "other": other,
        "place": rng.choice(phrases.PLACES),
        "ship": story.ship,
        "topic": story.topic,
    }


def _paragraph(
    scene: dict[str, str], kinds: list[tuple[str, ...]], facts: Iterator[str], rng: random.Random
) -> str:
    sentences = []
    for kind in kinds:
        pattern = rng.choice(kind)
        sentence = pattern.format(
            **scene,
            thing=rng.choice(phrases.THINGS),
            sky=rng.choice(phrases.SKIES),
            sound=rng.choice(phrases.SOUNDS),
            feeling=rng.choice(phrases.FEELINGS),
            verb=rng.choice(phrases.VERBS),
            number=rng.randint(3, 900),
            nth=_ordinal(rng.randint(2, 400)),
            fact=next(facts) if "{fact}" in pattern else "",
        )
        sentences.append(sentence[0].upper() + sentence[1:])
    return " ".join(sentences)


def _ordinal(number: int) -> str:
    suffix = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def _endless(facts: tuple[str, ...], rng: random.Random) -> Iterator[str]:
    """Give every fact before any comes again."""
    while True:
        yield from rng.sample(facts, len(facts))


def _facts(plan: Plan) -> tuple[str, ...]:
    found: list[str] = []
    for name, output in plan.outputs:
        if name != CAST_TOOL:
            for text in _strings(_parsed(output)):
                found += [sentence.strip() for sentence in _SENTENCE.findall(text + ".")]
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
    """Find every object with a name, and what it says the person does."""
    match value:
        case list():
            for item in value:
                yield from _named(item)
        case dict():
            if isinstance(value.get("name"), str):
                yield value["name"], str(value.get("role") or value.get("occupation") or "specialist")
            for item in value.values():
                yield from _named(item)


def _analysis(plan: Plan) -> Pieces:
    rng = random.Random(plan.seed)
    topic = topic_of(plan.prompt)
    length = 1_500 if plan.turn.length is None else plan.turn.length
    paragraphs = [f"# Market analysis: {topic}"]
    heads = ("Demand", "Competition", "Outlook", "Risks", "What to watch")
    while sum(map(len, paragraphs)) < length or len(paragraphs) < 4:
        head = heads[(len(paragraphs) - 1) % len(heads)]
        paragraphs.append(f"## {head}\n\n" + " ".join(_market(rng) for _ in range(3)))
    return Pieces(len(paragraphs), (paragraph + "\n\n" for paragraph in paragraphs))


def _market(rng: random.Random) -> str:
    one, two = rng.sample(phrases.MARKET_FORCES, 2)
    return rng.choice(phrases.MARKET).format(a=one, b=two, number=rng.randint(2, 12))
