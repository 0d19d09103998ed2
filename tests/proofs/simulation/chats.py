"""A provider without background mode: it streams an answer, is cut anywhere, and keeps nothing of it."""

from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import timedelta

from shared.core.chat.events import ChatBroken, ChatEnd, ChatEvent
from shared.core.response import RunError
from shared.ports.chat import ChatRequest, ChatService
from tests.proofs.simulation.audit_generated import GeneratedAuditor
from tests.proofs.simulation.chatting import ChatPlan, Stream, Writer, echoed
from tests.proofs.simulation.faults import Faults
from tests.proofs.simulation.late import LONGEST, OVERTAKEN, LateStream
from tests.proofs.simulation.ports import Gate
from tests.proofs.simulation.scheduler import Hold

# How often the process may fail at a piece. There are many of them.
_GATED = 0.3
# How often a fragile stream is cut at its end.
_FRAGILE = 0.8
_REFUSED = ChatBroken(RunError("provider_rejected", "There is no such model."), None, retryable=False)
_DOWN = ChatBroken(RunError("provider_unavailable", "503"), None, retryable=True)
_CUT = ChatBroken(RunError("stream_broken", "The stream was cut."), None, retryable=True)
_NOT_ENDED = ChatBroken(RunError("stream_broken", "The stream ended without its end."), None, retryable=True)
_STALLED = ChatBroken(RunError("stream_broken", "Nothing came."), None, retryable=True)
# How often a client cancels the run right before the end of a stream.
_CANCELLED_AT_LAST = 0.05
# What takes the place of the stream.
_REPLIES: Mapping[str | None, ChatBroken] = {"chat_refused": _REFUSED, "chat_unavailable": _DOWN}


class SimulatedChat:
    """Streams, which pass the gate like every port."""

    def __init__(
        self, seed: int, plan: ChatPlan, gate: Gate, auditor: GeneratedAuditor, writer: Writer
    ) -> None:
        self._plan = plan
        self._gate, self._auditor, self._writer = gate, auditor, writer
        # Lets a client cancel a run.
        self.cancel_run: Callable[[str], None] = lambda _run_id: None
        self.faults = Faults.of_chats(seed, gate.faults.counts)

    @property
    def service(self) -> ChatService:
        return ChatService(self, continues=self._plan.continues, trims=self._plan.trims)

    async def generate(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        gate, caller = self._gate, self._gate.caller
        stream = Stream(request, caller, gate.scheduler.now)
        self._auditor.begins(stream)
        _, fate = await gate.enter(f"chat {request.run_id} turn {request.turn}", "decision")
        await gate.leave(fate)
        events, pace = self._drawn(stream)
        for event in events:
            await self._pass(event, pace)
            if self.faults.draw("chat piece"):
                await self._stand_still(stream)
            if isinstance(event, ChatEnd | ChatBroken) and gate.random.random() < _CANCELLED_AT_LAST:
                self.cancel_run(request.run_id)
                await gate.wait(1.0)
            stream.note(event, gate.scheduler.now)
            self._auditor.brought(stream, event)
            yield event
            self._auditor.asked_on(stream, event)

    async def _stand_still(self, stream: Stream) -> None:
        """Let a worker stand still until another one has taken its turn."""
        gate, run_id = self._gate, stream.request.run_id
        late = LateStream(stream.by.leases.get(run_id, ""), Hold(), gate.random.random() < 0.6)
        self._auditor.late[run_id] = late
        await gate.hold(late.hold, OVERTAKEN, LONGEST)
        await gate.wait(gate.random.choice((0.0, 1.0, 4.0)))

    async def _pass(self, event: ChatEvent, pace: float) -> None:
        """Let time pass before an event."""
        gate = self._gate
        if event is _STALLED:
            await gate.wait(gate.random.choice((30.0, 90.0)))
        await gate.wait(pace * gate.random.uniform(0.5, 1.2))
        if gate.random.random() < _GATED:
            _, fate = await gate.enter("chat piece", "decision")
            await gate.leave(fate)

    def _drawn(self, stream: Stream) -> tuple[list[ChatEvent], float]:
        fault = self.faults.draw("chat")
        if reply := _REPLIES.get(fault):
            return [reply], 0.2
        if fault == "chat_throttled":
            pause = timedelta(seconds=self._gate.random.choice((1, 5, 20)))
            return [ChatBroken(RunError("provider_throttled", "429"), pause, retryable=True)], 0.2
        events, pace = self._writer.events(stream.request)
        if self._plan.echoes and stream.request.prefix:
            events = echoed(stream, events, self._gate.random)
        assert isinstance(events[-1], ChatEnd)
        if self._plan.fragile and self._gate.random.random() < _FRAGILE:
            return [*events[:-1], _CUT], min(pace, 1.0)
        match self.faults.draw("chat stream"):
            case "chat_cut":
                return [*events[: self._gate.random.randrange(len(events))], _CUT], pace
            case "chat_not_ended":
                return [*events[:-1], _NOT_ENDED], pace
            case "chat_stalls":
                return [*events[: self._gate.random.randrange(len(events))], _STALLED], pace
        return events, pace
