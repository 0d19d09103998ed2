"""Ids of calls that providers accept. Only some accept their own ids of any form, and Mistral's models no others."""

import hashlib
import re
import string
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass, field
from itertools import count

# OpenAI accepts at most 40 characters. Anthropic accepts these characters only.
_SENDABLE = re.compile(r"[a-zA-Z0-9_-]{1,40}")
# Mistral's models accept exactly so many letters and digits, and nothing else.
_MADE_LENGTH = 9
_MADE = re.compile(rf"[a-zA-Z0-9]{{{_MADE_LENGTH}}}")
_ALPHABET = string.digits + string.ascii_letters


def made_id(name: str, taken: Container[str]) -> str:
    """Return an id that is not taken yet: nine letters and digits, the same for the same arguments."""
    return next(found for number in count() if (found := _digest(f"{number} {name}")) not in taken)


def _digest(text: str) -> str:
    number = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest(), "big")
    places = (number // len(_ALPHABET) ** place for place in range(_MADE_LENGTH))
    return "".join(_ALPHABET[rest % len(_ALPHABET)] for rest in places)


def is_made(call_id: str) -> bool:
    """Return whether an id has the form of those that `made_id` returns."""
    return _MADE.fullmatch(call_id) is not None


@dataclass
class SentIds:
    """The ids of calls as they are sent in a request: none twice, and the same in each request."""

    _used: set[str] = field(default_factory=set)
    # How often each id came.
    _seen: Counter[str] = field(default_factory=Counter)

    def sent(self, call_id: str) -> str:
        """Return the id under which the next call with this id is sent. An empty one: it has none."""
        self._seen[call_id] += 1
        sent = call_id
        if not _SENDABLE.fullmatch(call_id) or call_id in self._used:
            sent = made_id(f"{self._seen[call_id]} {call_id}", self._used)
        self._used.add(sent)
        return sent
