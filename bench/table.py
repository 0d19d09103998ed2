"""Formats the measurements as tables."""

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import assert_never

from bench.measure import Measurement
from bench.section import Column, Section
from bench.targets import Target

SHOWN_VERSIONS = ("aiohttp", "azure-data-tables", "openai", "agent-framework-core", "agent-framework-openai")
_MIB = 1024 * 1024


def heading(now: datetime, repeats: int, *further_versions: str) -> str:
    versions = ", ".join([*(f"{name} {version(name)}" for name in SHOWN_VERSIONS), *further_versions])
    return (
        f"{now.astimezone(UTC):%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}, {_processor()}\n"
        f"{versions}\n"
        f"Each figure is the median of {repeats}, each in a new process. CPU is user and system time of the\n"
        "client alone, or of LiteLLM's proxy; memory is that of the same process, in brackets what the measured\n"
        "block added. `X = 1` compares how much work one core does in a second with the row of X that takes the\n"
        "least CPU."
    )


def section_text(section: Section, results: Mapping[str, Measurement]) -> str:
    """Return a table of the section's scenarios; `results` is keyed by scenario name."""
    cheapest = {
        group: min(results[each.name].cpu_seconds_each for each in section.scenarios if each.group == group)
        for group in section.references
    }
    rows: list[dict[str, str]] = []
    for scenario in section.scenarios:
        measured = results[scenario.name]
        cells = {"": scenario.name}
        for column in section.columns:
            cells |= _cells(column, section.unit, measured)
        for group, reference in cheapest.items():
            cells[f"{group} = 1"] = f"{reference / measured.cpu_seconds_each:.2f}"
        rows.append(cells)
    titles = list(dict.fromkeys(title for cells in rows for title in cells))
    table = [titles, *([cells.get(title, "") for title in titles] for cells in rows)]
    return f"{section.title}\n{_aligned(table)}"


def _cells(column: Column, unit: str, measured: Measurement) -> dict[str, str]:
    match column:
        case Column.CPU:
            return {f"CPU a {unit}": _duration(measured.cpu_seconds_each)}
        case Column.RATE:
            return {f"{unit}s/s a core": f"{1 / measured.cpu_seconds_each:,.0f}"}
        case Column.WALL if measured.count == 1:
            return {"wall": _duration(measured.wall_seconds)}
        case Column.WALL:
            return {"wall": f"{measured.wall_seconds:.1f} s for {measured.count:,}"}
        case Column.MEMORY:
            growth = f"(+{measured.peak_growth_bytes / _MIB:.0f})"
            return {"peak memory": f"{measured.peak_bytes / _MIB:.0f} MiB {growth:>5}"}
        case Column.NOTES:
            return {name: _note(note) for name, note in measured.notes.items()}
    assert_never(column)


def _note(note: float) -> str:
    if isinstance(note, bool):
        return "yes" if note else "no"
    return f"{note:,g}"


def targets_text(targets: Sequence[Target]) -> str:
    rows = [[target.text, target.figure, "met" if target.met else "missed"] for target in targets]
    return f"Targets\n{_aligned(rows)}"


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
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(models)} x {models[0]}" if models else platform.machine()
