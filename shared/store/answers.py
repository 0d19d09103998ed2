"""The answers to calls that waited, each in a row beside its run. A wait that ended without an answer has none."""

from dataclasses import dataclass
from datetime import datetime

from shared.core.calls import AnswerType
from shared.core.run import Content
from shared.ports.tables import Row
from shared.store import rows


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswer:
    """Who answered a call, when and how."""

    turn: int
    call_id: str
    type: AnswerType
    at: datetime
    # An owner, and the name of a person for display.
    by: str
    by_name: str = ""
    # Why the call was refused.
    reason: str = ""
    # The arguments that the approver sent instead of the model's, as JSON text.
    changed: Content | None = None
    # The SHA-256 of the text of the arguments that were approved. The call runs with no others.
    approved: str = ""
    # Two answers with the same fingerprint are the same answer.
    fingerprint: str


def answer_row(run_id: str, answer: StoredAnswer) -> Row:
    values = {
        "call_id": answer.call_id,
        "type": answer.type.value,
        "at": answer.at,
        "by": answer.by,
        "by_name": answer.by_name or None,
        "reason": answer.reason or None,
        "changed": rows.content_value(answer.changed) if answer.changed else None,
        "approved": answer.approved or None,
        "fingerprint": answer.fingerprint,
    }
    return Row(rows.answer_key(run_id, answer.turn, answer.call_id), rows.present(values))


@rows.reader
def read_answer(row: Row) -> StoredAnswer:
    """Return the answer of a row. Raises UnreadableRow."""
    values = row.values
    return StoredAnswer(
        turn=int(row.key.split("|")[2]),
        call_id=rows.text(values, "call_id"),
        type=AnswerType(rows.text(values, "type")),
        at=rows.read_time(values, "at"),
        by=rows.text(values, "by"),
        by_name=rows.optional_text(values, "by_name") or "",
        reason=rows.optional_text(values, "reason") or "",
        changed=rows.read_content(values["changed"]) if "changed" in values else None,
        approved=rows.optional_text(values, "approved") or "",
        fingerprint=rows.text(values, "fingerprint"),
    )
