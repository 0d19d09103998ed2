"""Turns a provider's answers over HTTP into the replies of the port. Pure. One method for each request."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from shared.adapters.http.answer import DENIED, MAX_REPLY_BYTES, Answer, NoAnswer, is_transient
from shared.adapters.http.failures import LATER, NO_QUOTA, Failures, run_error
from shared.adapters.http.json_body import json_of
from shared.adapters.http.provider_error import ProviderError, error_in
from shared.adapters.responses_api.decode import Unreadable, decode, read_response, too_large
from shared.adapters.responses_api.stream import sequence_of, stream_event
from shared.core.response import (
    Absent,
    CancelReply,
    ChainBroken,
    CreateReply,
    DeleteReply,
    KeyRefused,
    NoStream,
    NotNow,
    ReadReply,
    Refused,
    ResponseStatus,
    RunError,
    SliceReply,
    Snapshot,
    unreadable,
)
from shared.core.slices import StreamEvent, gather
from shared.ports.providers import ResponseRequest

_TOO_LONG = f"it is larger than {MAX_REPLY_BYTES // 2**20} MiB"
# Statuses of a refusal that does not concern the response which a request continues.
_NOT_THE_CHAIN = DENIED | {408, 413, 429}
# The statuses of services that have no such request.
_NO_READS = frozenset({405, 501})
# A 409 with such a text comes while the first request with the same key is carried out.
_IN_PROGRESS = re.compile(r"in.?progress|being processed|in use|concurrent", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Received:
    """The data of the events that a stream brought."""

    events: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Opening:
    """What an event at the start of a stream says: the response that it names, or an error."""

    named: Snapshot | None = None
    # Whether the event is the one that names the response for certain.
    created: bool = False
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter(Failures):
    """Interprets the answers of one provider."""

    on_unknown_status: Callable[[str], None]

    def read(self, response_id: str, answer: Answer | NoAnswer, now: datetime) -> ReadReply:
        if isinstance(answer, Answer):
            if answer.ok:
                return self._read_reply(answer, response_id)
            if answer.gone or answer.status in _NO_READS:
                return Absent()
            if (error := self.error_of(answer)).quota:
                return self._out_of_quota(response_id, error)
        return self.later(answer, now)

    def _read_reply(self, answer: Answer, response_id: str) -> Snapshot | NotNow:
        found = self._snapshot(answer, response_id)
        if isinstance(found, NotNow) and (value := error_in(json_of(answer.body or b""))):
            error = ProviderError.of(value, self.secret)
            if error.quota:
                return self._out_of_quota(response_id, error)
            return NotNow(run_error("provider_unavailable", error, found.error.message))
        return found

    def _out_of_quota(self, response_id: str, error: ProviderError) -> Snapshot:
        return Snapshot(
            response_id=response_id,
            status=ResponseStatus.FAILED,
            error=run_error("quota_exhausted", error, NO_QUOTA),
        )

    def create(self, request: ResponseRequest, answer: Answer | NoAnswer, now: datetime) -> CreateReply:
        if isinstance(answer, NoAnswer):
            if answer.denied:
                return Refused(RunError("provider_denied", self.not_sent(answer)))
            return self.later(answer, now, unknown=answer.may_be_done)
        if not answer.ok:
            later = self.later(answer, now, unknown=answer.may_be_done)
            return self._failed(request, answer.status, self.error_of(answer), later)
        found = self._snapshot(answer, None)
        if isinstance(found, Snapshot):
            return found
        if error := error_in(json_of(answer.body or b"")):
            return self._failed_in_success(request, ProviderError.of(error, self.secret))
        return replace(found, unknown=True, unusable=True)

    def create_stream(
        self,
        request: ResponseRequest,
        answer: Answer | NoAnswer | None,
        error: Mapping[str, Any] | None,
        now: datetime,
    ) -> CreateReply:
        """Interpret a create whose stream named no response.

        `answer` is None when there was a stream. `error` is the error in it, if any.
        """
        if answer is not None:
            return self.create(request, answer, now)
        if error is not None:
            return self._failed_in_success(request, ProviderError.of(error, self.secret))
        return NotNow(unreadable("the stream did not name its response"), unknown=True, unusable=True)

    def _failed_in_success(self, request: ResponseRequest, error: ProviderError) -> CreateReply:
        """Interpret an error that came with HTTP 200, as if it had come with the status that belongs to it."""
        status = error.status or 503
        code = LATER.get(status, "provider_unavailable")
        later = NotNow(run_error(code, error, "The provider reported an error."))
        return self._failed(request, status, error, later)

    def _failed(
        self, request: ResponseRequest, status: int, error: ProviderError, later: NotNow
    ) -> CreateReply:
        """Return what an error means for a create. `later` is the reply when a repetition may help."""
        no_reason = f"The provider answered HTTP {status} and gave no reason."
        if error.quota or (status == 402 and request.previous_response_id is None):
            return Refused(run_error("quota_exhausted", error, NO_QUOTA))
        if error.denies(status):
            return Refused(RunError("provider_denied", self.denied(status, error), error.shown_code))
        if error.about_key and 400 <= status < 500 and request.idempotency_key:
            # With 409, an earlier request with this key is still being carried out.
            return later if status == 409 else KeyRefused(error.message or no_reason)
        if status == 409 and _IN_PROGRESS.search(f"{error.code} {error.message}"):
            return later
        chained = request.previous_response_id is not None
        if chained and 400 <= status < 500 and status not in _NOT_THE_CHAIN and not error.shared_by_replay:
            return ChainBroken(run_error("provider_rejected", error, no_reason))
        if is_transient(status) or is_transient(error.status or 0):
            return later
        return Refused(self.refused(status, error, request.model))

    def opening(self, data: bytes) -> Opening:
        """Return what an event says about the response that the stream is of.

        A stream whose events have no numbers cannot be resumed; then the complete response is read instead.
        """
        value = json_of(data)
        if not isinstance(value, dict):
            return Opening()
        found = read_response(value.get("response"), None, self.on_unknown_status, self.secret)
        if not isinstance(found, Snapshot):
            return Opening(error=error_in(value))
        named = replace(found, sequence=sequence_of(value))
        return Opening(named, created=value.get("type") == "response.created")

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
        return filter(None, (stream_event(json_of(data), read) for data in received.events))

    def _response(self, response_id: str) -> Callable[[object], Snapshot | None]:
        def read(value: object) -> Snapshot | None:
            found = read_response(value, response_id, self.on_unknown_status, self.secret)
            return found if isinstance(found, Snapshot) and found.status.finished else None

        return read

    def cancel(self, response_id: str, answer: Answer | NoAnswer, now: datetime) -> CancelReply:
        if isinstance(answer, Answer) and answer.status == 409:
            # The response cannot be cancelled in its present state. A read shows which one that is.
            return self._gone_or_refused(answer, now)
        if isinstance(answer, NoAnswer) or answer.transient:
            return self.later(answer, now, unknown=answer.may_be_done)
        if answer.ok:
            found = self._snapshot(answer, response_id)
            return replace(found, unknown=True) if isinstance(found, NotNow) else found
        return self._gone_or_refused(answer, now)

    def delete(self, answer: Answer | NoAnswer, now: datetime) -> DeleteReply:
        if isinstance(answer, NoAnswer) or answer.transient:
            return self.later(answer, now)
        return Absent() if answer.ok else self._gone_or_refused(answer, now)

    def _snapshot(self, answer: Answer, expected: str | None) -> Snapshot | NotNow:
        if answer.body is None:
            found: Snapshot | Unreadable = Unreadable(_TOO_LONG, too_large=True)
        else:
            found = decode(answer.body, expected, self.on_unknown_status, self.secret)
        if isinstance(found, Snapshot):
            return found
        if found.too_large and expected is not None:
            # A later read would return the same body.
            error = too_large(found.reason)
            return Snapshot(response_id=expected, status=ResponseStatus.FAILED, error=error)
        return NotNow(unreadable(found.reason))

    def _gone_or_refused(self, answer: Answer, now: datetime) -> NotNow | Absent | Refused:
        if answer.gone:
            return Absent()
        if answer.denied:
            return self.later(answer, now)
        no_reason = f"The provider answered HTTP {answer.status} and gave no reason."
        return Refused(run_error("provider_rejected", self.error_of(answer), no_reason))
