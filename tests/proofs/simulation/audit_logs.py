"""Checks the stored logs of all runs in the end."""

from collections.abc import Iterable, Mapping
from typing import Any

from shared.core.calls import CallStatus
from shared.core.run import Run
from shared.ports.tables import Row
from shared.store.rows import unpack
from tests.proofs.simulation.evidence import Evidence

# For how many events of a Responses API stream an entry stands; entries of other types stand for none.
_STREAM_EVENTS = {
    "run.queued": 2, "run.in_progress": 1, "item.started": 1, "item.completed": 1, "part.started": 1,
    "part.completed": 2, "text.delta": 1, "commentary.delta": 1, "refusal": 1, "run.completed": 1, "run.failed": 1, "run.cancelled": 1,
    "run.incomplete": 1, "run.expired": 1,
}  # fmt: skip


def audit_logs(evidence: Evidence, partitions: Iterable[Mapping[str, Row]]) -> None:
    """A log has no gap, counts its stream events, and ends each item, part and tool call once."""
    found: dict[str, list[Row]] = {}
    for rows in partitions:
        for key in sorted(key for key in rows if key.startswith("event|")):
            found.setdefault(key.split("|")[1], []).append(rows[key])
    for run_id, rows_of_run in found.items():
        run = evidence.runs[run_id].run
        entries = _entries(evidence, run, rows_of_run)
        _tool_calls(evidence, run, entries)
        _waits(evidence, run, entries)
        _items(evidence, run, entries)


def _entries(evidence: Evidence, run: Run, rows: Iterable[Row]) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    events = 0
    for row in rows:
        added = unpack(row.values["entries"])
        dense = row.values["first"] == len(entries) + 1
        evidence.require(dense, 4, run.id, f"its log has a gap before {row.key}")
        evidence.require(
            row.values["first_stream_event"] == events, 4, run.id, f"{row.key} miscounts its stream"
        )
        entries += added
        named = int(row.key.rpartition("|")[2]) == len(entries)
        evidence.require(named, 4, run.id, f"{row.key} is not named after its last entry")
        events += sum(_STREAM_EVENTS.get(entry["type"], 0) for entry in added)
    evidence.require(len(entries) == run.entries, 4, run.id, "the end of its log is missing")
    return entries


def _tool_calls(evidence: Evidence, run: Run, entries: Iterable[dict[str, Any]]) -> None:
    ended = [entry["call_id"] for entry in entries if entry["type"] == "tool.completed"]
    evidence.require(len(ended) == len(set(ended)), 3, run.id, "a tool call ended twice")


def _waits(evidence: Evidence, run: Run, entries: Iterable[dict[str, Any]]) -> None:
    """Each wait begins once, and is answered at most once, as the call is stored."""
    waiting, answered = list[tuple[int, str]](), dict[tuple[int, str], str]()
    for entry in entries:
        match entry["type"]:
            case "call.waiting":
                waiting.append((entry["turn"], entry["call_id"]))
            case "call.answered":
                call = entry["turn"], entry["call_id"]
                evidence.require(
                    call in waiting and call not in answered,
                    11,
                    run.id,
                    f"{call} is answered twice in its log",
                )
                answered[call] = entry["answer"]
    called = {(call.turn, call.call_id): call for call in run.calls if call.wait}
    right = sorted(waiting) == sorted(called)
    evidence.require(right, 4, run.id, f"its log lets {waiting} wait, and its calls are {sorted(called)}")
    for place, call in called.items():
        late = call.status is CallStatus.TIMED_OUT
        right = late == (answered.get(place) == "timed_out") and (
            place in answered or call.status in {CallStatus.WAITING, CallStatus.CANCELLED}
        )
        evidence.require(right, 4, run.id, f"{place} is {call.status}, logged as {answered.get(place)}")


def _items(evidence: Evidence, run: Run, entries: Iterable[dict[str, Any]]) -> None:
    """Each item and part starts and ends once, in order, and text is in an open part."""
    started = 0
    # By item, the number of its open part, or None.
    open_items: dict[int, int | None] = {}
    for entry in entries:
        item, part = entry.get("item"), entry.get("part")
        match entry["type"]:
            case "item.started":
                right, started = item == started, started + 1
                open_items[item] = None
            case "item.completed":
                right = open_items.pop(item, 0) is None
            case "part.started":
                right = open_items.get(item, 0) is None
                open_items[item] = part
            case "refusal":
                # It comes with the finished response, perhaps after the stream has ended its part.
                right = part is not None and item is not None and item < started
            case "part.completed" | "text.delta" | "commentary.delta":
                right = part is not None and open_items.get(item) == part
                if entry["type"] == "part.completed":
                    open_items[item] = None
            case _:
                continue
        evidence.require(right, 4, run.id, f"{entry} does not fit into its log")
    evidence.require(
        not (run.terminal and open_items), 4, run.id, f"its log leaves items {list(open_items)} open"
    )
