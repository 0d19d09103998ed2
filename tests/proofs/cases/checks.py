"""Compares what came of a case with what its file expects. Each check returns a sentence for each difference."""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from shared.web.http import Reply
from tests.proofs.cases import values
from tests.proofs.cases.case import Case
from tests.proofs.cases.check_requests import create, provider
from tests.proofs.cases.play import Outcome

Table = Mapping[str, Any]


def faults(case: Case, outcome: Outcome) -> list[str]:
    """Return everything in which a case differs from what is expected."""
    found = []
    for kind, expected in case.expect.items():
        for table in expected if isinstance(expected, list) else [expected]:
            found += [f"{kind}: {fault}" for fault in KINDS[kind](outcome, table)]
    return found


def _run(outcome: Outcome, table: Table) -> Iterator[str]:
    """A run as a client reads it in the end."""
    number = table.get("number", 0)
    if not outcome.runs or number > len(outcome.runs):
        yield f"run {number or 1} was not started"
        return
    run = outcome.runs[number - 1]
    for name, wanted in table.items():
        yield from RUN_CHECKS[name](outcome, run, wanted)


def _status(_outcome: Outcome, run: Table, wanted: str | list[str]) -> Iterator[str]:
    if run["status"] not in ([wanted] if isinstance(wanted, str) else wanted):
        yield f"status is {run['status']!r} and not {wanted!r}; error {run['error']}"


def _value(path: str) -> Callable[[Outcome, Table, Any], Iterator[str]]:
    return lambda _outcome, run, wanted: values.equal(run, {path: wanted})


def _error(_outcome: Outcome, run: Table, wanted: Table) -> Iterator[str]:
    yield from values.equal(run, {f"error.{name}": value for name, value in wanted.items()})


def _calls(_outcome: Outcome, run: Table, wanted: list[str]) -> Iterator[str]:
    """The tool calls in order, each as its name and its status."""
    found = [f"{call['name']} {call['status']}" for call in run["tool_calls"]]
    if found != wanted:
        yield f"tool calls are {found} and not {wanted}"


def _within(outcome: Outcome, run: Table, seconds: float) -> Iterator[str]:
    """How many seconds after the client's last step the run has ended."""
    if not run["completed_at"]:
        yield "it has not ended"
        return
    ended = datetime.fromisoformat(run["completed_at"])
    took = (ended - outcome.last_step_at).total_seconds()
    if took > seconds:
        yield f"it ended {took:g} s after the last step, and not within {seconds} s"


RUN_CHECKS: Mapping[str, Callable[[Outcome, Table, Any], Iterator[str]]] = {
    "number": lambda *_: iter(()),
    "status": _status,
    "text": _value("output_text"),
    "refusal": _value("refusal"),
    "turn": _value("turn"),
    "incomplete": _value("incomplete_details.reason"),
    "error": _error,
    "calls": _calls,
    "within": _within,
    "is": lambda _outcome, run, wanted: values.equal(run, wanted),
    "has": lambda _outcome, run, wanted: values.contain(run, wanted),
    "ends": lambda _outcome, run, wanted: values.end(run, wanted),
    "null": lambda _outcome, run, wanted: values.null(run, wanted),
    "nothing": lambda _outcome, run, wanted: values.nothing(run, wanted),
}


def _feed(outcome: Outcome, table: Table) -> Iterator[str]:
    """The feed of a run: the types of its events, and their text."""
    if not outcome.runs:
        yield "no run was started"
        return
    position = table.get("number", 0) - 1
    reader, events = outcome.feeds[position], outcome.events[position]
    for name, wanted in table.items():
        match name:
            case "has":
                yield from (f"no {one} in {reader.types}" for one in wanted if one not in reader.types)
            case "lacks":
                yield from (f"there is a {one}" for one in wanted if one in reader.types)
            case "shows":
                shown = json.dumps(events, ensure_ascii=False)
                yield from (f"no {one!r} in {shown}" for one in wanted if one not in shown)
            case "commentary":
                found = "".join(
                    event.get("text", "") for event in events if event["type"] == "commentary.delta"
                )
                if found != wanted:
                    yield f"the commentary is {found!r} and not {wanted!r}"
            case "number":
                pass
            case _:
                raise KeyError(name)


def _answer(outcome: Outcome, table: Table) -> Iterator[str]:
    """A reply to the client, by the name of its step."""
    reply = outcome.client.named[table["of"]]
    for name, wanted in table.items():
        yield from ANSWER_CHECKS[name](reply, wanted)


def _json(reply: Reply) -> Any:
    return json.loads(reply.body) if reply.body else None


def _headers(reply: Reply, wanted: Table) -> Iterator[str]:
    headers = {name.lower(): value for name, value in reply.headers.items()}
    for name, value in wanted.items():
        if headers.get(name.lower()) is None or value not in headers[name.lower()]:
            yield f"the header {name} is {headers.get(name.lower())!r}, without {value!r}"


def _headers_list(reply: Reply, wanted: Table) -> Iterator[str]:
    """A header with a list of names has these names, in any order and case."""
    headers = {name.lower(): value for name, value in reply.headers.items()}
    for name, names in wanted.items():
        found = {one.strip().lower() for one in headers.get(name.lower(), "").split(",")}
        if missing := [one for one in names if one.lower() not in found]:
            yield f"the header {name} is {headers.get(name.lower())!r}, without {missing}"


def _wakes(reply: Reply, wanted: bool) -> Iterator[str]:
    if bool(reply.messages) is not wanted:
        yield f"its messages for workers are {list(reply.messages)}"


def _lacks(reply: Reply, wanted: list[str]) -> Iterator[str]:
    text = reply.body.decode()
    yield from (f"there is {one!r} in {text[:300]}" for one in wanted if one in text)


ANSWER_CHECKS: Mapping[str, Callable[[Reply, Any], Iterator[str]]] = {
    "of": lambda *_: iter(()),
    "status": lambda reply, wanted: values.equal(
        {"status": reply.status, "body": reply.body[:300]}, {"status": wanted}
    ),
    "is": lambda reply, wanted: values.equal(_json(reply), wanted),
    "has": lambda reply, wanted: values.contain(_json(reply), wanted),
    "null": lambda reply, wanted: values.null(_json(reply), wanted),
    "given": lambda reply, wanted: values.given(_json(reply), wanted),
    "headers": _headers,
    "headers_list": _headers_list,
    "wakes": _wakes,
    "lacks": _lacks,
}


def _effects(outcome: Outcome, table: Table) -> Iterator[str]:
    """How often functions ran."""
    for name, wanted in table.items():
        yield from values.counted(f"calls of {name}", outcome.app.calls[name], wanted)


def _log(outcome: Outcome, table: Table) -> Iterator[str]:
    """The warnings of the start: there are none, or one of them has all these texts."""
    if table.get("silent") and outcome.warnings:
        yield f"there are warnings at the start: {outcome.warnings}"
    pieces = table.get("warns", [])
    if pieces and not any(all(one in line for one in pieces) for line in outcome.warnings):
        yield f"no warning at the start has {pieces}: {outcome.warnings}"


KINDS: Mapping[str, Callable[[Outcome, Table], Iterator[str]]] = {
    "run": _run,
    "feed": _feed,
    "create": create,
    "provider": provider,
    "answer": _answer,
    "effects": _effects,
    "log": _log,
}
