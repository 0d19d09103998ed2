"""What a provider's error says, made safe to show to clients. Pure."""

import re

from shared.core.response import RunError
from shared.core.text import representable, without_keys

MAX_MESSAGE_CHARACTERS = 500
MAX_SEARCHED_CHARACTERS = 20 * MAX_MESSAGE_CHARACTERS
# No retry helps after these: somebody has to pay, or to unlock the account.
QUOTA_CODES = frozenset(
    {
        "insufficient_quota",
        "insufficient_balance",
        "insufficient_credits",
        "insufficient_funds",
        "quota_exceeded",
        "billing_hard_limit_reached",
        "billing_not_active",
        "credit_balance_too_low",
        "exceeded_current_quota_error",
        "payment_required",
        "account_deactivated",
        "access_terminated",
    }
)
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def is_quota(code: object) -> bool:
    """Return whether the code of an error means that the account cannot pay."""
    return isinstance(code, str) and (code.lower() in QUOTA_CODES or code.lower().startswith("insufficient_"))


def read_error(value: object, secret: str | re.Pattern[str] | None = None) -> RunError | None:
    """Return the error that a provider reports, safe to show to clients; None without a code and a message.

    `value` is an `error` object, or a text alone. `secret` and text that looks like a key are replaced.
    """
    code, message = (value.get("code"), value.get("message")) if isinstance(value, dict) else (None, value)
    text = shown(message, secret) if isinstance(message, str) else ""
    known = code_of(code, secret)
    if not text and not known:
        return None
    kind = value.get("type") if isinstance(value, dict) else None
    quota = is_quota(code) or is_quota(kind)
    code = "quota_exhausted" if quota else known or "provider_error"
    return RunError(code, text or "The provider gave no reason.", known)


def code_of(value: object, secret: str | re.Pattern[str] | None) -> str | None:
    """Return a code that may be shown, or None."""
    if not isinstance(value, str) or not _CODE.fullmatch(value):
        return None
    return None if _struck(value, secret) != value else value


def _struck(text: str, secret: str | re.Pattern[str] | None) -> str:
    """Return a text without the secrets of the settings."""
    if not secret:
        return text
    return re.sub(re.escape(secret) if isinstance(secret, str) else secret, "[secret]", text)


def shown(text: str, secret: str | re.Pattern[str] | None) -> str:
    """Return a text of a provider without control characters, secrets and what looks like one, cut in its middle."""
    # Searching a longer text would take too long, and less than this is kept.
    if len(text) > MAX_SEARCHED_CHARACTERS:
        half = MAX_SEARCHED_CHARACTERS // 2
        text = f"{text[:half]} … {text[-half:]}"
    text = representable(text)
    text = _CONTROL.sub(" ", without_keys(_struck(text, secret))).strip()
    if len(text) <= MAX_MESSAGE_CHARACTERS:
        return text
    # Errors often repeat a long value and say only at their end what is wrong with it.
    half = (MAX_MESSAGE_CHARACTERS - 3) // 2
    return f"{text[:half]} … {text[-half:]}"
