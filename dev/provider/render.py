"""A response as the documented service shows it: every field present, null where it has no value."""

import time
from typing import Any

from dev.provider.engine import public_output
from dev.provider.ledger import TERMINAL, Entry
from dev.provider.wire import Json

# Fields that a response repeats from its request, and their values when the request leaves them out.
_ECHOED: dict[str, Any] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "prompt_cache_retention": None,
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
    "metadata": {},
}


def render(entry: Entry, engine: Json) -> Json:
    """Add the request's fields, and those that the service always shows, to the engine's response."""
    status = engine["status"]
    if status not in TERMINAL:
        status = "queued" if entry.background and time.time() < entry.plan.in_progress_at else "in_progress"
    finished = status in TERMINAL
    request = entry.request
    echoed = {
        name: default if request.get(name) is None else request[name] for name, default in _ECHOED.items()
    }
    reasoning = {"effort": None, "summary": None, **(request.get("reasoning") or {})}
    created = engine.get("created_at", int(entry.plan.created))
    response = {
        "id": entry.id,
        "object": "response",
        "created_at": created,
        "status": status,
        "completed_at": engine.get("completed_at", int(time.time())) if status == "completed" else None,
        "error": engine.get("error"),
        "incomplete_details": engine.get("incomplete_details"),
        "model": request["model"],
        "output": public_output(engine) if finished else [],
        "reasoning": reasoning,
        "usage": engine.get("usage") if finished else None,
        **echoed,
    }
    return flip(entry, response)


def flip(entry: Entry, response: Json) -> Json:
    """Replace the engine's status, after a fault of kind `flip`."""
    if entry.flipped_to is None or entry.flipped_to == response["status"]:
        return response
    flipped = {**response, "status": entry.flipped_to, "error": None, "incomplete_details": None}
    match entry.flipped_to:
        case "completed":
            flipped["output"] = response["output"] or [_late_message(entry)]
            flipped["completed_at"] = int(time.time())
            flipped["usage"] = response["usage"] or _LATE_USAGE
        case "failed":
            flipped["error"] = {"code": "server_error", "message": "The response failed late."}
        case "incomplete":
            flipped["incomplete_details"] = {"reason": "max_output_tokens"}
    return flipped


_LATE_USAGE = {
    "input_tokens": 1,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 1,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 2,
}


def _late_message(entry: Entry) -> Json:
    part = {"type": "output_text", "text": "A late answer.", "annotations": [], "logprobs": []}
    return {
        "id": entry.id.replace("resp_", "msg_", 1),
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }
