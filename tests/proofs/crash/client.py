"""A client as a careful one is written: it repeats what got no answer, and remembers what it was told."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.core import ids
from shared.web.http import Request
from shared.web.runs_api import handlers
from tests.proofs.crash.host import TICK, Host
from tests.proofs.crash.ledger import Ledger
from tests.proofs.crash.payer import NAME

_TERMINAL = {"completed", "failed", "cancelled", "incomplete", "expired"}
_DAY_SECONDS = 86_400
_END_OF_TIME = datetime.max.replace(tzinfo=UTC)
# Ticks that nothing needs; a run that is not done by then is stuck.
_PATIENCE = 30


class Stuck(Exception):
    """Something that should have come about by itself has not."""


class Client:
    """Talks to the app and writes down each answer, where the crash of the app cannot touch it."""

    def __init__(self, host: Host, sightings: Ledger, life: int) -> None:
        self._host = host
        self._sightings = sightings
        self._life = life
        # The runs by their Idempotency-Key, as they were last seen.
        self.runs: dict[str, Any] = {}
        for seen in sightings.entries():
            if seen["body"] and seen["name"]:
                self.runs[seen["name"]] = seen["body"]

    async def start(
        self, name: str, text: str, session_id: str | None = None, *, stream: bool = False
    ) -> None:
        """Start a run, or look at it if this start has been answered before."""
        if name in self.runs:
            await self.get(name)
            return
        body = {"agent": NAME, "input": text, "deadline_seconds": _DAY_SECONDS, "stream": stream}
        body |= {"session_id": session_id} if session_id else {}
        request = _request("runs", json.dumps(body).encode(), **{"idempotency-key": name})
        await self._ask(name, "start", handlers.start_run, request)

    async def get(self, name: str) -> Any:
        return await self._ask(name, "get", handlers.get_run, _request("runs"), self.runs[name]["id"])

    async def until(self, name: str, status: str = "", turn: int = 0) -> None:
        """Wait for a status, or for the end; does not wait for a run that has ended or is gone."""
        for _ in range(_PATIENCE):
            run = await self.get(name)
            if run is None or run["status"] in _TERMINAL:
                return
            if run["status"] == status and run["turn"] >= turn:
                return
            await self.round(name)
        raise Stuck(f"run {name} is still {self.runs[name]['status']} in turn {self.runs[name]['turn']}")

    async def cancel(self, name: str) -> None:
        await self._ask(name, "cancel", handlers.cancel_run, _request("runs"), self.runs[name]["id"])

    async def delete(self, name: str) -> None:
        await self._ask(name, "delete", handlers.delete_run, _request("runs"), self.runs[name]["id"])

    async def delete_session(self, name: str) -> None:
        session_id = self.runs[name]["session_id"]
        await self._ask("", "delete_session", handlers.delete_session, _request("sessions"), session_id)

    async def read_session(self, name: str) -> None:
        session_id = self.runs[name]["session_id"]
        await self._ask("", "get_session", handlers.get_session, _request("sessions"), session_id)

    async def list_runs(self) -> None:
        await self._ask("", "list", handlers.get_runs, _request("runs"))

    async def round(self, name: str, by: timedelta = TICK) -> None:
        await self._host.round(ids.shard_of(self.runs[name]["id"]), by)

    async def until_adopted(self, name: str) -> None:
        """Wait until the run has a response, which a client cannot see."""
        for _ in range(_PATIENCE):
            stored = await self._host.unfused.runs.read(self.runs[name]["id"])
            if stored and (stored.run.responses or stored.run.terminal):
                return
            await self.round(name)
        raise Stuck(f"run {name} has no response")

    async def until_nothing_is_owed(self, name: str) -> None:
        """Let an hour pass again and again, as long as it takes until the app owes nothing any more."""
        shard = ids.shard_of(self.runs[name]["id"])
        for _ in range(_PATIENCE):
            owed = await self._host.unfused.shards.owed(shard, _END_OF_TIME)
            if not owed.runs and not owed.clocks:
                return
            await self.round(name, timedelta(minutes=15))
        raise Stuck(f"{len(owed.runs)} owed rows and {len(owed.clocks)} clock rows are left")

    async def _ask(self, name: str, asked: str, handler: Any, request: Request, *path: str) -> Any:
        reply = await self._host.ask(handler, request, *path)
        body = json.loads(reply.body) if reply.body else None
        found = body if reply.status < 300 else None
        self._sightings.add(
            life=self._life, name=name, asked=asked, status=reply.status, body=found and _brief(found)
        )
        if reply.status >= 500:
            raise Stuck(f"{asked} of {name} was answered by {reply.status}: {body}")
        if found and name:
            self.runs[name] = found
        return found


def _request(path: str, body: bytes = b"", **headers: str) -> Request:
    return Request(url=f"https://app.example/api/{path}", headers=headers, body=body)


def _brief(body: Any) -> Any:
    """Return what an answer says without its texts, which may be long."""
    return {key: value for key, value in body.items() if key not in {"output", "output_text", "transcript"}}
