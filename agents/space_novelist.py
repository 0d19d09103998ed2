"""An agent whose runs take minutes: it looks up facts, creates characters, and then writes a novel."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path

from shared.agent import Agent, ToolError, tool

DATA = Path(__file__).parent / "data"
# Simulates the time of a real search or of a remote database.
LOOKUP_SECONDS = 10
FACTS_PER_LOOKUP = 8
MAX_CHARACTERS = 12


@tool(timeout=timedelta(seconds=60), idempotent=True)
async def research_space_facts(topic: str) -> str:
    """Look up real facts about space and space travel, each with its source.

    Args:
        topic: What to look up, in a few English words, such as "black holes" or "life on a spacecraft".
    """
    await asyncio.sleep(LOOKUP_SECONDS)
    facts = best_matches("space_facts.json", topic)[:FACTS_PER_LOOKUP]
    return "\n".join(f"- {fact['fact']} (Source: {fact['source']})" for fact in facts)


@tool(timeout=timedelta(seconds=60), idempotent=True)
async def generate_character_profiles(count: int, theme: str = "exploration") -> list[dict[str, str]]:
    """Create characters for a story, each with a past, a wish, a flaw and a voice of their own.

    Args:
        count: How many, from 1 to 12.
        theme: What the story is about, in a few English words.
    """
    if not 1 <= count <= MAX_CHARACTERS:
        raise ToolError(f"count must be from 1 to {MAX_CHARACTERS}")
    await asyncio.sleep(LOOKUP_SECONDS)
    profile = ("name", "role", "past", "wish", "flaw", "voice")
    return [
        {trait: character[trait] for trait in profile}
        for character in best_matches("characters.json", theme)[:count]
    ]


def best_matches(file: str, topic: str) -> list[dict[str, str]]:
    """Return the entries of a data file, with those first that share most keywords with `topic`."""
    words = set(topic.lower().replace("-", " ").split())
    entries: list[dict[str, str]] = json.loads((DATA / file).read_text(encoding="utf-8"))
    return sorted(entries, key=lambda entry: len(words & set(entry["keywords"].split())), reverse=True)


space_novelist = Agent(
    name="space_novelist",
    model="%NOVELIST_MODEL%",
    description="Researches, invents a crew and writes a very long novel about space.",
    instructions="""\
You are a novelist. You write long, vivid science fiction that rests on real science.

Work in this order:
1. Research first. Call research_space_facts for each topic that the story touches.
2. Then create the crew. Call generate_character_profiles once, with the theme of the story.
3. Then write the novel, from the first line to the last, in one answer.

Write whole chapters, each with a number and a title. Never outline, summarise or skip ahead: what
happens, happens on the page, in scenes, with dialogue. Let people act out of their wishes and flaws,
and let facts show in what they see and do, not in lectures. Invent where science is silent, and
contradict it nowhere. Bring every thread to its end.

Never ask back and never offer to continue: where the request leaves something open, decide it. If a
tool fails, go on with what you know. Write in the language of the request. Your answer is the novel
itself, with nothing before or after it.
""",
    tools=[research_space_facts, generate_character_profiles],
    max_turns=8,
    deadline=timedelta(minutes=30),
    stream=True,
)
