"""Microsoft's Python worker library: it indexes the app and calls its functions.

No other module imports it. It keeps its state in module globals, so a process can hold one app.
"""

import os
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import azure_functions_runtime as runtime  # type: ignore[import-untyped]
from azure_functions_runtime.bindings.datumdef import Datum  # type: ignore[import-untyped]
from azure_functions_runtime.native_invocation import (  # type: ignore[import-untyped]
    invocation_request_native,
)

from dev.host.errors import StartupError

__all__ = ["Completed", "Datum", "FunctionFailed", "index", "invoke", "stop"]


class FunctionFailed(Exception):
    """The function raised, or the worker library refused what it returned."""

    def __init__(self, error: str, trace: str = "") -> None:
        super().__init__(error)
        self.trace = trace


@dataclass(frozen=True)
class Completed:
    """A function's result, and its output bindings by parameter name."""

    returned: Datum | None
    outputs: Mapping[str, Datum]


class _BindingInfo(SimpleNamespace):
    inout = 2
    out = 1


class _StatusResult(SimpleNamespace):
    Failure = 0
    Success = 1


@dataclass(frozen=True)
class _RpcException:
    """The library makes it while it handles an exception, which is noted here: it passes on a text only."""

    message: str
    stack_trace: str
    error: BaseException | None = field(default_factory=sys.exception)


# In place of the protobuf module that defines the real host's messages.
_PROTOS = SimpleNamespace(
    BindingInfo=_BindingInfo,
    FunctionMetadataResponse=SimpleNamespace,
    RpcException=_RpcException,
    RpcFunctionMetadata=SimpleNamespace,
    RpcRetryOptions=SimpleNamespace,
    StatusResult=_StatusResult,
    WorkerInitResponse=SimpleNamespace,
    WorkerMetadata=SimpleNamespace,
)


async def index(app: Path) -> list[Any]:
    """Import the app, let the library check its bindings, and return the functions' metadata.

    Raises StartupError when the library refuses the app, the app its settings, or a module cannot be imported.
    """
    sys.path.insert(0, str(app))
    os.chdir(app)
    runtime.start_threadpool_executor()
    init = SimpleNamespace(capabilities={}, function_app_directory=str(app))
    properties = {"host": "127.0.0.1", "protos": _PROTOS}
    response = await runtime.worker_init_request(
        SimpleNamespace(request=SimpleNamespace(worker_init_request=init), properties=properties)
    )
    if response.result.status != _StatusResult.Success:
        failure: _RpcException = response.result.exception
        if failure.error is None:
            raise StartupError(failure.message)
        raise StartupError.of_import(failure.error, app)
    metadata = (await runtime.functions_metadata_request(None)).function_metadata_results
    if not metadata:
        raise StartupError(f"no functions found in {app / 'function_app.py'}")
    return list(metadata)


async def invoke(
    function_id: str, parameter: str, trigger: Datum, metadata: Mapping[str, Datum] | None = None
) -> Completed:
    """Call a function with its trigger's value. Raises FunctionFailed."""
    ok, returned, outputs, error, trace = await invocation_request_native(
        str(uuid.uuid4()), function_id, [(parameter, trigger)], dict(metadata or {})
    )
    if not ok:
        raise FunctionFailed(error or "", trace or "")
    return Completed(returned, dict(outputs))


def stop() -> None:
    """Refuse further calls of functions that are not async; those that still run keep their threads."""
    if executor := runtime.get_threadpool_executor():
        executor.shutdown(wait=False, cancel_futures=True)
