"""The input items of a request, and whether calls and outputs match along the conversation."""

from collections.abc import Sequence
from typing import Any

from dev.provider.checks import check_type
from dev.provider.wire import ApiError, Json


def input_items(value: Any) -> list[Json]:
    """Return a request's input as items; a message may leave out its type. Raises ApiError."""
    if isinstance(value, str):
        return [{"type": "message", "role": "user", "content": value}]
    check_type("input", value, ("array",), nullable=False)
    items = []
    for index, item in enumerate(value):
        check_type(f"input[{index}]", item, ("object",), nullable=False)
        items.append({"type": "message", **item} if "role" in item else item)
    return items


def check_conversation(before: Sequence[Json], new: Sequence[Json]) -> None:
    """Raise ApiError where a function call has no output, or an output no call."""
    calls: dict[str, bool] = {}
    for item in (*before, *new):
        kind, call_id = item.get("type"), item.get("call_id", "")
        if kind == "function_call":
            calls[call_id] = False
        elif kind == "function_call_output":
            if call_id not in calls:
                message = f"No tool call found for function call output with call_id {call_id}."
                raise ApiError(400, message, "input")
            calls[call_id] = True
    for call_id, answered in calls.items():
        if not answered:
            raise ApiError(400, f"No tool output found for function call {call_id}.", "input")
