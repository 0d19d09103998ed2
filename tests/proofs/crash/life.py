"""One life of the app, in a process of its own, and what is to be found when it has done everything."""

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
from dataclasses import replace
from typing import Any

from dev.tether import PR_SET_PDEATHSIG
from shared.core.ids import all_shards, shard_of
from shared.core.response import Snapshot
from shared.ports.providers import DEFAULT_PROVIDER
from shared.steps.context import Context
from shared.store.rows import TICK_KEY
from shared.web.http import Request
from shared.web.runs_api import handlers
from shared.web.runs_api.handlers import Api, answer
from tests.proofs.crash.client import Client, Stuck
from tests.proofs.crash.host import Host, Place
from tests.proofs.crash.ledger import Ledger
from tests.proofs.crash.scenarios import Scenario
from tests.support.feeds import Reader

# Nothing here waits; a life that takes longer hangs, and is ended by a signal.
_LONGEST_SECONDS = 240


def warm_up(scenario: Scenario, place: Place) -> None:
    """Live once in this very process, so that the lives forked from it find everything imported."""
    asyncio.run(_live(scenario, place))
    assert threading.active_count() == 1, "a process with threads cannot be forked safely"


def fork_life(scenario: Scenario, place: Place) -> int:
    """Live in a forked process, which spares the imports, and return its exit status."""
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
    except BaseException:  # noqa: BLE001  (told to whoever reads the report; the process ends here)
        (place.folder / "error").write_text(traceback.format_exc())
    finally:
        os._exit(status)


async def _live(scenario: Scenario, place: Place) -> None:
    host = Host(place)
    client = Client(host, Ledger(place.folder / "sightings"), place.life)
    await scenario.carry_out(client)
    found = await _findings(host.unfused, client.runs)
    (place.folder / "findings").write_text(json.dumps(found))
    await host.close()


async def _findings(context: Context, runs: Mapping[str, Any]) -> dict[str, Any]:
    """Look at everything that is left, past the fused ports."""
    everywhere = dict.fromkeys(all_shards(), ("", "~"))
    keys = [row.key for row in await context.runs._table.query_each(everywhere, where={}, limit=1000)]
    run_rows = [key for key in keys if key.startswith("run|")]
    pending = [key for key in keys if key.startswith("pending|") and key != TICK_KEY]
    found: dict[str, Any] = {
        "runs": {},
        "run_rows": len(run_rows),
        "pending": pending,
        "outbox": [key for key in keys if key.startswith(("delivery|", "pending~"))],
    }
    for name, seen in runs.items():
        found["runs"][name] = await _run_findings(context, seen["id"])
        session = await context.sessions.read(seen["session_id"])
        assert session is not None
        found["session"] = {
            "deleted": session.session.deleted,
            "held_by": session.session.held_by,
            "runs": session.session.runs,
        }
    return found


async def _run_findings(context: Context, run_id: str) -> dict[str, Any]:
    stored = await context.runs.read(run_id)
    assert stored is not None
    run = stored.run
    api = Api(context, None, None, _nothing)
    request = Request(url="https://app.example/api/runs", headers={})
    reply = await answer(handlers.get_run, api, request, run_id)
    feed = await answer(handlers.get_events, api, replace(request, query={"limit": "1000"}), run_id)
    rows = await context.content._table.query(run_id, "", "~")
    pointed = {content.name for content in (run.input, *run.turns) if content.name}
    log = await context.runs._table.query(shard_of(run_id), f"event|{run_id}|", f"event|{run_id}}}")
    return {
        "status": reply.status,
        "body": json.loads(reply.body),
        "told": _text(json.loads(feed.body)) if feed.status == 200 else None,
        "stored": run.status,
        "unknown_creates": run.unknown_creates,
        "responses": [await _provider_says(context, response_id) for response_id in run.responses],
        "abandoned": [await _provider_says(context, response_id) for response_id in run.abandoned],
        "content_rows": len(rows),
        "stray_content": sorted({row.key.partition("|")[0] for row in rows} - pointed),
        "log_rows": len(log),
    }


def _text(feed: Any) -> str:
    """Return the text of a reader who has read the whole feed."""
    reader = Reader()
    reader.read_page(feed)
    return reader.text


async def _provider_says(context: Context, response_id: str) -> str:
    reply = await context.provider(DEFAULT_PROVIDER).read(response_id)
    return reply.status.value if isinstance(reply, Snapshot) else type(reply).__name__


async def _nothing() -> None:
    """Stand in for the creation of tables."""
