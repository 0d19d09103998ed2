"""Compares the requests that the provider of a case received with what its file expects."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.proofs.cases import values
from tests.proofs.cases.play import Outcome
from tests.proofs.cases.sent import Sent, repeated_call_ids

Table = Mapping[str, Any]


def create(outcome: Outcome, table: Table) -> Iterator[str]:
    """What the app sent in a create."""
    creates = outcome.app.transport.of("create")
    number = table.get("number", 0)
    if number > len(creates):
        yield f"there is no create {number}, only {len(creates)}"
        return
    sent = creates[number - 1]
    for name, wanted in table.items():
        yield from CREATE_CHECKS[name](sent, wanted)


def _sends(sent: Sent, wanted: list[str]) -> Iterator[str]:
    if sent.kinds != wanted:
        yield f"it sends {sent.kinds} and not {wanted}"


def _chained(sent: Sent, wanted: bool) -> Iterator[str]:
    if ("previous_response_id" in sent.body) is not wanted:
        yield f"previous_response_id is {sent.body.get('previous_response_id')!r}"


def _continues(sent: Sent, wanted: str) -> Iterator[str]:
    """The provider gets an earlier item: with the previous response, or sent again."""
    if "previous_response_id" not in sent.body and wanted not in sent.kinds:
        yield f"the provider does not get the {wanted}: {sent.kinds}"


def _one_id_each(sent: Sent, _wanted: bool) -> Iterator[str]:
    if repeated := repeated_call_ids(sent):
        yield f"call ids occur twice: {repeated}"


def _output(sent: Sent, wanted: Table) -> Iterator[str]:
    """What the model receives for its last call."""
    outputs = [item for item in sent.items if str(item.get("type")).endswith("_call_output")]
    if not outputs:
        yield f"the model receives no output, but {sent.kinds}"
        return
    output = outputs[-1].get("output")
    text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
    for name, value in wanted.items():
        match name:
            case "call_id":
                yield from values.equal(outputs[-1], {"call_id": value})
            case "is":
                yield from values.equal(outputs[-1], {"output": value})
            case "has":
                yield from (
                    f"the model does not receive {one!r}, but {text}" for one in value if one not in text
                )
            case "has_one_of":
                if not any(one in text for one in value):
                    yield f"the model receives none of {value}, but {text}"
            case "lacks":
                yield from (f"the model receives {one!r}: {text}" for one in value if one in text)
            case _:
                raise KeyError(name)


CREATE_CHECKS: Mapping[str, Callable[[Sent, Any], Iterator[str]]] = {
    "number": lambda *_: iter(()),
    "sends": _sends,
    "carries": lambda sent, wanted: (f"no {one} in {sent.kinds}" for one in wanted if one not in sent.kinds),
    "leaves_out": lambda sent, wanted: (f"it sends the {one}" for one in wanted if one in sent.kinds),
    "chained": _chained,
    "continues": _continues,
    "one_id_each": _one_id_each,
    "output": _output,
    "is": lambda sent, wanted: values.equal(sent.body, wanted),
}


def provider(outcome: Outcome, table: Table) -> Iterator[str]:
    """The requests that the provider received: how many of each kind, and their headers."""
    transport = outcome.app.transport
    creates = transport.of("create")
    for name, wanted in table.items():
        match name:
            case "creates" | "reads" | "slices" | "cancels" | "deletes" | "unknown":
                kind = name if name == "unknown" else name[:-1]
                yield from values.counted(name, len(transport.of(kind)), wanted)
            case "headers_of_creates":
                missing = [one for one in wanted for sent in creates if not sent.header(one)]
                yield from (f"a create has no {one}" for one in dict.fromkeys(missing))
            case "headers_of_all":
                for one, value in wanted.items():
                    found = {sent.header(one) for sent in transport.sent}
                    if found != {value}:
                        yield f"{one} is {found} and not {value!r} in every request"
            case "keys":
                yield from _keys([sent.header("Idempotency-Key") for sent in creates], wanted)
            case "never_asks_for":
                yield from (
                    f"{one} is in {sent.url}" for sent in transport.sent for one in wanted if one in sent.url
                )
            case _:
                raise KeyError(name)


def _keys(found: list[str | None], wanted: str) -> Iterator[str]:
    """Which creates have the same Idempotency-Key: "aab" means that the first two have one, the third has another."""
    names: dict[str | None, str] = {}
    for key in found:
        names.setdefault(key, chr(ord("a") + len(names)))
    pattern = "".join(names[key] for key in found)
    if None in found or pattern != wanted:
        yield f"the keys of the creates are {found}, and not as in {wanted!r}"
