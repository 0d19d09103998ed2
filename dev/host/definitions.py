"""The app's functions with their triggers and outputs, as the worker library reports them."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dev.host.errors import StartupError
from dev.host.keys import AuthLevel
from dev.host.settings import substitute

DEFAULT_CONNECTION = "AzureWebJobsStorage"


@dataclass(frozen=True)
class HttpTrigger:
    parameter: str
    route: str
    methods: tuple[str, ...]
    auth_level: AuthLevel


@dataclass(frozen=True)
class TimerTrigger:
    parameter: str
    schedule: str
    run_on_startup: bool


@dataclass(frozen=True)
class QueueTrigger:
    parameter: str
    queue: str
    connection: str  # name of the setting that holds the connection string


@dataclass(frozen=True)
class QueueOutput:
    parameter: str  # "$return" is the function's result
    queue: str
    connection: str


@dataclass(frozen=True)
class Function:
    name: str
    function_id: str  # the worker library's name for it
    trigger: HttpTrigger | TimerTrigger | QueueTrigger
    outputs: tuple[QueueOutput, ...]


def parse_functions(indexed: Iterable[Any], environ: Mapping[str, str]) -> list[Function]:
    """Turn the worker library's metadata into functions, without those that a setting disables.

    Raises StartupError with everything that this host does not support or cannot resolve.
    """
    functions, problems = [], []
    for metadata in indexed:
        try:
            function = _parse_function(metadata, environ)
        except (StartupError, ValueError) as error:
            problems.append(f"function {metadata.name}: {error}")
        else:
            if environ.get(f"AzureWebJobs.{function.name}.Disabled", "").lower() not in ("true", "1"):
                functions.append(function)
    if problems:
        raise StartupError.of(problems)
    return functions


def _parse_function(metadata: Any, environ: Mapping[str, str]) -> Function:
    triggers: list[HttpTrigger | TimerTrigger | QueueTrigger] = []
    outputs: list[QueueOutput] = []
    for text in metadata.raw_bindings:
        binding = {
            name: substitute(value, environ) if isinstance(value, str) else value
            for name, value in json.loads(text).items()
        }
        match binding["type"].lower():
            case "httptrigger":
                triggers.append(_http_trigger(binding, metadata.name))
            case "timertrigger":
                run_on_startup = bool(binding.get("runOnStartup", False))
                triggers.append(TimerTrigger(binding["name"], binding["schedule"], run_on_startup))
            case "queuetrigger":
                triggers.append(QueueTrigger(binding["name"], *_queue(binding)))
            case "queue":
                outputs.append(QueueOutput(binding["name"], *_queue(binding)))
            case "http":
                pass  # the result of an HTTP function is its response
            case other:
                raise ValueError(f"the local host does not know bindings of type {other!r}")
    if len(triggers) != 1:
        raise ValueError(f"it must have one trigger, not {len(triggers)}")
    return Function(metadata.name, metadata.function_id, triggers[0], tuple(outputs))


def _http_trigger(binding: Mapping[str, Any], function: str) -> HttpTrigger:
    return HttpTrigger(
        parameter=binding["name"],
        route=binding.get("route", function),
        methods=tuple(binding.get("methods", ())),
        auth_level=AuthLevel(binding.get("authLevel", "function").lower()),
    )


def _queue(binding: Mapping[str, Any]) -> tuple[str, str]:
    return binding["queueName"], binding.get("connection") or DEFAULT_CONNECTION
