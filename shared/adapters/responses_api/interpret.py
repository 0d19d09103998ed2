"""Turns a provider's answers over HTTP into the replies of the port. Pure. One method for each request."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from shared.adapters.http.answer import MAX_REPLY_BYTES, Answer, NoAnswer
from shared.adapters.http.retry_after import retry_after
from shared.adapters.responses_api.decode import Unreadable, decode, read_error, read_json, read_response
from shared.adapters.responses_api.stream import sequence_of, stream_event
from shared.core.response import (
    Absent,
    CancelReply,
    ChainBroken,
    CreateReply,
    DeleteReply,
    NoStream,
    NotNow,
    ReadReply,
    Refused,
    ResponseStatus,
    RunError,
    SliceReply,
    Snapshot,
)
from shared.core.slices import StreamEvent, gather
from shared.ports.providers import ResponseRequest

# Messages of OpenAI and Azure when they cannot continue a response. Azure sends the last two also without a cause.
_CHAIN_FAULT = re.compile(
    r"Previous response\b.{0,300}?\bnot found|No tool call found for function call output"
    r"|No tool output found for function call",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Received:
    """The data of the events that a stream brought."""

    events: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class _ErrorBody:
    """The body of an error answer. `code` and `param` are unchecked; `message` is safe to show to clients."""

    code: object
    param: object
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """Interprets the answers of one provider."""

    # The settings that an error for refused credentials names.
    to_check: str
    # The key, which is removed from error messages.
    secret: str | None
    on_unknown_status: Callable[[str], None]

    def read(self, response_id: str, answer: Answer | NoAnswer, now: datetime) -> ReadReply:
        if isinstance(answer, Answer):
            if answer.ok:
                return self._snapshot(answer, response_id)
            if answer.gone:
                return Absent()
        return _later(answer, now)

    def create(self, request: ResponseRequest, answer: Answer | NoAnswer, now: datetime) -> CreateReply:
        if answer.denied:
            return Refused(RunError("provider_denied", self._denied(answer)))
        if isinstance(answer, NoAnswer) or answer.transient:
            return _later(answer, now, unknown=answer.may_be_done)
        if answer.ok:
            return self._snapshot(answer, None, unknown=True)
        error = self._error_body(answer)
        if request.previous_response_id and answer.status in {400, 404} and (broken := _chain_fault(error)):
            return ChainBroken(broken)
        if answer.status == 404 or error.code == "model_not_found":
            why = f"The provider has no model or deployment {request.model!r}, or its address is wrong."
            return Refused(RunError("model_not_found", f"{why} Its message: {error.message}"))
        return Refused(RunError("provider_rejected", error.message))

    def create_stream(
        self, request: ResponseRequest, answer: Answer | NoAnswer | None, now: datetime
    ) -> CreateReply:
        """Interpret a create whose stream named no response. `answer` is None when there was a stream."""
        if answer is None:
            return NotNow("the stream did not name its response", unknown=True)
        return self.create(request, answer, now)

    def created(self, data: bytes) -> Snapshot | None:
        """Return the response that an event of a stream names, or None.

        A stream whose events have no numbers cannot be resumed; then the complete response is read instead.
        """
        value = _json(data)
        if not isinstance(value, dict):
            return None
        found = read_response(value.get("response"), None, self.on_unknown_status)
        if not isinstance(found, Snapshot):
            return None
        return replace(found, sequence=sequence_of(value))

    def slice(
        self, response_id: str, after: int, received: Received | Answer | NoAnswer, now: datetime
    ) -> SliceReply:
        if isinstance(received, Received):
            return gather(response_id, after, self._events(response_id, received))
        if isinstance(received, Answer) and not (received.ok or received.transient or received.denied):
            # The stream cannot be resumed; the response may be fine. OpenAI sends a 404 for a stream that is older
            # than five minutes.
            return NoStream()
        reply = self.read(response_id, received, now)
        return NoStream() if isinstance(reply, Absent) else reply

    def _events(self, response_id: str, received: Received) -> Iterator[StreamEvent]:
        read = self._response(response_id)
        return filter(None, (stream_event(_json(data), read) for data in received.events))

    def _response(self, response_id: str) -> Callable[[object], Snapshot | None]:
        def read(value: object) -> Snapshot | None:
            found = read_response(value, response_id, self.on_unknown_status)
            return found if isinstance(found, Snapshot) and found.status.finished else None

        return read

    def cancel(self, response_id: str, answer: Answer | NoAnswer, now: datetime) -> CancelReply:
        if isinstance(answer, NoAnswer) or answer.transient:
            return _later(answer, now, unknown=answer.may_be_done)
        if answer.ok:
            return self._snapshot(answer, response_id, unknown=True)
        return self._gone_or_refused(answer, now)

    def delete(self, answer: Answer | NoAnswer, now: datetime) -> DeleteReply:
        if isinstance(answer, NoAnswer) or answer.transient:
            return _later(answer, now)
        return Absent() if answer.ok else self._gone_or_refused(answer, now)

    def _snapshot(self, answer: Answer, expected: str | None, *, unknown: bool = False) -> Snapshot | NotNow:
        if answer.body is None and expected is not None:
            # A later read would return the same body.
            error = RunError(
                "output_too_large", f"The response is larger than {MAX_REPLY_BYTES // 2**20} MiB."
            )
            return Snapshot(response_id=expected, status=ResponseStatus.FAILED, error=error)
        found = decode(answer.body or b"", expected, self.on_unknown_status)
        if isinstance(found, Unreadable):
            return NotNow(f"unreadable reply: {found.reason}", unknown=unknown)
        return found

    def _gone_or_refused(self, answer: Answer, now: datetime) -> NotNow | Absent | Refused:
        if answer.gone:
            return Absent()
        if answer.denied:
            return _later(answer, now)
        return Refused(RunError("provider_rejected", self._error_body(answer).message))

    def _denied(self, answer: Answer | NoAnswer) -> str:
        if isinstance(answer, NoAnswer):
            return f"No request was sent to the provider: {answer.reason}. Check {self.to_check}."
        message = self._error_body(answer).message
        return (
            f"The provider refuses the credentials (HTTP {answer.status}). Check {self.to_check}. {message}"
        )

    def _error_body(self, answer: Answer) -> _ErrorBody:
        value = _json(answer.body or b"")
        # API gateways leave out the object around the error.
        error = value.get("error", value) if isinstance(value, dict) else None
        shown = read_error(error, self.secret)
        message = (
            shown.message if shown else f"The provider answered HTTP {answer.status} and gave no reason."
        )
        if not isinstance(error, dict):
            return _ErrorBody(None, None, message)
        return _ErrorBody(error.get("code"), error.get("param"), message)


def _json(body: bytes) -> object:
    """Return the value of a JSON text, or None when the body is not JSON."""
    try:
        return read_json(body)
    except (ValueError, RecursionError):
        return None


def _later(answer: Answer | NoAnswer, now: datetime, *, unknown: bool = False) -> NotNow:
    if isinstance(answer, NoAnswer):
        return NotNow(answer.reason, unknown=unknown)
    denied = "; the provider refuses the credentials" if answer.denied else ""
    return NotNow(f"HTTP {answer.status}{denied}", retry_after(answer.headers, now), unknown)


def _chain_fault(error: _ErrorBody) -> str | None:
    """Return why the previous response cannot be continued, or None for any other error."""
    if found := _CHAIN_FAULT.search(error.message):
        return found[0]
    if error.code == "previous_response_not_found" or error.param == "previous_response_id":
        return "the provider does not accept this previous_response_id"
    return None
