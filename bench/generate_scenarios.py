"""The scenarios that stream chat completions: the generate step, and what it is compared with."""

from datetime import timedelta

from bench.measure import Scenario
from bench.section import Column, Section

GAP = timedelta(milliseconds=10)
"""Between two deltas that come one by one."""
WRITING_GAP = timedelta(milliseconds=20)
"""Between two deltas of a model that writes 50 a second."""
DELTAS = 5_000
"""At once: more than CHECKPOINT_CHARACTERS."""
PACED_DELTAS = 1_000
SHORT_TURN = 2_000
TURN_WITH_CHECKPOINT = 4_000
HELD_SECONDS = 10
SIDE_BY_SIDE = 16
"""Of the 64 messages of a queue that one instance may have at a time, by host.json."""

_PROXY = "bench.polling_proxy:"
_FLOOR, _SDK = "bench.floor:chats", "bench.naive:chats"
_BATON, _LITELLM = "bench.generate:stored_streams", f"{_PROXY}stored_streams"


def sections(share: int) -> tuple[Section, ...]:
    return (
        _streams("generate", f"{DELTAS:,} deltas a stream, all at once", DELTAS, timedelta(), 10 // share),
        _streams("paced", f"{PACED_DELTAS:,} deltas a stream, 10 ms apart", PACED_DELTAS, GAP, 4),
        _held(),
    )


def uses_proxy(section: Section) -> bool:
    return any(scenario.target.startswith(_PROXY) for scenario in section.scenarios)


def _streams(key: str, title: str, deltas: int, gap: timedelta, streams: int) -> Section:
    def scenario(name: str, group: str, target: str, *, storage: bool = False) -> Scenario:
        return Scenario(
            name=name,
            group=group,
            target=target,
            options={"streams": streams, "events": deltas, "in_flight": 4},
            provider=True,
            storage=storage,
            events=deltas,
            event_gap=gap,
        )

    return Section(
        key=key,
        title=f"Streams of chat completions: {title}, 4 at a time",
        unit="1,000 deltas",
        references=("baton",),
        columns=(Column.CPU, Column.WALL, Column.MEMORY),
        scenarios=(
            scenario("floor: aiohttp and json.loads, nothing stored", "floor", _FLOOR),
            scenario("openai's chunks, nothing stored", "sdk", _SDK),
            scenario("Baton, all of it stored", "baton", _BATON, storage=True),
            scenario("LiteLLM's proxy, polling mode, in Redis", "litellm", _LITELLM),
        ),
    )


def _held() -> Section:
    deltas = _deltas(HELD_SECONDS)
    return Section(
        key="held",
        title=f"Holding streams for {HELD_SECONDS} s, 50 deltas a second in each",
        unit="second of a stream",
        columns=(Column.CPU, Column.MEMORY),
        scenarios=tuple(
            Scenario(
                name=f"Baton, {streams} at a time",
                group="baton",
                target="bench.generate:held_streams",
                options={"streams": streams, "events": deltas, "seconds": HELD_SECONDS},
                provider=True,
                storage=True,
                events=deltas,
                event_gap=WRITING_GAP,
            )
            for streams in (1, SIDE_BY_SIDE)
        ),
    )


def _deltas(seconds: int) -> int:
    return int(timedelta(seconds=seconds) / WRITING_GAP)


def operations(share: int) -> tuple[Scenario, ...]:
    """Return the turns of the counted section. A `share` of 5 makes the longest of them a fifth as long."""
    seconds = 60 // share
    minute = f"a turn of {seconds} s, 50 deltas a second"

    def baton(name: str, deltas: int, gap: timedelta = timedelta()) -> Scenario:
        return Scenario(
            name=f"Baton: {name}",
            group="baton",
            target="bench.generate:turn_operations",
            options={"events": deltas},
            provider=True,
            storage=True,
            events=deltas,
            event_gap=gap,
        )

    def litellm(name: str, deltas: int, gap: timedelta = timedelta()) -> Scenario:
        return Scenario(
            name=f"LiteLLM's proxy: {name}",
            group="litellm",
            target=f"{_PROXY}turn_operations",
            options={"events": deltas, "warm_up": not gap},
            provider=True,
            events=deltas,
            event_gap=gap,
        )

    return (
        baton("a generated turn, 8 KB at once", SHORT_TURN),
        baton("a generated turn with a checkpoint", TURN_WITH_CHECKPOINT),
        baton(minute, _deltas(seconds), WRITING_GAP),
        litellm("a turn, 8 KB at once", SHORT_TURN),
        litellm(minute, _deltas(seconds), WRITING_GAP),
    )
