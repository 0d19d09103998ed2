"""Says why an answer was refused or broke off, and whether the request may succeed later. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shared.adapters.http.answer import Answer, NoAnswer, is_transient
from shared.adapters.http.failures import LATER, NO_QUOTA, Failures, run_error
from shared.adapters.http.provider_error import ProviderError
from shared.core.response import NotNow, RunError, unreadable
from shared.ports.chat import ChatBroken

STREAM_BROKEN = "stream_broken"
STREAM_STALLED = "stream_stalled"


def refused(failures: Failures, model: str, answer: Answer | NoAnswer, now: datetime) -> ChatBroken:
    """Return why a request has no answer to read."""
    later = failures.later(answer, now)
    if isinstance(answer, NoAnswer):
        return ChatBroken(later.error, None, retryable=not answer.denied)
    return _explained(failures, model, answer.status, failures.error_of(answer), later)


def reported(failures: Failures, model: str, value: Mapping[str, Any]) -> ChatBroken:
    """Return what an error inside an answer means: the same as with the HTTP status that belongs to it."""
    error = ProviderError.of(value, failures.secret)
    status = error.status or 503
    code = LATER.get(status, "provider_unavailable")
    later = NotNow(run_error(code, error, "The provider reported an error."))
    return _explained(failures, model, status, error, later)


def _explained(
    failures: Failures, model: str, status: int, error: ProviderError, later: NotNow
) -> ChatBroken:
    """Return what an error means. `later` is for one after which a repetition may help."""
    if error.quota or status == 402:
        return ChatBroken(run_error("quota_exhausted", error, NO_QUOTA), None, retryable=False)
    if error.denies(status):
        denied = RunError("provider_denied", failures.denied(status, error), error.shown_code)
        return ChatBroken(denied, None, retryable=False)
    if is_transient(status) or is_transient(error.status or 0):
        return ChatBroken(later.error, later.retry_after, retryable=True)
    return ChatBroken(failures.refused(status, error, model), None, retryable=False)


def cut(reason: str) -> ChatBroken:
    """Return that an answer broke off."""
    return ChatBroken(RunError(STREAM_BROKEN, f"The answer is not complete: {reason}."), None, retryable=True)


def stalled(seconds: float) -> ChatBroken:
    """Return that nothing of an answer came for so long."""
    message = f"Nothing of the answer came for {seconds:g} seconds."
    return ChatBroken(RunError(STREAM_STALLED, message), None, retryable=True)


def over() -> ChatBroken:
    """Return that nobody may wait for an answer any longer, although it has not stalled."""
    message = "The answer is not complete, and the time of this function is over."
    return ChatBroken(RunError(STREAM_STALLED, message), None, retryable=True)


def junk(reason: str) -> ChatBroken:
    """Return that an answer cannot be read."""
    return ChatBroken(unreadable(reason), None, retryable=True)


def too_large(reason: str) -> ChatBroken:
    """Return that an answer is larger than a limit. It would be so again."""
    error = RunError("output_too_large", f"The answer cannot be kept: {reason}.")
    return ChatBroken(error, None, retryable=False)
