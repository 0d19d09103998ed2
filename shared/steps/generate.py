"""The generate step: hold the stream of a turn at a provider without background mode, and store what comes."""

import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime, timedelta

from shared.core import transcript
from shared.core.chat.collected import Collected
from shared.core.chat.content import NotSendable
from shared.core.chat.events import ChatBroken, ChatEnd, ChatEvent, ChatNotRepeated, ChatText
from shared.core.chat.messages import chat_messages, check_asked
from shared.core.chat.options import chat_options
from shared.core.chat.places import Places, reasoned
from shared.core.chat.tools import chat_tools
from shared.core.life import events
from shared.core.life.events import Join
from shared.core.life.polling import MISSING_GRACE
from shared.core.response import RunError
from shared.core.run import Run, RunStatus
from shared.core.text import clipped
from shared.errors import StorageUnavailable
from shared.log import log_event
from shared.ports.agents import AgentSpec
from shared.ports.chat import ChatRequest, ChatService
from shared.steps.context import Context
from shared.steps.conversation import ConversationTooLong, request_for
from shared.steps.create import MAX_MODEL
from shared.steps.lease import Hold, holding, leased, may_begin
from shared.steps.no_provider import provider_gone
from shared.steps.settle import fault_of_answer, save_output
from shared.steps.slices import streamed_text
from shared.steps.transition import Applied, apply, log_skip, reread
from shared.store.runs import StoredRun

# What came is stored when so much time has passed since the last time, or so much has come.
CHECKPOINT_AFTER = timedelta(seconds=2)
CHECKPOINT_CHARACTERS = 16 * 1024
# How much of a text may wait for a place at which its provider can continue it.
MAX_HELD_CHARACTERS = 64
# How many times it is tried to store the end of a turn.
_ATTEMPTS_TO_END = 3


async def generate_turn(context: Context, stored: StoredRun) -> Applied:
    """Claim a run's turn, and hold its stream until it ends, or this invocation has lasted long enough."""
    run = stored.run
    try:
        text = await streamed_text(context, run) if run.turn_started_at else ""
    except LookupError as fault:
        log_skip(run, fault)
        return Applied(stored)
    spec, lease = context.agents.spec(run.agent), context.lease()
    if _is_for_another_host(context, run, spec):
        return Applied(stored)
    claimed = events.Claimed(
        lease,
        run.step,
        run.turn,
        join=_join_of(context, run, text),
        model=clipped(spec.model, MAX_MODEL) if spec else "",
        written=len(text),
    )
    applied = await apply(context, stored, claimed)
    if not leased(applied.stored.run, lease.id):
        return applied
    with holding(context, applied.stored, lease) as hold:
        hold.begin(applied.stored.run)
        return (await _generate(context, applied.stored, hold, text)).after(applied)


def _is_for_another_host(context: Context, run: Run, spec: AgentSpec | None) -> bool:
    """Return whether a turn that cannot be generated here is left to others for now.

    Its message comes to any host. While the app is deployed, that may be one of the version before.
    """
    refusal = _refusal(run, spec, context.chats.get(run.provider))
    if not refusal or run.status is RunStatus.CANCELLING or context.clock.now() - run.due >= MISSING_GRACE:
        return False
    log_event("step.skipped", level=logging.WARNING, run_id=run.id, step=run.step, reason=refusal.message)
    return True


def _join_of(context: Context, run: Run, text: str) -> Join | None:
    """Return how the provider of a run continues a text. None when it cannot."""
    chat = context.chats.get(run.provider)
    if chat is None or not chat.continues:
        return None
    # The reasoning before a text is not sent back, and some providers trim the text.
    loose = reasoned(run) or (chat.trims and text != text.rstrip())
    return Join.BEST_EFFORT if loose else Join.EXACT


