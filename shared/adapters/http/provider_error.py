"""What a provider's error means, by its code: the same whether it comes with an HTTP status or inside a stream. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.adapters.http.answer import DENIED
from shared.adapters.http.shown_error import is_quota, read_error

# The complete conversation would be refused for the same reason as the request that continues a response.
_SHARED_BY_REPLAY = frozenset(
    {
        "content_filter",
        "content_policy_violation",
        "model_not_found",
        "invalid_json_schema",
        "unsupported_parameter",
        "context_length_exceeded",
    }
)
# The HTTP status of errors that come without one.
_STATUSES = {
    "invalid_api_key": 401,
    "authentication_error": 401,
    # LiteLLM's proxy without a database, for each key but its own.
    "no_db_connection": 401,
    "permission_denied": 403,
    "permission_error": 403,
    "model_not_found": 404,
    "not_found_error": 404,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "too_many_requests": 429,
    "server_error": 500,
    "internal_error": 500,
    "internal_server_error": 500,
    "vector_store_timeout": 500,
    "overloaded": 503,
    "overloaded_error": 503,
    "service_unavailable": 503,
    "invalid_request_error": 400,
    "previous_response_not_found": 400,
    "context_length_exceeded": 400,
    "content_filter": 400,
    "failed_to_download_image": 400,
    "image_parse_error": 400,
}
_STATUS = re.compile(r"[45][0-9]{2}")
_REFUSALS = ("invalid_", "unsupported_", "image_")
_POLICIES = ("_policy", "_policy_violation", "_not_supported", "_too_large", "_too_small", "_not_found")


@dataclass(frozen=True, slots=True)
class ProviderError:
    """An error as a provider reports it. `message` is safe to show to clients, the other fields are unchecked."""

    code: object = None
    type: object = None
    param: object = None
    # None when the provider gave no reason.
    message: str | None = None
    # The code, if clients may see it.
    shown_code: str | None = None

    @classmethod
    def of(cls, value: object, secret: str | re.Pattern[str] | None) -> "ProviderError":
        """Read the `error` object of a reply, or the reply itself: API gateways leave out the object around it."""
        if isinstance(value, str):
            # Some services send the code alone, others a sentence.
            value = {"code": value, "message": value}
        if not isinstance(value, dict):
            return cls()
        code, message = value.get("code"), message_of(value)
        if isinstance(code, int) and not isinstance(code, bool):
            code = str(code)
        shown = read_error({"code": code, "message": message}, secret)
        return cls(
            code,
            value.get("type"),
            value.get("param"),
            shown.message if shown and message is not None else None,
            shown.provider_code if shown else None,
        )

    def is_any(self, codes: frozenset[str]) -> bool:
        return any(isinstance(each, str) and each.lower() in codes for each in (self.code, self.type))

    @property
    def quota(self) -> bool:
        """Whether the account cannot pay for any request."""
        return is_quota(self.code) or is_quota(self.type) or self.status == 402

    def denies(self, status: int) -> bool:
        """Whether it refuses the credentials, sent with an HTTP status: some services send 400 for that."""
        named = any(_status_of(each) in DENIED for each in (self.code, self.type))
        return status in DENIED or (status == 400 and named)

    @property
    def shared_by_replay(self) -> bool:
        # With zero data retention, OpenAI calls `previous_response_id` an unsupported parameter.
        return self.param != "previous_response_id" and self.is_any(_SHARED_BY_REPLAY)

    @property
    def about_key(self) -> bool:
        """Whether the error is about the Idempotency-Key of the request."""
        texts = (self.code, self.type, self.param, self.message)
        return any(isinstance(text, str) and "idempoten" in text.lower() for text in texts)

    @property
    def status(self) -> int | None:
        """The HTTP status with which this error is sent. None for an unknown code."""
        for each in (self.code, self.type):
            if (status := _status_of(each)) is not None:
                return status
        return None


def error_in(value: object) -> Mapping[str, Any] | None:
    """Return the error object in a JSON value that is not a response: an event, or a body."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, dict):
        return None
    response = value.get("response")
    for holder in (value, response):
        error = holder.get("error") if isinstance(holder, dict) else None
        if isinstance(error, dict) and error:
            return error
        if isinstance(error, str) and error:
            return {"code": error, "message": error}
    # The event "error" of the Responses API has the fields itself. So have bodies of some gateways.
    is_error = value.get("type") == "error" or ("code" in value and "message" in value)
    return value if is_error else None


def message_of(value: Mapping[str, Any]) -> str | None:
    """Return the text of an error: `message`, or the names that frameworks have for it."""
    for given in map(value.get, ("message", "msg", "detail", "errors")):
        first = given[0] if isinstance(given, list) and given else given
        text = first.get("message") or first.get("msg") if isinstance(first, dict) else first
        if isinstance(text, str) and text:
            return text
    return None


def _status_of(code: object) -> int | None:
    if isinstance(code, int | str) and _STATUS.fullmatch(str(code)):
        return int(code)
    if not isinstance(code, str):
        return None
    known = code.lower()
    if known in _STATUSES:
        return _STATUSES[known]
    return 400 if known.startswith(_REFUSALS) or known.endswith(_POLICIES) else None
