"""How long functions may last: the setting of the host, and everything that follows it."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from shared.adapters.agents.discover import InvalidAgents
from shared.adapters.agents.running import InstalledAgents
from shared.adapters.agents.threads import PATIENCE
from shared.adapters.agents.timeouts import SAVING, longest_tool
from shared.agent import MAX_TIMEOUT, Agent, tool
from shared.app import Baton
from shared.core.invocation import END_MARGIN, FUNCTION_TIMEOUT
from shared.core.run import Step
from shared.errors import InvalidSettings
from shared.function_timeout import NAME, parse_function_timeout, time_span
from shared.settings import load
from shared.steps.tick import tick
from shared.usecases.delete import delete_run
from tests.support.fakes import asks
from tests.support.world import CALLER, World

ROOT = Path(__file__).parents[2]
GOOD = {"AzureWebJobsStorage": "UseDevelopmentStorage=true", "OPENAI_API_KEY": "k"}
MINUTE = timedelta(minutes=1)


def test_the_default_is_that_of_host_json():
    assert parse_function_timeout(json.loads((ROOT / "host.json").read_text())["functionTimeout"]) == (
        load(GOOD).function_timeout
    )
    assert load(GOOD).function_timeout == FUNCTION_TIMEOUT == World().context.__class__.function_timeout


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("00:10:00", 10 * MINUTE),
        (" 0:02:00 ", 2 * MINUTE),
        ("00:02:01", 2 * MINUTE + timedelta(seconds=1)),
        ("23:59:59", timedelta(hours=23, minutes=59, seconds=59)),
        ("1.02:03:04", timedelta(days=1, hours=2, minutes=3, seconds=4)),
        ("7.00:00:00", timedelta(days=7)),
    ],
)
def test_the_override_of_the_host_is_read(text, expected):
    assert load(GOOD | {NAME: text}).function_timeout == expected
    assert parse_function_timeout(time_span(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "-1", "10", "00:10", "00:01:59", "00:00:00", "7.00:00:01", "24:00:00", "00:60:00", "00:10:60", "0:1:0", "-00:10:00",
        "00:10:00.5", "PT10M", "10 minutes", "00:10:00\n00:10:00", "\u0660\u0660:10:00", "99999.00:00:00", "1:00:10:00",
    ],
)  # fmt: skip
def test_any_other_override_is_refused_by_name(text):
    with pytest.raises(InvalidSettings) as refusal:
        load(GOOD | {NAME: text})
    [fault] = refusal.value.faults
    assert fault.startswith(f"{NAME} must be a time")


def test_the_app_gives_its_time_out_to_every_step():
    settings = load(GOOD | {NAME: "00:10:00"})
    assert Baton(settings, InstalledAgents({}, {})).context.function_timeout == 10 * MINUTE


def test_letter_case_of_the_override_does_not_count_as_to_the_host():
    other = NAME.replace("functionTimeout", "FunctionTimeout")
    assert load(GOOD | {other: "00:10:00"}).function_timeout == 10 * MINUTE
    assert load(GOOD | {other: "00:10:00", NAME: "00:10:00"}).function_timeout == 10 * MINUTE
    with pytest.raises(InvalidSettings, match="several times"):
        load(GOOD | {other: "00:10:00", NAME: "00:20:00"})


def test_a_create_has_to_end_a_minute_before_the_function():
    short = GOOD | {NAME: "00:03:00"}
    assert load(short | {"PROVIDER_CREATE_TIMEOUT_SECONDS": "120"})
    with pytest.raises(
        InvalidSettings, match="PROVIDER_CREATE_TIMEOUT_SECONDS must be at least a minute less"
    ):
        load(short | {"PROVIDER_CREATE_TIMEOUT_SECONDS": "121"})


def agents(*timeouts: timedelta) -> InstalledAgents:
    def made(number: int, timeout: timedelta) -> Agent:
        def slow() -> str:
            """Take long."""
            return ""

        slow.__name__ = f"slow_{number}"
        return Agent(name=f"a{number}", model="m", instructions="i", tools=[tool(timeout=timeout)(slow)])

    return InstalledAgents({f"a{number}": made(number, each) for number, each in enumerate(timeouts)}, {})


def test_the_longest_tool_of_an_agent_fits_into_the_default_and_not_much_more_would():
    longest = longest_tool(FUNCTION_TIMEOUT, load(GOOD).provider.create_timeout)
    assert longest + PATIENCE + load(GOOD).provider.create_timeout + SAVING + END_MARGIN == FUNCTION_TIMEOUT
    assert MAX_TIMEOUT <= longest < MAX_TIMEOUT + MINUTE
    agents(MAX_TIMEOUT).check(longest)


def test_every_tool_that_may_outlast_its_function_is_named_with_what_to_do():
    longest = longest_tool(10 * MINUTE, MINUTE)
    assert longest == timedelta(minutes=7, seconds=10)
    agents(longest, MINUTE).check(longest)
    with pytest.raises(InvalidAgents) as refusal:
        agents(longest + timedelta(seconds=1), MINUTE, MAX_TIMEOUT).check(longest)
    assert ["slow_0" in fault or "slow_2" in fault for fault in refusal.value.faults] == [True, True]
    for fault in refusal.value.faults:
        assert "test_invocation.py, line " in fault
        assert "0:07:10" in fault
        assert NAME in fault
        assert "PROVIDER_CREATE_TIMEOUT_SECONDS" in fault
    with pytest.raises(InvalidAgents, match="leaves no time for it"):
        agents(MINUTE).check(longest_tool(2 * MINUTE, MINUTE))


@pytest.mark.parametrize("lasts", [2 * MINUTE, 10 * MINUTE, FUNCTION_TIMEOUT])
async def test_a_deleted_run_is_purged_again_when_no_function_can_still_run(lasts):
    world = World(function_timeout=lasts)
    run = await world.start()
    await delete_run(world.context, CALLER, run.id)
    deleted = (await world.run(run.id)).completed_at or (await world.run(run.id)).updated_at
    await world.drive()
    assert (await world.run(run.id)).step is Step.PURGE
    assert (await world.run(run.id)).due == deleted + lasts


class Slow:
    """A provider of which each answer takes a while of the clock."""

    def __init__(self, world: World, takes: timedelta) -> None:
        self._world, self.takes, self._read = world, takes, world.provider.read
        self.reads = 0

    async def read(self, response_id: str, **options: object) -> object:
        self.reads += 1
        self._world.clock.pass_(self.takes.total_seconds())
        return await self._read(response_id, **options)


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level("INFO", "baton"):
        yield caplog


async def test_a_tick_begins_no_poll_in_the_last_minute_of_its_function(quiet):
    world = World(function_timeout=3 * MINUTE)
    runs = [await world.start() for _ in range(10)]
    world.clock.pass_(5)
    slow = Slow(world, timedelta(seconds=30))
    world.provider.read = slow.read
    await tick(world.context, 1)
    assert slow.reads == 4
    [cut] = [line for line in quiet.messages if line.startswith("tick.cut ")]
    assert json.loads(cut.partition(" ")[2]) == {"polls_left": 6}
    [completed] = [line for line in quiet.messages if line.startswith("tick.completed ")]
    assert json.loads(completed.partition(" ")[2])["polls"] == 4
    # Their next poll points are later than this tick began.
    slow.takes, slow.reads = timedelta(), 0
    world.clock.pass_(60)
    await tick(world.context, 1)
    assert slow.reads == len(runs)


async def test_a_tick_that_is_cut_returns_its_messages(quiet):
    world = World(function_timeout=3 * MINUTE)
    for _ in range(3):
        run = await world.start()
        response_id = run.continuation.response_id
        world.provider.state[response_id] = asks(response_id, "look_up")
    world.clock.pass_(5)
    world.provider.read = Slow(world, timedelta(seconds=70)).read
    assert len(await tick(world.context, 1)) == 2
