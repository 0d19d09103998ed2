"""The setting with which the Functions host overrides functionTimeout of host.json. The app follows it."""

import re
from collections.abc import Mapping
from datetime import timedelta

from shared.core.invocation import MAX_FUNCTION_TIMEOUT, MIN_FUNCTION_TIMEOUT

NAME = "AzureFunctionsJobHost__functionTimeout"

_TIME = re.compile(r"(?:([0-9]{1,4})\.)?([01]?[0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])")


def parse_function_timeout(text: str) -> timedelta:
    """Read `hh:mm:ss` or `d.hh:mm:ss`. Raises ValueError, whose message completes `{setting} must ...`."""
    if text == "-1":
        raise ValueError(
            "must be a time, and not -1: a deleted run is purged again when no function can still run"
        )
    found = _TIME.fullmatch(text)
    if found:
        days, hours, minutes, seconds = (int(digits or 0) for digits in found.groups())
        timeout = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        if MIN_FUNCTION_TIMEOUT <= timeout <= MAX_FUNCTION_TIMEOUT:
            return timeout
    least, most = (time_span(each) for each in (MIN_FUNCTION_TIMEOUT, MAX_FUNCTION_TIMEOUT))
    raise ValueError(f"must be a time from {least} to {most}, as hh:mm:ss or d.hh:mm:ss")


def spelled_otherwise(environment: Mapping[str, str]) -> set[str]:
    """Return the values of the setting under names in other letter case, which does not count to the host."""
    return {
        value.strip() for name, value in environment.items() if name != NAME and name.lower() == NAME.lower()
    }


def time_span(duration: timedelta) -> str:
    """Return a time as host.json has it."""
    minutes, seconds = divmod(duration.seconds, 60)
    days = f"{duration.days}." if duration.days else ""
    return f"{days}{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"