async def _generate(context: Context, stored: StoredRun, hold: Hold, text: str) -> Applied:
    """Hold the stream of the run's turn, of which `text` is stored."""
    run = stored.run
    spec, chat = context.agents.spec(run.agent), context.chats.get(run.provider)
    if refusal := _refusal(run, spec, chat):
        return await hold.apply(stored, events.GenerateRefused(hold.lease_id, refusal))
    assert spec is not None
    assert chat is not None
    try:
        request = await _request(context, run, spec, text if run.written else "")
    except LookupError as fault:
        log_skip(run, fault)
        return Applied(await reread(context.runs, run.id))
    except (ConversationTooLong, NotSendable) as fault:
        code = "conversation_too_long" if isinstance(fault, ConversationTooLong) else "input_not_sendable"
        return await hold.apply(stored, events.GenerateRefused(hold.lease_id, RunError(code, str(fault))))
    if not may_begin(hold, run):
        return Applied(stored)
    # It may bring nothing for minutes, and the host ends a function that waits too long, with everything beside it.
    request = replace(request, within=max(hold.ends_at - context.clock.now(), timedelta()))
    held = _Stream(context, stored, hold, chat, request.prefix)
    stream = chat.provider.generate(request)
    # A conversation may have megabytes, and a function may hold many streams.
    del request
    return await held.hold_it(stream)


def _refusal(run: Run, spec: AgentSpec | None, chat: ChatService | None) -> RunError | None:
    if spec is None:
        return RunError("unknown_agent", f"This app has no agent {run.agent!r} any more.")
    if reason := spec.not_ready:
        return RunError("agent_not_ready", reason)
    if chat is None:
        return provider_gone(run.provider)
    return None


async def _request(context: Context, run: Run, spec: AgentSpec, text: str) -> ChatRequest:
    complete = await request_for(context, run, spec)
    items = transcript.parse(complete.input)
    messages = chat_messages(complete.instructions, items)
    check_asked(messages, items)
    return ChatRequest(
        run_id=run.id,
        turn=run.turn,
        model=complete.model,
        messages=json.dumps(messages, ensure_ascii=False),
        tools=json.dumps(chat_tools(transcript.parse(complete.tools)), ensure_ascii=False),
        options=chat_options(complete.options),
        prefix=text,
    )


