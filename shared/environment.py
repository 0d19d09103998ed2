"""Reads single settings from the environment, and collects the faults of all of them."""

import re
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")
_INTEGER = re.compile(r"[0-9]{1,9}")
# The description of what `is_url` accepts.
URL = "an http or https address without a query"
# Raises ValueError for a value that cannot be used.
Check = Callable[[str], object]


class Reader:
    """Reads settings and collects their faults."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.faults: list[str] = []

    def text(
        self,
        name: str,
        default: str | None = None,
        check: Callable[[str], bool] | None = None,
        expected: str = "",
    ) -> str:
        value = self._environment.get(name, "").strip()
        if not value:
            if default is None:
                self.faults.append(f"{name} is missing.")
            return default or ""
        if check and not check(value):
            self.faults.append(f"{name} must be {expected}.")
        return value

    def check(self, name: str, check: Check) -> None:
        """Add a fault if the setting has a value for which `check` raises ValueError."""
        try:
            if value := self.text(name, ""):
                check(value)
        except ValueError as fault:
            self.faults.append(f"{name} is wrong: {fault}.")

    def number(self, name: str, default: float, least: float, most: float, *, integer: bool = False) -> float:
        value = self._environment.get(name, "").strip()
        if not value:
            return default
        pattern = _INTEGER if integer else _NUMBER
        if pattern.fullmatch(value) and least <= float(value) <= most:
            return float(value)
        kind = "an integer" if integer else "a number"
        self.faults.append(f"{name} must be {kind} from {least:g} to {most:g}.")
        return default

    def choice(self, name: str, default: str, choices: Sequence[str]) -> str:
        value = self.text(name, default, lambda value: value in choices, f"one of: {', '.join(choices)}")
        return value if value in choices else default


def matches(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.fullmatch(text) is not None


def is_https(text: str) -> bool:
    return text.startswith("https://") and is_url(text)


def is_url(text: str) -> bool:
    # `urlsplit` leaves out control characters, and an empty query or fragment.
    if not text.isprintable() or any(each in " ?#\\" for each in text):
        return False
    try:
        parts = urlsplit(text)
        # Reading the port checks it.
        plain = parts.port != 0 and "@" not in parts.netloc
        host = parts.hostname or ""
        # An address of IPv6 may have one. Elsewhere a setting was meant, and no setting has such a name.
        plain = plain and ("%" not in host or ":" in host)
        # A connection needs the name in this form. Each of its labels has 1 to 63 characters.
        host.encode("idna")
    except ValueError:
        return False
    return plain and parts.scheme in {"http", "https"} and bool(host)
