"""Each request for a chat completion under each fault: only a complete answer ends, and nothing of it is invented."""

import asyncio
import json
from datetime import timedelta

import pytest

from shared.adapters.chat_api.body import Resume
from shared.adapters.chat_api.provider import ChatCompletionsProvider, Dialect
from shared.adapters.http.access import Connection
from shared.core.chat.collected import Collected
from shared.core.chat.events import ChatBroken, ChatEnd, ChatEvent
from shared.ports.chat import ChatRequest
from tests.proofs.faults.conftest import STALL_SECONDS
from tests.proofs.faults.network import Fault, FaultRule, Network

KEY = "a.test.key"
PATIENCE_SECONDS = 30.0
TEXT = "The complete text, \u00e4\u6f22\U0001f680, of a turn. " * 40
BEGUN = len(TEXT) // 3
CALL = {"name": "pay", "arguments": {"note": "x" * 200}, "call_id": "call_1"}

# Each with the turn that is written, and how many characters of its text are there already.
TURNS: dict[str, tuple[dict, int]] = {
    "an answer": ({"text": TEXT, "deltas": 20}, 0),
    "the rest of an answer": ({"text": TEXT, "deltas": 20}, BEGUN),
    "a call": ({"text": TEXT, "deltas": 5, "calls": [CALL]}, 0),
}


def adapter(base_url: str, seconds: float = PATIENCE_SECONDS) -> ChatCompletionsProvider:
    within = timedelta(seconds=seconds)
    return ChatCompletionsProvider(
        Connection(base_url=base_url, api_key=KEY), Dialect(resume=Resume.PREFIX, silence=within)
    )


def request(turn: dict, begun: int) -> ChatRequest:
    script = {"turns": [turn], "seconds": 0, "queued_seconds": 0}
    messages = [{"role": "user", "content": f"[[script {json.dumps(script)}]]"}]
    tool = {"type": "function", "function": {"name": "pay", "parameters": {"type": "object"}}}
    return ChatRequest(
        run_id="run_1",
        turn=1,
        model="m",
        messages=json.dumps(messages),
        tools=json.dumps([tool]),
        prefix=TEXT[:begun],
    )


async def check(network: Network, provider: ChatCompletionsProvider, name: str, rule: FaultRule) -> None:
    """Send one request under one fault, and send it again when the fault is over."""
    turn, begun = TURNS[name]
    network.inject(rule)
    collected, last = await answered(provider, request(turn, begun))
    assert rule.applied, "the fault was not applied"
    assert len(network.seen) == 1, "the request was sent twice"
    assert isinstance(last, ChatBroken), last
    assert last.retryable
    # What came before the fault is a beginning of the text, and is kept.
    assert TEXT.startswith(collected.text)
    assert len(collected.text) >= begun
    if rule.fault in {Fault.CUT_BODY, Fault.CUT_UNSEEN}:
        assert begun < len(collected.text)
    network.rule = None
    collected, last = await answered(provider, request(turn, begun))
    await network.settle()
    assert isinstance(last, ChatEnd)
    assert collected.text == TEXT
    calls = [(call.name, json.loads(call.arguments)) for call in collected.snapshot("").calls]
    assert calls == [(call["name"], call["arguments"]) for call in turn.get("calls", ())]
    assert last.usage is not None


async def answered(
    provider: ChatCompletionsProvider, sent: ChatRequest
) -> tuple[Collected, ChatEvent | None]:
    """Return what came of an answer, and the last event."""
    collected, last = Collected("an answer", text=sent.prefix), None
    async for last in provider.generate(sent):
        collected.add(last)
    return collected, last


@pytest.mark.parametrize("fault", Fault)
async def test_an_answer_that_is_lost_or_cut_never_looks_complete(fault, emulator, counted):
    seconds = STALL_SECONDS if fault.stalls else PATIENCE_SECONDS

    async def lane(name: str) -> None:
        async with Network() as network:
            provider = adapter(await network.link("chat", f"{emulator}/v1"), seconds)
            try:
                # The first request of an adapter is slow. It must not count as a stall.
                await answered(provider, request(*TURNS[name]))
                await all_open.wait()
                await check(network, provider, name, FaultRule(fault))
            except AssertionError as failure:
                failure.add_note(name)
                raise
            finally:
                await provider.close()

    all_open = asyncio.Barrier(len(TURNS))
    await asyncio.gather(*map(lane, TURNS))
    counted("chat requests x faults", len(TURNS))
