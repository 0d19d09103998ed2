"""A complete run with each fault at each of its requests in turn: it ends as it does without faults."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import asdict
from datetime import timedelta

import pytest

from shared.core.calls import AnswerType, WaitKind
from shared.core.log import LogEntry
from shared.core.run import Run, RunStatus, Step
from shared.errors import Conflict, NotFound
from shared.ports.agents import WaitNeeded
from shared.usecases.answer import Approve, Refuse, SendOutput
from shared.usecases.cancel import cancel
from shared.usecases.delete import delete_run
from shared.usecases.read import output_of, owned_run
from tests.proofs.faults.conftest import STALL_SECONDS
from tests.proofs.faults.network import Fault, FaultRule
from tests.proofs.faults.rig import (
    CONTINUES,
    ENDLESS,
    FACTS,
    NOVEL,
    PATIENCE_SECONDS,
    RESTARTS,
    TOOLS,
    WITH_TOOLS,
    WITH_WAITS,
    Bench,
    Rig,
    bench,
)
from tests.support.oracle import Effects, Expected, judge_effects, judge_rows, judge_run, judge_session
from tests.support.world import CALLER

# So many runs go on at the same time when they mostly wait for a reply that never comes.
WAITING = 8
CALLS = [f"{name} call_{name}" for name in TOOLS]


async def complete(rig: Rig) -> Expected:
    """A run with tools and long texts, and a client that reads it in the end."""
    await rig.start(WITH_TOOLS)
    await rig.until(lambda run: run.terminal)
    text = await rig.insist(lambda: read_text(rig))
    assert text == NOVEL
    run = await rig.run()
    replies = [await rig.provider.read(response_id) for response_id in run.responses]
    used = sum(reply.usage.total_tokens for reply in replies)  # type: ignore[union-attr]
    return Expected(text=NOVEL, calls=CALLS, total_tokens=used)


async def generated(rig: Rig) -> Expected:
    """A run with tools and long texts at a provider without background mode, which continues a text."""
    return await _generated(rig, CONTINUES)


async def generated_anew(rig: Rig) -> Expected:
    """Such a run at a provider that cannot continue a text."""
    return await _generated(rig, RESTARTS)


async def _generated(rig: Rig, provider: str) -> Expected:
    rig.generates_at(provider)
    await rig.start(WITH_TOOLS)
    rig.from_here()
    run = await rig.until(lambda run: run.terminal)
    assert await rig.insist(lambda: read_text(rig)) == NOVEL
    assert not (run.restarts if provider == CONTINUES else run.joins + run.loose_joins)
    return Expected(text=NOVEL, calls=CALLS, generated=True)


async def read_text(rig: Rig) -> str:
    stored = await owned_run(rig.context, CALLER, rig.run_id)
    output = await output_of(rig.context, stored.run)
    assert output
    return json.loads(output)[0]["content"][0]["text"]


async def answered(rig: Rig) -> Expected:
    """A run that waits for an approval, which comes with long arguments, and for an output of its caller."""
    rig.agents.waiting = {
        "pay": WaitNeeded(WaitKind.APPROVAL, timedelta(days=1)),
        "ask": WaitNeeded(WaitKind.OUTPUT, timedelta(days=1)),
    }
    await rig.start(WITH_WAITS)
    await rig.until(lambda run: run.status is RunStatus.REQUIRES_ACTION)
    rig.from_here()
    assert await rig.answer("call_pay", Approve({"note": NOVEL})) == AnswerType.APPROVED
    assert await rig.answer("call_ask", SendOutput(FACTS)) == AnswerType.OUTPUT
    with pytest.raises(Conflict):
        await rig.answer("call_pay", Refuse("too late"))
    await rig.until(lambda run: run.terminal)
    assert [arguments for name, arguments in rig.agents.given if name == "pay"] == [
        json.dumps({"note": NOVEL}, separators=(",", ":"))
    ]
    return Expected(text="done", calls=["pay call_pay", "ask call_ask"], closed={"ask call_ask": "completed"})


async def cancelled(rig: Rig) -> Expected:
    """A run that is cancelled while the provider works on its response."""
    rig.endless = True
    await rig.start(ENDLESS)
    await rig.until(lambda run: run.status is RunStatus.IN_PROGRESS)
    rig.from_here()
    await rig.ask(cancel)
    await rig.until(lambda run: run.terminal)
    return Expected(status="cancelled")


async def deleted(rig: Rig) -> Expected:
    """A run with long texts that is deleted after it has ended."""
    await rig.start(WITH_TOOLS)
    rig.last = await rig.until(lambda run: run.terminal)
    await forget(rig)
    return Expected(status=None, calls=CALLS)


async def deleted_at_work(rig: Rig) -> Expected:
    """A run that is deleted while the provider works on its response."""
    rig.endless = True
    await rig.start(ENDLESS)
    rig.last = await rig.until(lambda run: run.status is RunStatus.IN_PROGRESS)
    await forget(rig)
    return Expected(status=None)


async def forget(rig: Rig) -> None:
    rig.from_here()
    try:
        await rig.ask(delete_run)
    except NotFound:
        assert rig.failures, "no earlier request deleted it"
    with pytest.raises(NotFound):
        await rig.insist(lambda: owned_run(rig.context, CALLER, rig.run_id))
    run = await rig.until(lambda run: run.step is Step.NOTHING, seconds=60)
    assert run.status is RunStatus.DELETED


SCENARIOS: Mapping[str, Callable[[Rig], Awaitable[Expected]]] = {
    each.__name__: each
    for each in (complete, answered, generated, generated_anew, cancelled, deleted, deleted_at_work)
}
# Their long texts make these scenarios slow, so they have only one of those faults that look alike to an app.
_UNLIKE = (Fault.BUSY, Fault.LATE, Fault.LOST, Fault.BROKEN, Fault.STALLED_AFTER)
FAULTS = {
    "deleted": _UNLIKE,
    "answered": _UNLIKE,
    "generated": (Fault.BUSY, Fault.LATE, Fault.LOST, Fault.BROKEN, Fault.CUT_BODY, Fault.CUT_UNSEEN),
    "generated_anew": (Fault.LOST, Fault.CUT_UNSEEN),
}
CASES = [(name, fault) for name in SCENARIOS for fault in FAULTS.get(name, Fault)]


async def check_the_end(rig: Rig, expected: Expected) -> None:
    """Check what must be true at the end of every run, also after the last late request has arrived."""
    await rig.network.settle()
    run, effects = await rig.run(), Effects.of(rig.agents.effects)
    held = await rig.plain.sessions.read(run.session_id)
    assert held
    gone = expected.status is None
    findings = [
        *judge_run(expected, await rig.seen(), effects),
        *judge_effects(effects, [expected]),
        *judge_rows(
            await rig.rows(), [run.id], {run.id} if gone else (), len(await rig.texts()) if gone else 0
        ),
        *judge_session(asdict(held.session), 1),
    ]
    assert not findings, "; ".join(map(str, findings))
    await creates_are_accounted_for(rig)
    if not gone:
        await check_log_and_texts(rig, run)


async def check_log_and_texts(rig: Rig, run: Run) -> None:
    """Check what no client sees of a run that has ended."""
    lines = await rig.plain.runs.log(run.id)
    assert [line.number for line in lines] == list(range(1, run.entries + 1))
    assert len({identity(line.entry) for line in lines}) == len(lines)
    assert sum(line.entry.stream_events for line in lines) == run.stream_events
    left = await rig.texts() - await rig.texts_meant()
    # A start that was not accepted leaves its input, and a worker the part of a text that it could not save. All other
    # texts are pointed to.
    assert all(name.startswith(("input-", "slice-")) for name in left), left
    assert not left or rig.failures


def identity(entry: LogEntry) -> tuple[object, ...]:
    """Return a value that is different for each entry of a log."""
    names = ("type", "turn", "call_id", "item", "part", "start", "content", "characters")
    return tuple(getattr(entry, name, None) for name in names)


async def creates_are_accounted_for(rig: Rig) -> None:
    """A response is created twice only if the reply to a create was lost, and the run counts such creates."""
    run = await rig.run()
    creates = rig.creates()
    faulty = [one for one in creates if one.fault]
    extra = [one for one in faulty if one.answered == 200]
    assert all(one.answered in {200, None} for one in creates)
    # A worker that fails before its create leaves the same lease as one that fails after it.
    stopped = any(one.fault and one not in creates for one in rig.network.seen)
    assert len(faulty) <= run.unknown_creates <= len(faulty) + stopped
    created = sum(one.answered == 200 for one in creates)
    turns = run.turn if run.status is RunStatus.DELETED else len(run.responses)
    assert created - len(extra) == turns, "a response was created for nothing"


@pytest.mark.parametrize(("name", "fault"), CASES)
async def test_a_run_ends_as_it_would_have_without_the_fault(name, fault, account, emulator, hasten, counted):
    play = SCENARIOS[name]
    # Several runs go on at the same time. A slow reply must not count as a stall.
    seconds = 3 * STALL_SECONDS if fault.stalls else PATIENCE_SECONDS

    async def case(bench: Bench, nth: int | None) -> range:
        """Play with the fault at the `nth` request, or without a fault; return the requests of the scenario itself."""
        app = await bench.rig()
        rule = FaultRule(fault, nth=nth or 0)
        app.network.inject(rule if nth else None)
        try:
            expected = await play(app)
            assert not nth or rule.applied, "the fault was not applied"
            assert nth or not app.failures
            await check_the_end(app, expected)
        except AssertionError as failure:
            victim = next((str(one) for one in app.network.seen if one.fault), None)
            failure.add_note(f"{name}, {fault} at request {nth}: {victim}")
            raise
        return range(app.first, len(app.network.seen) + 1)

    async def lane(numbers: Iterator[int]) -> None:
        async with bench(account, emulator, seconds) as connections:
            for nth in numbers:
                await case(connections, nth)

    async with bench(account, emulator, PATIENCE_SECONDS) as connections:
        requests = await case(connections, None)
    hasten(fault)
    numbers = iter(requests)
    async with asyncio.TaskGroup() as lanes:
        for _ in range(WAITING if fault.stalls else 1):
            lanes.create_task(lane(numbers))
    counted(f"requests of a run ({name}) x faults", len(requests))
