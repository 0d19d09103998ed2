"""A careful client: it repeats requests that got no answer, and keeps the answers."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.core import ids
from shared.web.http import Request
from shared.web.runs_api import handlers
from tests.proofs.crash.host import TICK, Host
from tests.proofs.crash.ledger import Ledger
from tests.proofs.crash.payer import NAME
from tests.support.oracle import TERMINAL

_DAY_SECONDS = 86_400
_END_OF_TIME = datetime.max.replace(tzinfo=UTC)
# More ticks than any scenario needs; a run that is not done by then is stuck.
_MOST_TICKS = 30


class Stuck(Exception):
    """The app did not do in time what it has to do by itself."""


class Client:
    """Sends requests to the app, and writes each answer to a file, which stays when the app crashes."""

    def __init__(self, host: Host, sightings: Ledger, life: int) -> None:
        self._host = host
        self._sightings = sightings
        self._life = life
        # The last answer about each run, by its Idempotency-Key.
        self.runs: dict[str, Any] = {}
        for seen in sightings.entries():
            if seen["body"] and seen["name"]:
                self.runs[seen["name"]] = seen["body"]

    async def start(
        self,
        name: str,
        text: str,
        session_id: str | None = None,
        *,
        agent: str = NAME,
        stream: bool = False,
    ) -> None:
        """Start a run, or read it if this start has been answered before."""
        if name in self.runs:
            await self.get(name)
            return
        body = {"agent": agent, "input": text, "deadline_seconds": _DAY_SECONDS, "stream": stream}
        body |= {"session_id": session_id} if session_id else {}
        request = _request("runs", json.dumps(body).encode(), **{"idempotency-key": name})
        await self._send(name, "start", handlers.start_run, request)

    async def get(self, name: str) -> Any:
        return await self._send(name, "get", handlers.get_run, _request("runs"), self.runs[name]["id"])

    async def until(self, name: str, status: str = "", turn: int = 0) -> None:
        """Wait for a status, or until the run has ended or is deleted."""
        for _ in range(_MOST_TICKS):
            run = await self.get(name)
            if run is None or run["status"] in TERMINAL:
                return
            if run["status"] == status and run["turn"] >= turn:
                return
            await self.round(name)
        raise Stuck(f"run {name} is still {self.runs[name]['status']} in turn {self.runs[name]['turn']}")

    async def cancel(self, name: str) -> None:
        await self._send(name, "cancel", handlers.cancel_run, _request("runs"), self.runs[name]["id"])

    async def answer(self, name: str, call: str, answer: Any) -> None:
        """Answer a call of the first turn. The same answer again changes nothing."""
        path = self.runs[name]["id"], ids.call_id(1, f"call_{call}")
        await self._send(
            "", "answer", handlers.post_answer, _request("runs", json.dumps(answer).encode()), *path
        )

    async def list_calls(self, name: str) -> None:
        await self._send("", "calls", handlers.get_calls, _request("runs"), self.runs[name]["id"])

    async def list_waits(self) -> None:
        await self._send("", "waits", handlers.get_waits, _request("waits"))

    async def delete(self, name: str) -> None:
        await self._send(name, "delete", handlers.delete_run, _request("runs"), self.runs[name]["id"])

    async def delete_session(self, name: str) -> None:
        session_id = self.runs[name]["session_id"]
        await self._send("", "delete_session", handlers.delete_session, _request("sessions"), session_id)

    async def read_session(self, name: str) -> None:
        session_id = self.runs[name]["session_id"]
        await self._send("", "get_session", handlers.get_session, _request("sessions"), session_id)

    async def list_runs(self) -> None:
        await self._send("", "list", handlers.get_runs, _request("runs"))

    async def round(self, name: str, by: timedelta = TICK) -> None:
        await self._host.round(ids.shard_of(self.runs[name]["id"]), by)

    async def until_adopted(self, name: str) -> None:
        """Wait until the run has a response. A client cannot see this, so the stored run is read."""
        for _ in range(_MOST_TICKS):
            stored = await self._host.unfused.runs.read(self.runs[name]["id"])
            if stored and (stored.run.responses or stored.run.terminal):
                return
            await self.round(name)
        raise Stuck(f"run {name} has no response")

    async def until_nothing_is_owed(self, name: str) -> None:
        """Let time pass until the app owes nothing more."""
        shard = ids.shard_of(self.runs[name]["id"])
        for _ in range(_MOST_TICKS):
            owed = await self._host.unfused.shards.owed(shard, _END_OF_TIME)
            if not owed.runs and not owed.clocks:
                return
            await self.round(name, timedelta(minutes=15))
        raise Stuck(f"{len(owed.runs)} owed rows and {len(owed.clocks)} clock rows are left")

    async def _send(self, name: str, operation: str, handler: Any, request: Request, *path: str) -> Any:
        reply = await self._host.handle(handler, request, *path)
        body = json.loads(reply.body) if reply.body else None
        found = body if reply.status < 300 else None
        self._sightings.add(
            life=self._life, name=name, asked=operation, status=reply.status, body=found and _brief(found)
        )
        if reply.status >= 500:
            raise Stuck(f"{operation} of {name} was answered {reply.status}: {body}")
        if found and name:
            self.runs[name] = found
        return found


def _request(path: str, body: bytes = b"", **headers: str) -> Request:
    return Request(url=f"https://app.example/api/{path}", headers=headers, body=body)


def _brief(body: Any) -> Any:
    """Return an answer without its texts, which may be long."""
    return {key: value for key, value in body.items() if key not in {"output", "output_text", "transcript"}}
