"""The control endpoint, `/_emulator/...`: add faults, read the log, delete everything."""

import json
from dataclasses import asdict
from urllib.parse import parse_qs

from dev.provider.chat.service import ChatService
from dev.provider.faults import FaultBook
from dev.provider.idempotency import IdempotencyKeys
from dev.provider.journal import Journal
from dev.provider.service import Service
from dev.provider.wire import ApiError, Json, Reply, encode

_USES = (
    "GET /_emulator/health, POST|GET|DELETE /_emulator/faults, POST /_emulator/idempotency/on|off, "
    "GET /_emulator/log, "
    "GET /_emulator/responses/{id}, GET /_emulator/chats, POST /_emulator/reset"
)


class Control:
    def __init__(
        self, service: Service, chats: ChatService, faults: FaultBook, journal: Journal, keys: IdempotencyKeys
    ) -> None:
        self._service = service
        self._chats = chats
        self._keys = keys
        self._faults = faults
        self._journal = journal

    async def reply(self, method: str, path: str, query: str, body: bytes) -> Reply:
        try:
            value = await self._serve(method, path.removeprefix("/_emulator/").split("/"), query, body)
        except ApiError as error:
            return error.reply()
        return Reply(200, encode(value))

    async def _serve(self, method: str, parts: list[str], query: str, body: bytes) -> Json:
        match method, parts:
            case "GET", _:
                return self._read(parts, query)
            case "POST", ["faults"]:
                return self._push(body)
            case "DELETE", ["faults"]:
                self._faults.faults.clear()
                return {"faults": []}
            case "POST", ["idempotency", "on" | "off" as wanted]:
                self._keys.honoured = wanted == "on"
                return {"honoured": self._keys.honoured}
            case "POST", ["reset"]:
                self._chats.requests.clear()
                self._faults.faults.clear()
                self._keys.clear()
                await self._service.delete_all()
                self._journal.clear()
                return {"status": "ok"}
            case _:
                raise _unknown()

    def _read(self, parts: list[str], query: str) -> Json:
        match parts:
            case ["health"]:
                return {"status": "ok"}
            case ["faults"]:
                return {"faults": [asdict(fault) for fault in self._faults.faults]}
            case ["log"]:
                return self._log(parse_qs(query).get("response_id", [None])[-1])
            case ["chats"]:
                return {"chats": list(self._chats.requests)}
            case ["responses", response_id]:
                entry = self._service.ledger.entries.get(response_id)
                if entry is None:
                    raise ApiError(404, f"No response with id '{response_id}' is alive.")
                return {"id": entry.id, "request": entry.request, "conversation": entry.conversation}
            case _:
                raise _unknown()

    def _push(self, body: bytes) -> Json:
        try:
            value = json.loads(body)
        except ValueError as error:
            raise ApiError(400, f"The fault is not JSON: {error}") from None
        pushed = [self._faults.add(one) for one in (value if isinstance(value, list) else [value])]
        return {"faults": [asdict(fault) for fault in pushed]}

    def _log(self, response_id: str | None) -> Json:
        records = [record for record in self._journal.records if response_id in {None, record.response_id}]
        stored = [entry for entry in self._service.ledger.entries.values() if entry.stored]
        counters = {
            **{
                name: self._journal.requests[name]
                for name in ("create", "retrieve", "cancel", "delete", "chat")
            },
            "created": self._journal.created,
            "alive": len(stored),
        }
        return {"counters": counters, "requests": [record.as_json() for record in records]}


def _unknown() -> ApiError:
    return ApiError(404, f"The control endpoint has {_USES}.")
