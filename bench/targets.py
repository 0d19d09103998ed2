"""The targets for the figures, and whether they are met."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from bench.measure import Measurement
from bench.scenarios import RUNS, SLOW_ANSWER
from bench.section import Section

TIMES_NAIVE = 6
TIMES_TYPED = 3
TIMES_PROXY = 3
TICK_INTERVAL = timedelta(seconds=5)
"""The default of POLL_SCHEDULE."""
LEFT_OUT_OF_STATUS = ("openai", "azure.identity", "azure.storage.queue")

Results = Mapping[str, Mapping[str, Measurement]]
"""By section and scenario."""


@dataclass(frozen=True, slots=True)
class Target:
    text: str
    figure: str
    met: bool


def targets(sections: Sequence[Section], results: Results) -> Iterator[Target]:
    """Compare the figures with the targets: always our highest figure with the lowest of the others."""
    for section in sections:
        measured = _by_group(section, results[section.key])
        match section.key:
            case "poll":
                times = _lowest(measured["naive"]) / _highest(measured["baton"])
                text = f"an unchanged poll takes at most 1/{TIMES_NAIVE} of the naive loop's CPU"
                yield Target(text, f"1/{times:.1f}", times >= TIMES_NAIVE)
            case "slices":
                times = _lowest(measured["typed, many"]) / _highest(measured["baton, many"])
                text = (
                    f"a long slice, stored, takes at most 1/{TIMES_TYPED} of the CPU of openai's typed events"
                )
                yield Target(text, f"1/{times:.1f}", times >= TIMES_TYPED)
            case "generate" | "paced":
                times = _lowest(measured["litellm"]) / _highest(measured["baton"])
                way = "at once" if section.key == "generate" else "one by one"
                text = f"a delta that came {way}, stored, takes at most 1/{TIMES_PROXY} of the CPU of LiteLLM's proxy"
                yield Target(text, f"1/{times:.1f}", times >= TIMES_PROXY)
            case "run":
                part = _highest(measured["baton"]) / _lowest(measured["agent-framework"])
                text = "a complete run takes no more CPU than agent-framework's loop"
                yield Target(text, f"{part:.0%} of it", part <= 1)
            case "slow":
                [tick] = measured["baton"]
                text = f"a tick over {RUNS:,} runs ends within its interval of {TICK_INTERVAL.seconds} s"
                serially = RUNS * SLOW_ANSWER.total_seconds()
                figure = f"{tick.wall_seconds:.1f} s; one after another: {serially:.0f} s"
                yield Target(text, figure, tick.wall_seconds < TICK_INTERVAL.total_seconds())
            case "cold":
                status = measured["baton"][0]
                loaded = [module for module in LEFT_OUT_OF_STATUS if status.notes[module]]
                text = f"a status read imports neither {' nor '.join(LEFT_OUT_OF_STATUS)}"
                yield Target(text, f"imports {' and '.join(loaded) or 'neither'}", not loaded)


def _by_group(section: Section, results: Mapping[str, Measurement]) -> dict[str, list[Measurement]]:
    groups: dict[str, list[Measurement]] = {}
    for scenario in section.scenarios:
        groups.setdefault(scenario.group, []).append(results[scenario.name])
    return groups


def _lowest(measurements: Sequence[Measurement]) -> float:
    return min(each.cpu_seconds_each for each in measurements)


def _highest(measurements: Sequence[Measurement]) -> float:
    return max(each.cpu_seconds_each for each in measurements)
