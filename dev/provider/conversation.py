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


def asked_id(item: Json) -> str | None:
    """Return the id that the answer to this item has to name. None when it needs no answer."""
    match item.get("type"):
        case "function_call":
            return str(item.get("call_id", ""))
        case "mcp_approval_request":
            return str(item.get("id", ""))
    return None


def answered_id(item: Json) -> str | None:
    """Return the id of the call, or of the request for approval, that this item answers. None when it answers none."""
    match item.get("type"):
        case "function_call_output":
            return str(item.get("call_id", ""))
        case "mcp_approval_response":
            return str(item.get("approval_request_id", ""))
    return None


def check_conversation(before: Sequence[Json], new: Sequence[Json]) -> None:
    """Raise ApiError where a call has no output, a request for approval no answer, or either of these no question."""
    open_calls: dict[str, bool] = {}
    open_requests: dict[str, bool] = {}
    for item in (*before, *new):
        asked, answered = asked_id(item), answered_id(item)
        approval = str(item.get("type")).startswith("mcp_approval_")
        found = open_requests if approval else open_calls
        if asked is not None:
            found[asked] = True
        elif answered is not None:
            if answered not in found:
                raise ApiError(400, _unknown(answered, approval=approval), "input")
            if approval and not found[answered]:
                raise ApiError(400, f"MCP approval request {answered} has more than one approval.", "input")
            found[answered] = False
    for call_id, unanswered in open_calls.items():
        if unanswered:
            raise ApiError(400, f"No tool output found for function call {call_id}.", "input")
    if missing := [request_id for request_id, unanswered in open_requests.items() if unanswered]:
        message = f"MCP approval requests do not have an approval: {', '.join(missing)}"
        raise ApiError(400, message, "input")


def _unknown(answered: str, *, approval: bool) -> str:
    if approval:
        return f"No MCP approval request found for approval response with approval_request_id {answered}."
    return f"No tool call found for function call output with call_id {answered}."
