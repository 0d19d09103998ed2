"""Create the screenshots of docs/screenshots: `python -m tests.browser.screenshots`."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser

from tests.browser.chromium import chromium, enter_key
from tests.browser.fake_api import KEY, FakeApi
from tests.browser.fake_run import FakeRun, used

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
SHAPES: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 860}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 860}, "color_scheme": "dark"},
    "narrow": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
}
NOVEL = """\
Chapter One: The Long Quiet

The tether hummed before it sang. Ines Okonjo felt it through her gloves, a note too low for the suit's \
microphones, and laid her palm flat against the cable as one might calm a horse.

"Talk to me," said Halloran from the lock.

"It's breathing." She watched the counterweight swing across Ganymede's bright limb. "Two millimetres an \
hour. It was one yesterday."

Nobody on the Perihelion liked numbers that doubled. Below them the ocean lay under a hundred kilometres of \
ice, and under the ice something had begun, nine days ago, to answer the sonar a quarter of a second early.

They had argued about that quarter of a second for most of the week. Sound in salt water does not hurry. It \
cannot arrive before the pulse that made it, and yet there it was on every trace: a pale line, patient and \
exact, just ahead of their own voice.

Chapter Two: What the Ice Keeps

Ravi Castellanos had stopped sleeping in his bunk. He slept in the drill hall now, on a roll of insulation, \
with the seismograph beside his head, because he"""


def scene(now: datetime) -> list[FakeRun]:
    return [_novel(now - timedelta(seconds=74)), *_others(now)]


def _number(seed: int) -> int:
    return random.Random(seed).getrandbits(79)


def _novel(created: datetime) -> FakeRun:
    run = FakeRun(_number(1), created=created)
    run.note("run.queued").note("run.in_progress", 1.4).note("turn.started", turn=1, response_id="resp_1")
    run.note("turn.completed", 4.2, turn=1, tool_calls=2)
    run.tool(
        "research_space_facts",
        '{"topic": "oceans under the ice of Ganymede"}',
        "- Ganymede has a salty ocean below about 100 km of ice (Source: NASA/ESA Hubble, 2015)\n"
        "- It is the only moon known to have a magnetic field of its own (Source: Galileo mission)",
        seconds=10.1,
    )
    run.tool(
        "generate_character_profiles",
        '{"count": 3, "theme": "first contact"}',
        '[{"name": "Ines Okonjo", "role": "tether engineer"}, {"name": "Ravi Castellanos", "role": "seismologist"}]',
        seconds=10.3,
    )
    run.note("turn.started", 1.1, turn=2, response_id="resp_2")
    texts = [NOVEL[at : at + 60] for at in range(0, len(NOVEL), 60)]
    run.note("text.delta", 6.5, turn=2, text="").write(*texts, every=38 / len(texts))
    run.fields = {
        "turn": 2,
        "usage": used(1842, 312, cached=1024, reasoning=64),
        "metadata": {"reader": "harbour-library", "edition": "first"},
        "progress": {"characters": len(NOVEL), "items": 3, "activity": "writing"},
    }
    return run


def _others(now: datetime) -> list[FakeRun]:
    def run(number: int, minutes: float, *, agent: str = "space_novelist", turn: int = 2) -> FakeRun:
        made = FakeRun(_number(number), agent, created=now - timedelta(minutes=minutes)).note("run.queued")
        made.fields["turn"] = turn
        return made

    queued = run(2, 0.2, turn=0)
    queued.status = "queued"
    queued.fields["progress"] = {"characters": 0, "items": 0, "activity": "waiting"}
    tools = run(3, 1.9, turn=1).note("run.in_progress", 1)
    tools.tool("research_space_facts", "{}", "", seconds=10)
    tools.calls.append(tools.calls[0] | {"call_id": "call_2", "completed_at": None})
    tools.fields["progress"] = {"characters": 0, "items": 2, "activity": "running research_space_facts"}
    failed = run(6, 47, agent="market_analyst", turn=1)
    failed.end(
        "failed", 21, error={"code": "rate_limit_exceeded", "message": "The provider is over its quota."}
    )
    cut = run(9, 260, turn=8).tool("research_space_facts", "{}", "", seconds=10)
    cut.end("incomplete", 900, incomplete_details={"reason": "max_turns"})
    return [
        queued,
        tools,
        run(4, 8, agent="market_analyst", turn=1).end(later=42),
        run(5, 31).tool("generate_character_profiles", "{}", "").end(later=390),
        failed,
        run(7, 95, turn=3).tool("research_space_facts", "{}", "").end("cancelled", 133),
        run(8, 180, agent="market_analyst", turn=1).end(later=38),
        cut,
        run(10, 1500).tool("research_space_facts", "{}", "").end("expired", 1800),
        run(11, 1620, agent="market_analyst", turn=1).end(later=51),
    ]


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with FakeApi() as api, chromium() as browser:
        api.add(*scene(datetime.now(UTC)))
        for name, shape in SHAPES.items():
            _draw(browser, api, name, shape)


def _draw(browser: Browser, api: FakeApi, name: str, shape: dict[str, Any]) -> None:
    page = browser.new_page(**shape, reduced_motion="reduce")
    page.goto(f"{api.origin}/api/dashboard")
    enter_key(page, KEY)
    page.get_by_role("row").nth(3).wait_for()
    page.mouse.move(0, 0)  # at the place of the former dialog, the mouse would highlight a row
    page.screenshot(path=FOLDER / f"list-{name}.png")
    page.get_by_role("link", name="space_novelist").nth(1).click()
    page.get_by_text("Ravi Castellanos had stopped").wait_for()
    page.mouse.move(0, 0)
    page.screenshot(path=FOLDER / f"run-{name}.png")
    page.close()


if __name__ == "__main__":
    main()
