"""The reply to a create that was finished already, as a text that is kept until the response was read."""

import json
from typing import Any

from shared.core import transcript
from shared.core.response import ResponseStatus, RunError, Snapshot, Usage

_MAY_CALL = frozenset({ResponseStatus.COMPLETED, ResponseStatus.INCOMPLETE})


def kept_text(snapshot: Snapshot) -> str:
    """Return the text of a finished response. Its calls are found again in its output."""
    error = snapshot.error
    return json.dumps(
        {
            "response_id": snapshot.response_id,
            "status": snapshot.status.value,
            "output": snapshot.output,
            "usage": {name: getattr(snapshot.usage, name) for name in Usage.__slots__},
            "error": [error.code, error.message, error.provider_code] if error else None,
            "incomplete_reason": snapshot.incomplete_reason,
        },
        ensure_ascii=False,
    )


def kept_snapshot(text: str) -> Snapshot | None:
    """Return the finished response of such a text. None when the text is broken."""
    try:
        return _snapshot(json.loads(text))
    except (KeyError, TypeError, ValueError, RecursionError):
        return None


def _snapshot(stored: dict[str, Any]) -> Snapshot:
    status, output = ResponseStatus(stored["status"]), stored["output"]
    items = transcript.parse(output)
    return Snapshot(
        response_id=str(stored["response_id"]),
        status=status,
        output=output,
        calls=transcript.calls_among(items) if status in _MAY_CALL else (),
        unanswerable=status in _MAY_CALL and transcript.ends_unanswered(items),
        usage=Usage(**{name: int(stored["usage"][name]) for name in Usage.__slots__}),
        error=RunError(*stored["error"]) if stored["error"] else None,
        incomplete_reason=stored["incomplete_reason"],
    )
