"""Creates that can be repeated: the same Idempotency-Key and the same body give the same response."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from dev.provider.wire import ApiError


@dataclass
class Use:
    """A create with a key. `response_id` is None while it is carried out."""

    body: str
    response_id: str | None = None


@dataclass
class IdempotencyKeys:
    """The keys of all creates so far. OpenAI ignores them; some compatible services honour them."""

    honoured: bool = False
    _uses: dict[str, Use] = field(default_factory=dict)

    @contextmanager
    def using(self, key: str | None, body: bytes) -> Iterator[Use]:
        """Yield the use of a key by this create, or by the first one with this key and body.

        A create that fails leaves the key unused.
        Raises ApiError when the first create is still carried out, or had another body.
        """
        hashed = hashlib.sha256(body).hexdigest()
        if key is None or not self.honoured:
            yield Use(hashed)
            return
        first = self._uses.get(key)
        if first is not None:
            _check(first, hashed)
            yield first
            return
        use = self._uses[key] = Use(hashed)
        try:
            yield use
        finally:
            if use.response_id is None:
                del self._uses[key]

    def clear(self) -> None:
        self._uses.clear()


def _check(use: Use, body: str) -> None:
    if use.body != body:
        message, code, status = (
            "This Idempotency-Key was used with another body.",
            "idempotency_key_reused",
            422,
        )
    elif use.response_id is None:
        message, code, status = (
            "A request with this Idempotency-Key is in progress.",
            "idempotency_key_in_use",
            409,
        )
    else:
        return
    raise ApiError(status, message, "Idempotency-Key", code)
