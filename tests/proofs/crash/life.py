"""One life of the app, in a process of its own, and what is left after it."""

import asyncio
import ctypes
import json
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from dev.tether import PR_SET_PDEATHSIG
from shared.core.ids import all_shards
from shared.core.response import Snapshot
from shared.ports.providers import DEFAULT_PROVIDER
from shared.steps.context import Context
from tests.proofs.crash.client import Client, Stuck
from tests.proofs.crash.host import Host, Place
from tests.proofs.crash.ledger import Ledger
from tests.proofs.crash.revival import revive
from tests.proofs.crash.scenarios import Scenario
from tests.support.client import Client as ApiClient
from tests.support.oracle import read_as_client

# Nothing here waits. A life that takes longer hangs, and a signal ends it.
_LONGEST_SECONDS = 240


def warm_up(scenario: Scenario, place: Place) -> None:
    """Run one life in this process, so that the lives forked from it need no imports."""
    asyncio.run(_live(scenario, place))
    assert threading.active_count() == 1, "a process with threads cannot be forked safely"


def fork_life(scenario: Scenario, place: Place) -> int:
    """Run a life in a forked process, which needs no imports, and return its exit status."""
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _live_and_exit(scenario, place, parent)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _live_and_exit(scenario: Scenario, place: Place, parent: int) -> None:
    status = 1
    try:
        signal.alarm(_LONGEST_SECONDS)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            logging.basicConfig(filename=place.folder / "log", level=logging.WARNING)
            asyncio.run(_live(scenario, place))
            status = 0
    except Stuck as stuck:
        (place.folder / "error").write_text(str(stuck))
    except BaseException:  # noqa: BLE001  (shown in the report; the process ends here)
        (place.folder / "error").write_text(traceback.format_exc())
    finally:
        os._exit(status)


async def _live(scenario: Scenario, place: Place) -> None:
    host = Host(place)
    client = Client(host, Ledger(place.folder / "sightings"), place.life)
    if place.life > 1:
        revival = await revive(host, place.began)
        (place.folder / "revival").write_text(json.dumps(revival.as_json()))
    await scenario.carry_out(client)
    found = await _findings(host.unfused, client.runs)
    (place.folder / "findings").write_text(json.dumps(found))
    await host.close()


async def _findings(context: Context, runs: Mapping[str, Any]) -> dict[str, Any]:
    """Read everything that is left, past the fused ports."""
    everywhere = dict.fromkeys(all_shards(), ("", "~"))
    rows = await context.runs._table.query_each(everywhere, where={}, limit=1000)
    found: dict[str, Any] = {"rows": [row.key for row in rows], "runs": {}}
    for name, seen in runs.items():
        found["runs"][name] = await _run_findings(context, name, seen["id"])
        stored = await context.sessions.read(seen["session_id"])
        assert stored is not None
        session = stored.session
        found["session"] = {"deleted": session.deleted, "held_by": session.held_by, "runs": session.runs}
    return found


async def _run_findings(context: Context, name: str, run_id: str) -> dict[str, Any]:
    stored = await context.runs.read(run_id)
    assert stored is not None
    run = stored.run
    responses = [await _status_at_provider(context, response_id) for response_id in run.responses]
    seen = await read_as_client(ApiClient(context), run_id, name=name, responses=responses)
    return {
        "id": run.id,
        "seen": asdict(seen),
        "stored": run.status,
        "unknown_creates": run.unknown_creates,
        "abandoned": [await _status_at_provider(context, response_id) for response_id in run.abandoned],
        "content_rows": len(await context.content._table.query(run_id, "", "~")),
    }


async def _status_at_provider(context: Context, response_id: str) -> str:
    reply = await context.provider(DEFAULT_PROVIDER).read(response_id)
    return reply.status.value if isinstance(reply, Snapshot) else type(reply).__name__
