"""A provider without background mode: it streams an answer, is cut anywhere, and keeps nothing of it."""

from collections.abc import AsyncGenerator, Mapping
from datetime import timedelta

from shared.core.chat.events import ChatBroken, ChatEnd, ChatEvent
from shared.core.response import RunError
from shared.ports.chat import ChatRequest, ChatService
from tests.proofs.simulation.audit_generated import GeneratedAuditor
from tests.proofs.simulation.chatting import ChatPlan, Stream, Writer
from tests.proofs.simulation.faults import Faults
from tests.proofs.simulation.ports import Gate

# How often the process may fail at a piece. There are many of them.
_GATED = 0.3
_REFUSED = ChatBroken(RunError("provider_rejected", "There is no such model."), None, retryable=False)
_DOWN = ChatBroken(RunError("provider_unavailable", "503"), None, retryable=True)
_CUT = ChatBroken(RunError("stream_broken", "The stream was cut."), None, retryable=True)
_NOT_ENDED = ChatBroken(RunError("stream_broken", "The stream ended without its end."), None, retryable=True)
_STALLED = ChatBroken(RunError("stream_broken", "Nothing came."), None, retryable=True)
# What takes the place of the stream.
_REPLIES: Mapping[str | None, ChatBroken] = {"chat_refused": _REFUSED, "chat_unavailable": _DOWN}


class SimulatedChat:
    """Streams, which pass the gate like every port."""

    def __init__(self, seed: int, gate: Gate, auditor: GeneratedAuditor, writer: Writer) -> None:
        self._gate, self._auditor, self._writer = gate, auditor, writer
        self.faults = Faults.of_chats(seed, gate.faults.counts)

    def service(self, plan: ChatPlan) -> ChatService:
        return ChatService(self, continues=plan.continues, trims=plan.trims)

    async def generate(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        gate, caller = self._gate, self._gate.caller
        stream = Stream(request, caller, gate.scheduler.now)
        self._auditor.begins(stream)
        try:
            _, fate = await gate.enter(f"chat {request.run_id} turn {request.turn}", "decision")
            await gate.leave(fate)
            events, pace = self._drawn(request)
            for event in events:
                await self._pass(event, pace)
                stream.note(event, gate.scheduler.now)
                self._auditor.brought(stream, event)
                yield event
                self._auditor.asked_on(stream, event)
        finally:
            self._auditor.ended(stream)

    async def _pass(self, event: ChatEvent, pace: float) -> None:
        """Let time pass before an event."""
        gate = self._gate
        if event is _STALLED:
            await gate.wait(gate.random.choice((30.0, 90.0)))
        await gate.wait(pace * gate.random.uniform(0.5, 1.2))
        if gate.random.random() < _GATED:
            _, fate = await gate.enter("chat piece", "decision")
            await gate.leave(fate)

    def _drawn(self, request: ChatRequest) -> tuple[list[ChatEvent], float]:
        fault = self.faults.draw("chat")
        if reply := _REPLIES.get(fault):
            return [reply], 0.2
        if fault == "chat_throttled":
            pause = timedelta(seconds=self._gate.random.choice((1, 5, 20)))
            return [ChatBroken(RunError("provider_throttled", "429"), pause, retryable=True)], 0.2
        events, pace = self._writer.events(request)
        assert isinstance(events[-1], ChatEnd)
        match self.faults.draw("chat stream"):
            case "chat_cut":
                return [*events[: self._gate.random.randrange(len(events))], _CUT], pace
            case "chat_not_ended":
                return [*events[:-1], _NOT_ENDED], pace
            case "chat_stalls":
                return [*events[: self._gate.random.randrange(len(events))], _STALLED], pace
        return events, pace
