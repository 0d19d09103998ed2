"""The scenarios, and the outcome that each must have."""

import json
import random
import string
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.proofs.crash.client import Client
from tests.proofs.crash.delays import Delays
from tests.proofs.crash.payer import CONTINUING, RESTARTING
from tests.support.oracle import Expected


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What a client does, and how its runs must end."""

    name: str
    carry_out: Callable[[Client], Awaitable[None]]
    runs: Mapping[str, Expected]
    # How many responses are created when nothing crashes.
    creates: int
    delays: Delays = field(default_factory=Delays)
    # The faults of the provider, for the emulator.
    faults: tuple[Mapping[str, Any], ...] = ()
    session_deleted: bool = False
    # Whether a provider without background mode continues a text that it has begun.
    continues: bool = False


def _random_text(length: int) -> str:
    """Return a text that compression makes little shorter, so that it needs chunk rows; always the same."""
    return "".join(random.Random(length).choices(string.ascii_letters + string.digits + "-_", k=length))


# The amount that a person approves, instead of the one that the model has requested.
APPROVED = 20
# Longer than a run's row stores, and longer than one chunk row stores.
_LONG, _LONGER = _random_text(40_000), _random_text(980_000)
# A text of a worker, in characters of one to four bytes.
_GENERATED = "The ice sang \u00e4\u6f22\U0001f680. " * 20


def _script(*turns: Mapping[str, Any]) -> str:
    return f"Do it. [[script {json.dumps({'seconds': 0, 'queued_seconds': 0, 'turns': turns})}]]"


def _calls(tokens: int, **marks: str) -> dict[str, Any]:
    calls = [_call(tool, mark) for mark, tool in marks.items()]
    return {"calls": calls, "usage": _usage(tokens)}


def _call(tool: str, mark: str, **arguments: int) -> dict[str, Any]:
    return {"name": tool, "arguments": {"mark": mark, **arguments}, "call_id": f"call_{mark}"}


def _text(tokens: int, text: str) -> dict[str, Any]:
    return {"text": text, "usage": _usage(tokens)}


def _usage(tokens: int) -> dict[str, int]:
    return {"input_tokens": tokens, "output_tokens": tokens, "total_tokens": 2 * tokens}


async def _converse(client: Client) -> None:
    await client.start(
        "first",
        _script(
            _calls(1, rent="pay", map="look_up"), _calls(10, fuel="pay", road="look_up"), _text(100, _LONG)
        ),
    )
    await client.until("first")
    await client.start("second", _script(_text(1000, "And on.")), client.runs["first"]["session_id"])
    await client.until("second")
    await client.read_session("first")
    await client.list_runs()


async def _watch(client: Client) -> None:
    turns = {**_text(1, _LONG), "deltas": 12}, {**_text(10, "The end."), "deltas": 3}
    await client.start("first", _script(*turns[:1]), stream=True)
    await client.until("first")
    await client.start("second", _script(*turns[1:]), client.runs["first"]["session_id"], stream=True)
    await client.until("second")


async def _work_slowly(client: Client) -> None:
    await client.start("first", _script(_calls(1, rent="pay", map="look_up"), _text(10, "At last.")))
    await client.until("first")


async def _wait(client: Client) -> None:
    calls = [
        _call("look_up", "map"),
        _call("transfer", "rent", amount=500),
        _call("transfer", "fuel", amount=400),
        _call("donate", "trees", amount=300),
        _call("ask", "why"),
    ]
    await client.start("first", _script({"calls": calls, "usage": _usage(1)}, _text(10, "At last.")))
    await client.until("first", "requires_action")
    await client.list_waits()
    await client.answer("first", "rent", {"approve": True, "arguments": {"mark": "rent", "amount": APPROVED}})
    await client.answer("first", "fuel", {"approve": False, "reason": "Too much."})
    await client.answer("first", "why", {"output": "Because."})
    # Nobody answers the donation.
    await client.until("first")
    await client.list_calls("first")


async def _generate(client: Client) -> None:
    turns = _calls(1, rent="pay", map="look_up"), {**_text(1, _GENERATED), "deltas": 4}
    await client.start("first", _script(*turns), agent=CONTINUING.name)
    await client.until("first")


async def _generate_anew(client: Client) -> None:
    turns = (
        {**_calls(1, map="look_up"), "text": "First I look.", "deltas": 1},
        {**_text(1, _GENERATED), "deltas": 2},
    )
    await client.start("first", _script(*turns), agent=RESTARTING.name)
    await client.until("first")


async def _cancel(client: Client) -> None:
    await client.start("first", _script({"text": "never", "seconds": 3600}))
    await client.until("first", "in_progress")
    # The second poll finds no change.
    await client.round("first")
    await client.cancel("first")
    await client.until("first")


async def _late(client: Client) -> None:
    await client.start("first", _script({"text": "never", "seconds": 3600}))
    await client.until("first", "in_progress")
    await client.cancel("first")
    await client.until("first")
    await client.until_nothing_is_owed("first")


async def _late_and_deleted(client: Client) -> None:
    await client.start("first", _script({"text": "never", "seconds": 3600}))
    # If nothing crashes, the message to cancel the late response is still in the queue at this point.
    await client.until_adopted("first")
    await client.delete("first")
    await client.until_nothing_is_owed("first")
    await client.get("first")


async def _delete_run(client: Client) -> None:
    endless = {"text": "never", "seconds": 3600}
    await client.start("first", _script(_calls(1, rent="pay", map="look_up"), endless))
    await client.until("first", "in_progress", 2)
    # The second turn may have begun without its response.
    await client.round("first")
    await client.delete("first")
    await client.until_nothing_is_owed("first")
    await client.get("first")


async def _delete_session(client: Client) -> None:
    await client.start("first", _script(_text(1, _LONGER)))
    await client.until("first")
    await client.delete_session("first")
    await client.until_nothing_is_owed("first")
    await client.get("first")


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            name="conversation",
            carry_out=_converse,
            runs={
                "first": Expected(
                    status="completed",
                    text=_LONG,
                    total_tokens=222,
                    calls={"pay rent", "look_up map", "pay fuel", "look_up road"},
                ),
                "second": Expected(status="completed", text="And on.", total_tokens=2000),
            },
            creates=4,
        ),
        Scenario(
            name="watch",
            carry_out=_watch,
            runs={
                "first": Expected(status="completed", text=_LONG, total_tokens=2),
                "second": Expected(status="completed", text="The end.", total_tokens=20),
            },
            creates=2,
            # The first slice ends in the middle of the text.
            faults=({"kind": "stream_stalls", "operation": "retrieve", "after": 8, "times": 1},),
        ),
        Scenario(
            name="slow",
            carry_out=_work_slowly,
            runs={
                "first": Expected(
                    status="completed", text="At last.", total_tokens=22, calls={"pay rent", "look_up map"}
                )
            },
            creates=2,
            # The second tool is still at work when the result of the first one has been saved.
            delays=Delays(slow=frozenset({1, 2}), slow_calls=frozenset({"call_rent", "call_map"})),
        ),
        Scenario(
            name="wait",
            carry_out=_wait,
            runs={
                "first": Expected(
                    status="completed",
                    text="At last.",
                    total_tokens=22,
                    calls={"look_up map", "transfer rent", "transfer fuel", "donate trees", "ask why"},
                    closed={"transfer fuel": "refused", "donate trees": "timed_out", "ask why": "completed"},
                )
            },
            creates=2,
        ),
        Scenario(
            name="generate",
            carry_out=_generate,
            runs={
                "first": Expected(text=_GENERATED, calls={"pay rent", "look_up map"}, generated=True),
            },
            creates=0,
            continues=True,
        ),
        Scenario(
            name="generate_anew",
            carry_out=_generate_anew,
            runs={"first": Expected(text=_GENERATED, calls={"look_up map"}, generated=True)},
            creates=0,
        ),
        Scenario(
            name="cancel",
            carry_out=_cancel,
            runs={"first": Expected(status="cancelled", total_tokens=0)},
            creates=1,
            delays=Delays(endless=frozenset({1})),
        ),
        Scenario(
            name="late",
            carry_out=_late,
            runs={"first": Expected(status="cancelled", total_tokens=0)},
            creates=2,
            delays=Delays(endless=frozenset({1, 2}), late=frozenset({1})),
        ),
        Scenario(
            name="late_and_deleted",
            carry_out=_late_and_deleted,
            runs={"first": Expected(status=None)},
            creates=2,
            delays=Delays(endless=frozenset({1, 2}), late=frozenset({1})),
        ),
        Scenario(
            name="delete_run",
            carry_out=_delete_run,
            runs={"first": Expected(status=None, calls={"pay rent", "look_up map"})},
            creates=2,
            delays=Delays(endless=frozenset({2})),
        ),
        Scenario(
            name="delete_session",
            carry_out=_delete_session,
            runs={"first": Expected(status=None)},
            creates=1,
            session_deleted=True,
        ),
    )
}
