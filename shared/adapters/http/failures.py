"""Turns the answer to a request that failed into an error for the run. Pure."""

import re
from dataclasses import dataclass, field
from datetime import datetime

from shared.adapters.http.answer import Answer, NoAnswer
from shared.adapters.http.json_body import json_of
from shared.adapters.http.provider_error import ProviderError, error_in
from shared.adapters.http.retry_after import retry_after
from shared.core.response import RESPONSE_SLOW, NotNow, RunError

NO_QUOTA = "The provider account has no quota left."
# The codes of our errors for requests that may succeed later.
LATER = {401: "provider_denied", 403: "provider_denied", 429: "rate_limited"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """Explains the failures of one provider."""

    # The settings that an error for refused credentials names.
    to_check: str
    # What is removed from error messages: the key, or a pattern for it and other secrets.
    secret: str | re.Pattern[str] | None = field(repr=False)

    def not_sent(self, answer: NoAnswer) -> str:
        return f"No request was sent to the provider: {answer.reason}. Check {self.to_check}."

    def denied(self, status: int, error: ProviderError) -> str:
        why = f"The provider refuses the credentials (HTTP {status}). Check {self.to_check}."
        return f"{why} {error.message}" if error.message else why

    def refused(self, status: int, error: ProviderError, model: str) -> RunError:
        """Return the error for a request that the provider would refuse again."""
        no_reason = f"The provider answered HTTP {status} and gave no reason."
        if status == 404 or error.code == "model_not_found":
            why = f"The provider has no model or deployment {model!r}, or its address is wrong."
            message = f"{why} Its message: {error.message or no_reason}"
            return RunError("model_not_found", message, error.shown_code)
        return run_error("provider_rejected", error, no_reason)

    def later(self, answer: Answer | NoAnswer, now: datetime, *, unknown: bool = False) -> NotNow:
        """Return the reply for a request that may succeed later."""
        if isinstance(answer, NoAnswer):
            return NotNow(self._unanswered(answer), unknown=unknown, timed_out=answer.timed_out)
        error = self.error_of(answer)
        if answer.denied:
            message = self.denied(answer.status, error)
        else:
            message = f"The provider answered HTTP {answer.status}. {error.message or ''}".strip()
        code = LATER.get(answer.status, "provider_unavailable")
        return NotNow(RunError(code, message, error.shown_code), retry_after(answer.headers, now), unknown)

    def _unanswered(self, answer: NoAnswer) -> RunError:
        if answer.denied:
            return RunError("provider_denied", self.not_sent(answer))
        code = RESPONSE_SLOW if answer.slow else "provider_unreachable"
        return RunError(code, f"{answer.reason[0].upper()}{answer.reason[1:]}.")

    def error_of(self, answer: Answer) -> ProviderError:
        body = answer.body or b""
        value = json_of(body)
        if value is None and answer.headers.get("Content-Type", "").startswith("text/plain"):
            # Some services refuse a request that they cannot read in a sentence alone.
            value = body.decode(errors="replace").strip()
        # API gateways leave out the object around the error.
        found = error_in(value)
        return ProviderError.of(found if found is not None else value, self.secret)


def run_error(code: str, error: ProviderError, otherwise: str) -> RunError:
    return RunError(code, error.message or otherwise, error.shown_code)