class _Stream:
    """The stream of a turn, and what of it is stored."""

    def __init__(
        self, context: Context, stored: StoredRun, hold: Hold, chat: ChatService, prefix: str
    ) -> None:
        self._context, self._hold, self._chat = context, hold, chat
        self._applied = Applied(stored)
        run = stored.run
        self._collected = Collected(f"{run.id} {run.turn}", text=prefix)
        self._places = Places.of(run)
        # How many characters of the text are stored, and when that was.
        self._kept, self._kept_at = len(prefix), context.clock.now()
        self._began = context.clock.now()
        # How many characters may be stored, and how many were when this worker took the turn up.
        self._storable = self._resumed_at = self._kept
        # Whether it has to be stored that the text may not go on exactly.
        self._loosens = False

    async def hold_it(self, events_of_turn: AsyncGenerator[ChatEvent, None]) -> Applied:
        """Read the stream to its end, and store it part by part."""
        async with aclosing(events_of_turn) as stream:
            async for event in stream:
                self._add(event)
                if isinstance(event, ChatBroken):
                    return await self._broken(event)
                if isinstance(event, ChatEnd) or self._collected.too_large:
                    return await self._finished()
                now = self._context.clock.now()
                if self._stopped():
                    return await self._stop()
                if self._is_due(now) and not leased((await self._keep()).stored.run, self._hold.lease_id):
                    return self._applied
                if now >= self._began + self._longest():
                    return await self._pause(now)
        return self._applied

    def _longest(self) -> timedelta:
        """Return for how long this invocation may hold the stream.

        Reasoning, refusals and calls cannot be continued. If they were cut, the next invocation would come no further.
        """
        written = self._storable > self._resumed_at
        if self._chat.continues and written and not self._collected.calls_or_refuses:
            return min(self._context.generate_for, self._context.longest_work)
        return self._context.longest_work

    def _add(self, event: ChatEvent) -> None:
        """Add an event. A provider that trims a text cannot continue one that ends with white space: that waits."""
        self._collected.add(event)
        self._loosens = self._loosens or isinstance(event, ChatNotRepeated)
        held = self._collected.characters - self._storable
        spaced = isinstance(event, ChatText) and event.text[-1:].isspace()
        if isinstance(event, ChatText) and not (self._chat.trims and spaced and held <= MAX_HELD_CHARACTERS):
            self._storable = self._collected.characters

    def _stopped(self) -> bool:
        """Return whether the lease is lost, or somebody has requested the cancellation."""
        latest = self._hold.latest(self._applied.stored).run
        return self._hold.lease is None or latest.status is RunStatus.CANCELLING

    def _is_due(self, now: datetime) -> bool:
        new = self._storable - self._kept
        begun = self._collected.reasons and not self._places.reasoned and self._places.message is None
        return (
            self._loosens
            or (new >= CHECKPOINT_CHARACTERS)
            or ((new > 0 or begun) and now >= self._kept_at + CHECKPOINT_AFTER)
        )

    async def _stop(self) -> Applied:
        """Let the run be cancelled, if this worker still has it. Nothing of its text would count."""
        if self._hold.lease is None:
            return self._applied
        event = events.Generated(self._hold.prolonged(), ())
        return await self._apply(event)

    async def _keep(self) -> Applied:
        """Store what has come since the last time."""
        text = self._collected.text_between(self._kept, self._storable)
        changes = self._places.changes(text, reasons=self._collected.reasons)
        run = self._applied.stored.run
        content = None
        if text:
            name = f"slice-{run.rev:08d}-{self._context.token()}"
            content = await self._context.content.save(run.id, name, text, apart=True)
        event = events.Generated(self._hold.prolonged(), tuple(changes), content, self._loosens)
        applied = await self._apply(event)
        self._loosens = False
        self._kept, self._kept_at = self._kept + len(text), self._context.clock.now()
        return applied

    async def _apply(self, event: events.Event) -> Applied:
        """Advance the run, and return it with all that has followed in this invocation."""
        self._applied = (await self._hold.apply(self._applied.stored, event)).after(self._applied)
        return self._applied

    async def _pause(self, now: datetime) -> Applied:
        """Leave the rest of the stream to the next invocation."""
        if leased((await self._keep()).stored.run, self._hold.lease_id):
            run = self._applied.stored.run
            taken_back = run.turn_items and not (run.written and self._chat.continues)
            in_call = self._collected.calls_or_refuses and not taken_back
            deferred = events.GenerateDeferred(self._hold.lease_id, now, in_call=in_call)
            return await self._apply(deferred)
        return self._applied

    async def _broken(self, event: ChatBroken) -> Applied:
        if self._storable > self._kept and not leased((await self._keep()).stored.run, self._hold.lease_id):
            return self._applied
        run = self._applied.stored.run
        if event.retryable:
            since = run.waiting.since if run.waiting else self._context.clock.now()
            until = self._context.retry_at(since, event.retry_after)
            change: events.Event = events.GenerateDeferred(self._hold.lease_id, until, event.error)
        else:
            change = events.GenerateRefused(self._hold.lease_id, event.error)
        return await self._apply(change)

    async def _finished(self) -> Applied:
        context, run = self._context, self._applied.stored.run
        collected = self._collected.snapshot("")
        if collected.error:
            # It is too large, and nothing of it is kept.
            refused = events.GenerateRefused(self._hold.lease_id, collected.error)
            return await self._apply(refused)
        snapshot = self._places.aligned(collected)
        items = transcript.parse(snapshot.output)
        output, answer = await save_output(context, run, snapshot.output, items)
        spec = context.agents.spec(run.agent)
        finished = events.GenerateFinished(
            self._hold.lease_id,
            snapshot,
            output,
            answer,
            fault_of_answer(context, run, snapshot, transcript.text_of(items)),
            outline=transcript.outline(items),
            repeatable=spec.repeatable if spec else frozenset(),
        )
        applied = await self._end(finished)
        if output not in applied.stored.run.turns:
            for content in filter(None, (output, answer)):
                await context.content.drop(run.id, content)
        return applied

    async def _end(self, finished: events.GenerateFinished) -> Applied:
        """Store the end of the turn. This is tried again when it fails, because the stream cannot be read again."""
        for _ in range(_ATTEMPTS_TO_END - 1):
            try:
                return await self._apply(finished)
            except StorageUnavailable as fault:
                run_id, reason = self._applied.stored.run.id, str(fault)
                log_event("generate.save_failed", level=logging.WARNING, run_id=run_id, reason=reason)
        return await self._apply(finished)
