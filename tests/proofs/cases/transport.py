"""Stands in for the transport: answers from the script of a case, in virtual time, and records every request."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from multidict import CIMultiDict

from shared.adapters.http.access import Access, Connection
from shared.adapters.http.answer import Answer, NoAnswer
from shared.adapters.http.sse import EventReader
from shared.adapters.http.transport import Listener, Request, Transport
from tests.proofs.cases.case import Rule
from tests.proofs.cases.sent import Sent, fits, received

# What a provider does that works. A response has finished when it is read.
WORKING = (
    Rule(request="create", state="queued"),
    Rule(request="read", says="All is well."),
    Rule(request="slice", says="All is well."),
    Rule(request="cancel", state="cancelled"),
    Rule(request="delete", body='{"id": "@ID@", "object": "response", "deleted": true}'),
    Rule(request="any", status=404, body='{"error": {"message": "There is no such address."}}'),
)


class ScriptedTransport(Transport):
    """A transport without a network. `now` returns the second of the case."""

    def __init__(self, connection: Connection, rules: Sequence[Rule], now: Callable[[], float]) -> None:
        super().__init__(Access(connection), connection.connections)
        self.sent: list[Sent] = []
        self._connection = connection
        self._rules, self._now = (*rules, *WORKING), now
        self._used: Counter[int] = Counter()
        self._runs: list[str] = []
        # The create that made each response, and the events of its stream.
        self._makers: dict[str, Sent] = {}
        self._begun: dict[str, list[dict[str, Any]]] = {}

    async def send(self, request: Request) -> Answer | NoAnswer:
        sent = self._receive(request)
        rule = self._rule(sent)
        if fault := _fault(rule, request):
            return fault
        events = self._events(rule, sent)
        if events is not None:
            content = b"".join(map(_written, events))
            return Answer(200, CIMultiDict({"Content-Type": "text/event-stream"}), content)
        return self._answer(rule, sent)

    async def listen(self, request: Request, listener: Listener) -> Answer | NoAnswer | None:
        """Pass events as a real transport does, each in a chunk of its own.

        Only the listener of a create is asked whether to go on, because that of a slice measures real time.
        """
        sent = self._receive(request)
        rule = self._rule(sent)
        if fault := _fault(rule, request):
            return fault
        events = self._events(rule, sent)
        if events is None:
            return self._answer(rule, sent)
        reader = EventReader()
        for event in events:
            if sent.kind == "create" and listener.patience() is None:
                break
            for data in reader.feed(_written(event)):
                listener.receive(data)
        return None

    def of(self, kind: str) -> list[Sent]:
        return [one for one in self.sent if one.kind == kind]

    def _receive(self, request: Request) -> Sent:
        sent = received(request, _wire_headers(request, self._connection), self._now())
        if sent.kind == "create" and sent.run not in self._runs:
            self._runs.append(sent.run)
        return sent

    def _rule(self, sent: Sent) -> Rule:
        """Return the first rule that fits, and record the request."""
        maker = self._makers.get(sent.response_id)
        before, self.sent = self.sent, [*self.sent, sent]
        for number, rule in enumerate(self._rules):
            spent = rule.times and self._used[number] >= rule.times
            if not spent and fits(rule, sent, maker, before, self._runs):
                self._used[number] += 1
                return rule
        raise AssertionError("the last rule fits every request")

    def _answer(self, rule: Rule, sent: Sent) -> Answer:
        text = self._filled(rule, sent, _body(rule))
        if sent.kind == "create" and rule.status == 200:
            self._note(sent, [_read(text)])
        return Answer(
            rule.status, CIMultiDict({"Content-Type": "application/json", **rule.headers}), text.encode()
        )

    def _events(self, rule: Rule, sent: Sent) -> list[dict[str, Any]] | None:
        """Return the events of the rule's stream that the request asks for, or None when the answer is no stream."""
        text = rule.events
        if not text and rule.status == 200 and not rule.body and _asks_for_stream(sent):
            text = _stream(rule)
        if not text:
            return None
        events: list[dict[str, Any]] = json.loads(self._filled(rule, sent, text))
        if sent.kind == "create":
            self._note(sent, [event.get("response") for event in events], events)
        elif events:
            begun = self._begun.get(sent.response_id, [])
            events = [*(one for one in begun if _number(one) < _number(events[0])), *events]
        after = int(dict(sent.query).get("starting_after", -1))
        return [event for event in events if event.get("sequence_number", after + 1) > after]

    def _note(self, sent: Sent, responses: Sequence[object], events: Sequence[dict[str, Any]] = ()) -> None:
        """Remember which create made these responses, with which events."""
        for response in responses:
            if isinstance(response, dict) and isinstance(response.get("id"), str):
                self._makers.setdefault(response["id"], sent)
                self._begun.setdefault(response["id"], list(events))

    def _filled(self, rule: Rule, sent: Sent, text: str) -> str:
        """Put in the id of the response that the request is about, and the long text."""
        response_id = sent.response_id or f"resp_{len(self.of('create'))}"
        return text.replace("@ID@", json.dumps(response_id)[1:-1]).replace("@LONG@", "k" * rule.long)


def _wire_headers(request: Request, connection: Connection) -> dict[str, str]:
    """Return the headers as the real transport sends them."""
    # Extra headers of all requests belong to the connection. The real transport, or the provider, adds them.
    extra = getattr(connection, "headers", {})
    return {**extra, **request.headers, "Authorization": f"Bearer {connection.api_key}"}


def _fault(rule: Rule, request: Request) -> NoAnswer | None:
    if rule.lost:
        return NoAnswer("the provider gave no answer: ServerDisconnectedError", may_be_done=True)
    if rule.slow > request.within.total_seconds():
        return _timed_out()
    return None


def _timed_out() -> NoAnswer:
    """Return what the real transport returns when only a part of the body has arrived in time."""
    return NoAnswer("the provider gave no answer: TimeoutError", may_be_done=True, slow=True)


def _asks_for_stream(sent: Sent) -> bool:
    return sent.kind == "slice" or (sent.kind == "create" and sent.body.get("stream") is True)


def _body(rule: Rule) -> str:
    """Return the body of an answer that is no stream."""
    if rule.body or rule.status != 200:
        return rule.body
    output = rule.output or json.dumps([_message(rule.says)] if rule.says else [])
    head = json.dumps({"object": "response", "background": True, "status": rule.state or "completed"})
    return f'{{"id": "@ID@", {head[1:-1]}, "output": {output}}}'


def _stream(rule: Rule) -> str:
    """Return the events of a stream with the answer of a rule."""
    if rule.state in {"queued", "in_progress"}:
        names = {"response.created": 0, "response.in_progress": 1}
        return f"[{', '.join(_event(name, number, _body(rule)) for name, number in names.items())}]"
    delta = {"type": "response.output_text.delta", "sequence_number": 2, "delta": rule.says}
    deltas = [json.dumps(delta)] if rule.says else []
    return f"[{', '.join([*deltas, _event('response.completed', 3, _body(rule))])}]"


def _event(name: str, number: int, response: str) -> str:
    return f'{{"type": "{name}", "sequence_number": {number}, "response": {response}}}'


def _message(text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "role": "assistant", "status": "completed", "content": [part]}


def _read(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _number(event: Mapping[str, Any]) -> int:
    return int(event.get("sequence_number", 0))


def _written(event: Mapping[str, Any]) -> bytes:
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()
