"""Reads host.json, local.settings.json and the environment."""

import json
import logging
import re
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from dev.host.errors import StartupError

LOCAL_SETTINGS = "local.settings.json"

# Defaults of the real host. Sources: learn.microsoft.com, "host.json reference for Azure Functions"
# and "Azure Queue storage trigger and bindings" (host.json settings).
DEFAULT_FUNCTION_TIMEOUT = "00:30:00"
DEFAULT_BATCH_SIZE = 16
MAX_BATCH_SIZE = 32
DEFAULT_MAX_DEQUEUE_COUNT = 5
DEFAULT_VISIBILITY_TIMEOUT = "00:00:00"
DEFAULT_MAX_POLLING_INTERVAL = "00:01:00"

# `AzureFunctionsJobHost__extensions__queues__batchSize=1` overrides that entry of host.json.
HOST_JSON_PREFIX = "azurefunctionsjobhost__"

LOG_LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "information": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "none": logging.CRITICAL + 1,
}
TIMESPAN = re.compile(r"(?:(?P<days>\d+)\.)?(?P<hours>\d{1,2}):(?P<minutes>\d{2}):(?P<seconds>\d{2})")
PLACEHOLDER = re.compile(r"%([^%]+)%")


@dataclass(frozen=True)
class QueueOptions:
    batch_size: int
    new_batch_threshold: int
    max_dequeue_count: int
    visibility_timeout: timedelta
    max_polling_interval: timedelta


@dataclass(frozen=True)
class HostSettings:
    route_prefix: str
    function_timeout: timedelta | None  # None: unbounded
    log_level: int
    queues: QueueOptions


def load_app_settings(app: Path, environ: MutableMapping[str, str]) -> None:
    """Copy the values of the app's local.settings.json into `environ`, except those that it has already."""
    path = app / LOCAL_SETTINGS
    if path.exists():
        for name, value in read_values(path).items():
            environ.setdefault(name, value)


def read_values(path: Path) -> dict[str, str]:
    """Return the values of a settings file. Raises StartupError."""
    document = _read_json(path)
    if document.get("IsEncrypted"):
        raise StartupError(f"{path} is encrypted: run `func settings decrypt`")
    values = document.get("Values", {})
    if not isinstance(values, dict):
        raise StartupError(f"{path}: Values must be a JSON object")
    for name, value in values.items():
        if not isinstance(value, str):
            raise StartupError(f"{path}: the value of {name} must be a string")
    return values


def load_host_settings(app: Path, environ: Mapping[str, str]) -> HostSettings:
    path = app / "host.json"
    if not path.exists():
        raise StartupError(f"{path} is missing: is {app} a Functions app?")
    entries = dict(_flatten(_read_json(path)))
    for name, text in environ.items():
        if name.lower().startswith(HOST_JSON_PREFIX):
            entries[name.lower().removeprefix(HOST_JSON_PREFIX)] = text
    return _Reader(path, entries).host_settings()


def substitute(text: str, environ: Mapping[str, str]) -> str:
    """Replace every %NAME% by that setting. Raises StartupError when there is none."""

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if not environ.get(name):
            raise StartupError(f"%{name}% is used in a binding, but there is no setting {name}")
        return environ[name]

    return PLACEHOLDER.sub(value, text)


def parse_timespan(text: str) -> timedelta:
    """Parse `hh:mm:ss` or `d.hh:mm:ss`. Raises ValueError."""
    match = TIMESPAN.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a time span such as 00:05:00")
    return timedelta(**{unit: int(digits) for unit, digits in match.groupdict(default="0").items()})


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StartupError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise StartupError(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise StartupError(f"{path} must hold a JSON object")
    return document


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield leaves as `extensions__queues__batchsize`; letter case does not count in host.json."""
    for name, value in tree.items():
        path = prefix + name.lower()
        if isinstance(value, dict):
            yield from _flatten(value, f"{path}__")
        else:
            yield path, value


class _Reader:
    """Reads typed entries and collects their problems."""

    def __init__(self, path: Path, entries: Mapping[str, Any]) -> None:
        self._path = path
        self._entries = entries
        self._problems: list[str] = []

    def host_settings(self) -> HostSettings:
        batch_size = self._count("extensions__queues__batchsize", DEFAULT_BATCH_SIZE, 1, MAX_BATCH_SIZE)
        queues = QueueOptions(
            batch_size=batch_size,
            new_batch_threshold=self._count("extensions__queues__newbatchthreshold", batch_size // 2),
            max_dequeue_count=self._count(
                "extensions__queues__maxdequeuecount", DEFAULT_MAX_DEQUEUE_COUNT, least=1
            ),
            visibility_timeout=self._timespan(
                "extensions__queues__visibilitytimeout", DEFAULT_VISIBILITY_TIMEOUT
            ),
            max_polling_interval=self._timespan(
                "extensions__queues__maxpollinginterval", DEFAULT_MAX_POLLING_INTERVAL
            ),
        )
        timeout = None
        if str(self._entries.get("functiontimeout")) != "-1":
            timeout = self._timespan("functiontimeout", DEFAULT_FUNCTION_TIMEOUT)
        settings = HostSettings(
            route_prefix=str(self._entries.get("extensions__http__routeprefix", "api")).strip("/"),
            function_timeout=timeout,
            log_level=self._log_level(),
            queues=queues,
        )
        if self._problems:
            raise StartupError.of(self._problems)
        return settings

    def _count(self, name: str, default: int, least: int = 0, most: int = 1_000) -> int:
        value = self._entries.get(name, default)
        number = int(value) if str(value).isdecimal() else -1
        if not least <= number <= most:
            self._problem(name, f"must be a whole number from {least} to {most}, not {value!r}")
        return number

    def _timespan(self, name: str, default: str) -> timedelta:
        try:
            return parse_timespan(str(self._entries.get(name, default)))
        except ValueError as error:
            self._problem(name, str(error))
            return timedelta()

    def _log_level(self) -> int:
        name = "logging__loglevel__default"
        level = str(self._entries.get(name, "Information"))
        if level.lower() not in LOG_LEVELS:
            self._problem(name, f"{level!r} is not a log level")
        return LOG_LEVELS.get(level.lower(), logging.INFO)

    def _problem(self, name: str, text: str) -> None:
        self._problems.append(f"{self._path}, {name.replace('__', '.')}: {text}")
