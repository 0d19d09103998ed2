"""The first invocation in a new process: all imports, the settings, connections, and the work itself.

Nothing of the app may be imported before it is measured, so the run is started by another process:
`python -m bench.cold PROVIDER STORAGE`.
"""

import asyncio
import importlib
import json
import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.measure import Meter
from bench.novel import AGENT, REQUEST
from dev.processes import ChildProcess

WATCHED_MODULES = ("openai", "pydantic", "azure.identity", "azure.data.tables", "azure.storage.queue")


async def first_invocation(meter: Meter, *, provider: str, storage: str, of: str) -> None:
    """Measure a `status` read, a `poll` (a tick over one pending run) or a `start`."""
    command = [sys.executable, "-m", "bench.cold", provider, storage]
    with ChildProcess("start a run", command, cwd=Path(__file__).parents[1]) as other:
        run_id = other.wait_for(r"^(run_\w+)$").group(1)
    _set_environment(provider, storage)
    with meter.measuring(count=1):
        began = time.perf_counter()
        app = importlib.import_module("function_app")
        meter.notes["import ms"] = round(1000 * (time.perf_counter() - began))
        match of:
            case "status":
                await _read(app, run_id)
            case "poll":
                await app.baton.tick()
            case "start":
                await _start(app)
        for module in WATCHED_MODULES:
            meter.notes[module] = module in sys.modules
    assert (await _read(app, run_id))["status"] == ("in_progress" if of == "poll" else "queued")
    await app.baton.close()


def _set_environment(provider: str, storage: str) -> None:
    os.environ |= {
        "AzureWebJobsStorage": storage,
        "OPENAI_BASE_URL": provider,
        "OPENAI_API_KEY": "bench",
        # Importing takes longer than this, so the run is due when the tick begins.
        "POLL_MIN_SECONDS": "0.1",
        "NOVELIST_MODEL": "stub",
        "ANALYST_MODEL": "stub",
    }


async def _start(app: ModuleType) -> dict[str, Any]:
    await app.baton.prepare()
    return await _answer(app, "start_run", body=json.dumps({"agent": AGENT, "input": REQUEST}).encode())


async def _read(app: ModuleType, run_id: str) -> dict[str, Any]:
    return await _answer(app, "get_run", run_id)


async def _answer(app: ModuleType, handler: str, *path: str, body: bytes = b"") -> dict[str, Any]:
    http = importlib.import_module("shared.web.http")
    request = http.Request(
        url="http://127.0.0.1/api/runs", headers={"content-type": "application/json"}, body=body
    )
    reply = await app.handlers.answer(getattr(app.handlers, handler), app.baton.api, request, *path)
    assert reply.status < 300, reply.body
    run: dict[str, Any] = json.loads(reply.body)
    return run


async def _start_and_print() -> None:
    _set_environment(*sys.argv[1:])
    app = importlib.import_module("function_app")
    print((await _start(app))["id"], flush=True)
    await app.baton.close()


if __name__ == "__main__":
    asyncio.run(_start_and_print())
