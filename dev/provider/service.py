"""The operations of the Responses API: the engine's, made as strict as the documented service."""

import json
from contextlib import suppress
from typing import Any

from dev.provider.conversation import check_conversation, input_items
from dev.provider.engine import (
    Engine,
    Message,
    Receive,
    Send,
    new_response_id,
    public_error,
    public_event,
    to_response_id,
)
from dev.provider.handler import Model, Writer
from dev.provider.ledger import TERMINAL, Entry, Ledger
from dev.provider.plan import Plan, make_plan
from dev.provider.render import flip, render
from dev.provider.strict import check_request
from dev.provider.wire import ApiError, Json, encode


class Service:
    """One emulated provider, in memory."""

    def __init__(self, *, seconds: float, writer: Writer | None = None) -> None:
        self.ledger = Ledger()
        self._engine = Engine(Model(self._plan_of, seconds, writer).respond)

    def _plan_of(self, engine_id: str) -> Plan:
        return self.ledger.entries[to_response_id(engine_id)].plan

    async def admit(self, request: Any) -> Entry:
        """Check a create request and enter it in the ledger. Raises ApiError."""
        check_request(request)
        new = input_items(request["input"])
        self._engine.check(request)
        before: list[Json] = []
        if request.get("previous_response_id"):
            before = await self._continued(request["previous_response_id"])
        check_conversation(before, new)
        conversation = before + new
        entry = Entry(new_response_id(), request, conversation, make_plan(request, conversation))
        self.ledger.entries[entry.id] = entry
        return entry

    async def _continued(self, response_id: str) -> list[Json]:
        previous = self.ledger.previous(response_id)
        response = await self._read(previous)
        if response["status"] not in TERMINAL:
            message = f"Previous response with id '{response_id}' is still {response['status']}."
            raise ApiError(400, message, "previous_response_id", "previous_response_not_completed")
        return [*previous.conversation, *response["output"]]

    async def create(self, entry: Entry) -> bytes:
        try:
            response = render(entry, await self._engine.create(entry.id, entry.request))
        except ApiError:
            del self.ledger.entries[entry.id]
            raise
        if entry.background:
            # The documented service never finishes before it has answered.
            response |= {"status": "queued", "output": [], "usage": None, "completed_at": None}
        else:
            self._settle(entry, response)
        return encode(response)

    async def create_stream(self, entry: Entry, receive: Receive, send: Send) -> None:
        events = _Events(entry, send)
        await self._engine.create_stream(entry.id, entry.request, receive, events)
        try:
            events.check()
        except ApiError:
            del self.ledger.entries[entry.id]
            raise

    async def retrieve(self, response_id: str) -> bytes:
        entry = self.ledger.find(response_id)
        response = await self._read(entry)
        if entry.flipped_to is not None:
            return encode(flip(entry, response))
        return entry.final_body or encode(response)

    async def replay_stream(self, response_id: str, query: str, receive: Receive, send: Send) -> None:
        entry = self.ledger.find(response_id)
        events = _Events(entry, send)
        await self._engine.replay_stream(entry.id, query, receive, events)
        events.check()

    async def cancel(self, response_id: str) -> bytes:
        """Cancel; a response that is already finished is returned unchanged."""
        entry = self.ledger.find(response_id)
        if not entry.background:
            raise ApiError(400, "Cannot cancel a synchronous response.", "response_id")
        if (await self._read(entry))["status"] not in TERMINAL:
            try:
                await self._engine.cancel(entry.id)
            except ApiError as error:
                # The response finished while it was being cancelled.
                if error.status != 400:
                    raise
        return await self.retrieve(response_id)

    async def delete(self, response_id: str) -> bytes:
        entry = self.ledger.find(response_id)
        if entry.background and (await self._read(entry))["status"] not in TERMINAL:
            await self.cancel(response_id)
        del self.ledger.entries[response_id]
        await self._engine.delete(entry.id)
        return encode({"id": response_id, "object": "response", "deleted": True})

    async def input_items(self, response_id: str, query: str) -> bytes:
        entry = self.ledger.find(response_id)
        return encode(await self._engine.input_items(entry.id, query))

    async def delete_all(self) -> None:
        for entry in list(self.ledger.entries.values()):
            # The engine has no response if its client disconnected before it began.
            with suppress(ApiError):
                await self.delete(entry.id)
        self.ledger.entries.clear()

    async def _read(self, entry: Entry) -> Json:
        if entry.final is not None:
            return entry.final
        response = render(entry, await self._engine.retrieve(entry.id))
        self._settle(entry, response)
        return response

    def _settle(self, entry: Entry, response: Json) -> None:
        if response["status"] in TERMINAL:
            entry.final, entry.final_body = response, encode(response)


class _Events:
    """Translates the engine's server-sent events and sends them; keeps a refusal for `check`."""

    def __init__(self, entry: Entry, send: Send) -> None:
        self._entry = entry
        self._send = send
        self._buffer = b""
        self._refused: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if message["status"] < 400:
                await self._send(message)
            else:
                self._refused = message["status"]
            return
        self._buffer += message.get("body", b"")
        if self._refused is not None:
            return
        *blocks, self._buffer = self._buffer.split(b"\n\n")
        body = b"".join(self._translate(block) for block in blocks)
        if body or not message.get("more_body"):
            await self._send({**message, "body": body})

    def check(self) -> None:
        """Raise ApiError where the engine refused to stream."""
        if self._refused is not None:
            raise public_error(self._refused, json.loads(self._buffer))

    def _translate(self, block: bytes) -> bytes:
        event = public_event(block)
        if event is None:
            return block + b"\n\n"
        if "response" in event:
            engine = event["response"]
            event["response"] = render(self._entry, engine)
            if event["type"] == "response.created" and self._entry.background:
                event["response"]["status"] = "queued"
            elif event["type"] == "response.in_progress":
                event["response"]["status"] = "in_progress"
        return f"event: {event['type']}\ndata: ".encode() + encode(event) + b"\n\n"
