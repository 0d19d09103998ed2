"""Function keys: which key may call which functions."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class AuthLevel(StrEnum):
    ANONYMOUS = "anonymous"
    FUNCTION = "function"
    ADMIN = "admin"


@dataclass(frozen=True)
class Keys:
    """The host key gives access to functions of level `function`, the master key to all."""

    host: str
    master: str

    def allow(self, level: AuthLevel, presented: str) -> bool:
        match level:
            case AuthLevel.ANONYMOUS:
                return True
            case AuthLevel.FUNCTION:
                return _same(presented, self.host) or _same(presented, self.master)
            case AuthLevel.ADMIN:
                return _same(presented, self.master)


def presented_key(headers: Mapping[str, str], query: Mapping[str, str]) -> str:
    """Return the key in the header `x-functions-key`, or without one the key in the query `code`."""
    return headers.get("x-functions-key") or query.get("code") or ""


def _same(presented: str, key: str) -> bool:
    return hmac.compare_digest(presented.encode(), key.encode())
