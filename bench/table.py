"""The measurements as text that a person reads."""

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version

from bench.measure import Measurement, Scenario
from bench.scenarios import Section

SHOWN_VERSIONS = ("aiohttp", "azure-data-tables", "openai", "agent-framework-core", "agent-framework-openai")
_MIB = 1024 * 1024


def heading(now: datetime, repeats: int) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in SHOWN_VERSIONS)
    return (
        f"{now.astimezone(UTC):%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}, {_processor()}\n"
        f"{versions}\n"
        f"Each figure is the median of {repeats}, each in a fresh process. CPU is user and system time of the\n"
        "client alone. `X = 1` compares what one core does in a second; X stands for the cheapest of its rows."
    )


def section_text(section: Section, results: Mapping[str, Measurement]) -> str:
    """Return a table of the scenarios in `results`, which is keyed by scenario name."""
    titles = [f"CPU a {section.unit}", f"{section.unit}s/s a core", "wall", "peak memory"]
    titles += [f"{group} = 1" for group in section.references]
    rows = [["", *titles]]
    best = {group: _cheapest(section.scenarios, results, group) for group in section.references}
    for scenario in section.scenarios:
        measured = results[scenario.name]
        each = measured.cpu_seconds_each
        ratios = [f"{reference / each:.2f}" for reference in best.values()]
        rows.append([scenario.name, _duration(each), f"{1 / each:,.0f}", *_totals(measured), *ratios])
    return f"{section.title}\n{_aligned(rows)}"


def _totals(measured: Measurement) -> list[str]:
    wall = f"{measured.wall_seconds:.1f} s for {measured.count:,}"
    return [wall, f"{measured.peak_bytes / _MIB:.0f} MiB"]


def _cheapest(scenarios: Sequence[Scenario], results: Mapping[str, Measurement], group: str) -> float:
    return min(results[each.name].cpu_seconds_each for each in scenarios if each.group == group)


def _duration(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f} us" if seconds < 0.001 else f"{seconds * 1e3:,.2f} ms"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join([row[0].ljust(widths[0]), *(map(str.rjust, row[1:], widths[1:]))]).rstrip() for row in rows
    )
    return "\n".join(f"  {line}" for line in lines)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123 - a device, not a path of ours
            models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        return platform.machine()
    return f"{len(models)} x {models[0]}" if models else platform.machine()
