"""Faults that a test adds: which requests they apply to, and how they change the reply."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from email.utils import formatdate
from typing import Any

from dev.provider.wire import ApiError, Json, Reply, encode

OPERATIONS = ("create", "retrieve", "cancel", "delete", "input_items", "chat", "any")
KINDS = (
    "status",
    "slow",
    "stall",
    "cut",
    "lost_reply",
    "forget",
    "junk",
    "override",
    "flip",
    "azure_chaining_400",
    "stream_refused",
    "stream_ignored",
    "stream_cut",
    "stream_stalls",
    "stream_doubled",
    "stream_shuffled",
    "stream_gap",
    "chat_echo",
    "chat_error",
    "chat_comments",
    "chat_bytes",
    "chat_no_done",
    "chat_no_end",
    "chat_no_finish",
    "chat_no_usage",
)
INSIDES = ("event", "character", "choices")
_RESPONSES = frozenset({"create", "retrieve"})
# The operations that these faults apply to; those of kind "chat_..." apply to "chat".
_STREAM_OPERATIONS = {
    "stream_refused": frozenset({"retrieve"}),
    "stream_ignored": frozenset({"create", "chat"}),
    "stream_doubled": _RESPONSES,
    "stream_shuffled": _RESPONSES,
    "stream_gap": _RESPONSES,
}
_ERRORS: dict[int, tuple[str, str | None, str]] = {
    401: ("Incorrect API key provided.", "invalid_api_key", "invalid_request_error"),
    403: ("You do not have access to this resource.", None, "permission_error"),
    404: ("Response not found.", None, "invalid_request_error"),
    429: ("Rate limit reached for requests. Please try again later.", "rate_limit_exceeded", "requests"),
    500: ("The server had an error while processing your request.", None, "server_error"),
    503: ("The engine is currently overloaded, please try again later.", None, "service_unavailable_error"),
}
JUNK: dict[str, tuple[str, bytes]] = {
    "html": ("text/html", b"<!DOCTYPE html><html><body><h1>Bad gateway</h1></body></html>"),
    "list": ("application/json", b"[1,2,3]"),
    "string": ("application/json", b'"hello"'),
    "null": ("application/json", b"null"),
    "truncated": ("application/json", b'{"id":"resp_'),
    "empty": ("application/json", b""),
}
JUNK_EDITS: dict[str, Json] = {
    "unknown_status": {"status": "contemplating"},
    "unknown_item": {"output": [{"type": "quantum_call", "id": "qc_1", "status": "completed", "x": [1]}]},
    "null_output": {"output": None},
    "text_output": {"output": "not a list"},
}
JUNK_REMOVED = {"no_output": "output", "no_status": "status", "no_id": "id"}


@dataclass
class Fault:
    """Applies to `times` matching requests (0: all) from the `nth` on."""

    kind: str
    operation: str = "any"
    response_id: str | None = None
    contains: str | None = None
    """Only runs whose user input contains this text."""
    nth: int = 1
    times: int = 1
    status: int = 500
    retry_after: str | int | float | None = None
    """For `status`: the header, sent unchanged; seconds after `date:` become an HTTP date."""
    executed: bool = False
    """For `status`: whether the request is carried out before the error is returned."""
    seconds: float = 1.0
    junk: str = "html"
    set: Json = field(default_factory=dict)
    to: str = "completed"
    after: int = 0
    """For streams: how many events are sent unchanged first."""
    inside: str = "event"
    """For `stream_cut`: in the middle of an event, or inside the next UTF-8 sequence. For `chat_error`: in the event
    itself, or in its choices."""
    bytes: int | None = None
    """For `stream_cut` of a chat completion: how many bytes of the body are sent, in the place of `after`."""
    id: int = 0
    seen: int = 0
    hits: int = 0

    def take(self) -> bool:
        """Count one matching request; return whether the fault applies to it."""
        self.seen += 1
        if self.seen < self.nth or self.spent:
            return False
        self.hits += 1
        return True

    @property
    def spent(self) -> bool:
        return self.times > 0 and self.hits >= self.times


@dataclass(frozen=True)
class RequestFacts:
    """What decides which faults match; `chained` means after a previous_response_id."""

    operation: str
    response_id: str | None
    conversation: Sequence[Json] = ()
    chained: bool = False
    streamed: bool = False
    """Whether the client asks for server-sent events."""

    def mentions(self, text: str) -> bool:
        return any(
            text in str(item.get("content")) for item in self.conversation if item.get("role") == "user"
        )

    @property
    def sends_outputs(self) -> bool:
        return bool(self.conversation) and self.conversation[-1].get("type") == "function_call_output"


@dataclass
class FaultBook:
    faults: list[Fault] = field(default_factory=list)
    _last_id: int = 0

    def add(self, value: Any) -> Fault:
        fault = parse_fault(value)
        self._last_id += 1
        fault.id = self._last_id
        self.faults.append(fault)
        return fault

    def take(self, request: RequestFacts) -> Fault | None:
        """Return the first fault that applies to this request."""
        for fault in self.faults:
            if _matches(fault, request) and fault.take():
                return fault
        return None


def parse_fault(value: Any) -> Fault:
    if not isinstance(value, dict):
        raise ApiError(400, "A fault is a JSON object.")
    known = {one.name for one in fields(Fault)} - {"id", "seen", "hits"}
    if unknown := sorted(set(value) - known):
        raise ApiError(400, f"Unknown key {unknown[0]!r} in a fault; it takes {', '.join(sorted(known))}.")
    if value.get("kind") not in KINDS:
        raise ApiError(400, f"A fault's kind is one of {', '.join(KINDS)}.", "kind")
    if value.get("operation", "any") not in OPERATIONS:
        raise ApiError(400, f"A fault's operation is one of {', '.join(OPERATIONS)}.", "operation")
    junk = {*JUNK, *JUNK_EDITS, *JUNK_REMOVED}
    if value.get("junk", "html") not in junk:
        raise ApiError(400, f"A fault's junk is one of {', '.join(sorted(junk))}.", "junk")
    if value.get("inside", "event") not in INSIDES:
        raise ApiError(400, f"A stream is cut inside one of {', '.join(INSIDES)}.", "inside")
    return Fault(**value)


def _matches(fault: Fault, request: RequestFacts) -> bool:
    if fault.operation not in {"any", request.operation}:
        return False
    if fault.response_id is not None and fault.response_id != request.response_id:
        return False
    if fault.kind == "azure_chaining_400" and not (
        request.operation == "create" and request.chained and request.sends_outputs
    ):
        return False
    if fault.kind.startswith("stream_") and not request.streamed:
        return False
    if request.operation not in _STREAM_OPERATIONS.get(fault.kind, {request.operation}):
        return False
    if fault.kind.startswith("chat_") and request.operation != "chat":
        return False
    return fault.contains is None or request.mentions(fault.contains)


def error_reply(fault: Fault) -> Reply:
    message, code, kind = _ERRORS.get(fault.status, (f"Error {fault.status}.", None, "server_error"))
    headers = {} if fault.retry_after is None else {"retry-after": _retry_after(fault.retry_after)}
    return ApiError(fault.status, message, code=code, type=kind, headers=headers).reply()


def _retry_after(value: str | float) -> str:
    text = str(value)
    if text.startswith("date:"):
        return formatdate(time.time() + float(text.removeprefix("date:")), usegmt=True)
    return text


def chaining_refusal(items: Sequence[Json]) -> ApiError:
    """The reply that Azure has sent to tool outputs after a completed background response."""
    call_id = next(item["call_id"] for item in items if item.get("type") == "function_call_output")
    return ApiError(400, f"No tool call found for function call output with call_id {call_id}.", "input")


def stream_refusal() -> ApiError:
    """OpenAI's reply to a client that resumes a stream too late."""
    return ApiError(
        400, "This response can no longer be streamed because it is more than 5 minutes old.", "stream"
    )


def damage(fault: Fault, reply: Reply) -> Reply:
    """Return the reply as a fault of kind `junk` or `override` changes it."""
    if fault.kind == "junk" and fault.junk in JUNK:
        content_type, body = JUNK[fault.junk]
        return Reply(200, body, {"content-type": content_type})
    if reply.status >= 400:
        return reply
    value = reply.json()
    if fault.kind == "override":
        value |= fault.set
    elif fault.junk in JUNK_EDITS:
        value |= JUNK_EDITS[fault.junk]
    else:
        value.pop(JUNK_REMOVED[fault.junk], None)
    return Reply(reply.status, encode(value), reply.headers)
