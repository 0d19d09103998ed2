"""Checks in the end that nothing is left of what was deleted."""

from tests.proofs.simulation.evidence import Evidence
from tests.support.memory_table import MemoryTable


def audit_leftovers(evidence: Evidence, runs: MemoryTable, content: MemoryTable) -> None:
    """No row is left of a deleted run, and nothing is owed to a run that has ended."""
    for there in runs._partitions.values():
        for key, row in there.items():
            kind, _, rest = key.partition("|")
            run_id = str(row.values["run_id"]) if kind == "key" else rest.partition("|")[0]
            if kind == "paused":
                run_id = key.rpartition("|")[2]
            seen = evidence.runs.get(run_id)
            hashed = kind == "key" and bool(row.values["fingerprint"])
            gone = (
                seen is not None
                and seen.deleted
                and (kind in {"pending", "event", "tool", "answer"} or hashed)
            )
            stale = seen is not None and seen.run.terminal and kind in {"pending", "paused"}
            stale = stale or kind == "delivery" or kind.startswith("pending~")
            evidence.require(not (gone or stale), 8, run_id, f"the row {key} is left behind")
    for run_id, there in content._partitions.items():
        seen = evidence.runs.get(run_id)
        if seen and seen.deleted:
            evidence.require(not there, 8, run_id, f"{len(there)} rows of content are left behind")
