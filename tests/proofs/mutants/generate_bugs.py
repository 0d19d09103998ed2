"""Bugs in turns that workers generate, each as a replacement in the source."""

from tests.proofs.mutants.bug import Bug

_COLLECTED = "shared/core/chat/collected.py"
_GENERATE = "shared/steps/generate.py"
_GENERATING = "shared/core/life/generating.py"

GENERATE_BUGS = (
    Bug(
        "a part of a text is stored twice",
        _GENERATE,
        "        self._kept, self._kept_at = self._kept + len(text), self._context.clock.now()\n",
        "        self._kept_at = self._context.clock.now()\n",
    ),
    Bug(
        "a character is dropped after a checkpoint",
        _GENERATE,
        "self._kept + len(text), self._context.clock.now()\n",
        "self._kept + len(text) + bool(text), self._context.clock.now()\n",
    ),
    Bug(
        "a former holder stores text",
        _GENERATING,
        "    if not holds(run, event.lease.id, Step.GENERATE):\n",
        "    if run.step is not Step.GENERATE or run.lease is None:\n",
    ),
    Bug(
        "a former holder ends the turn",
        _GENERATING,
        "    if not holds(run, event.lease_id, Step.GENERATE):\n        return run, ()\n    items = ItemLog.of(run)\n",
        "    if run.step is not Step.GENERATE or run.lease is None:\n        return run, ()\n    items = ItemLog.of(run)\n",
    ),
    Bug(
        "a former holder gives up the lease",
        _GENERATING,
        "    if not holds(run, event.lease_id, Step.GENERATE):\n        return run, ()\n"
        "    if run.status is RunStatus.CANCELLING:\n        return end(run, RunStatus.CANCELLED, now), ()\n    free =",
        "    if run.step is not Step.GENERATE or run.lease is None:\n        return run, ()\n"
        "    if run.status is RunStatus.CANCELLING:\n        return end(run, RunStatus.CANCELLED, now), ()\n    free =",
    ),
    Bug(
        "the text of the turn before stays when a text is written anew",
        _GENERATING,
        "log.TextReplaced(0))",
        "log.TextReplaced(len(run.turns)))",
    ),
    Bug(
        "readers keep a text that is written anew",
        _GENERATING,
        "    entries = (*items.entries, log.TextReplaced(0))\n",
        "    entries = tuple(items.entries)\n",
    ),
    Bug(
        "a text is written anew too often",
        _GENERATING,
        "    if run.restarts >= MAX_RESTARTS:\n",
        "    if run.restarts > MAX_RESTARTS:\n",
    ),
    Bug(
        "a text is continued that was loaded before more of it was stored",
        "shared/core/life/claiming.py",
        "or run.written == event.written\n",
        "or run.written >= event.written\n",
    ),
    Bug(
        "a stream that was cut in its calls counts as finished",
        _GENERATE,
        "                if isinstance(event, ChatBroken):\n",
        "                if isinstance(event, ChatBroken) and event.retryable and self._collected._drafts:\n"
        '                    self._collected._end = ChatEnd("tool_calls", None)\n'
        "                    return await self._finished()\n"
        "                if isinstance(event, ChatBroken):\n",
    ),
    Bug(
        "usage that never came counts as known",
        _GENERATING,
        "unmetered=run.unmetered or event.snapshot.usage is None,",
        "unmetered=run.unmetered,",
    ),
    Bug(
        "usage counts as known although a stream of the text broke",
        _GENERATING,
        "            unmetered=True,\n",
        "",
    ),
    Bug(
        "usage of a turn that was cut is told as 0",
        "shared/core/run.py",
        "        return not (self.unmetered or (self.generates and self.turn_started_at))\n",
        "        return not self.unmetered\n",
    ),
    Bug(
        "usage that never came is told as 0",
        "shared/web/runs_api/render.py",
        '"usage": _usage(run.usage) if run.metered else None,',
        '"usage": _usage(run.usage),',
    ),
    Bug(
        "a join is not logged",
        _GENERATING,
        "        return joined, (log.TurnJoined(run.turn, run.written, event.join.value),)\n",
        "        return joined, ()\n",
    ),
    Bug(
        "a text that is repeated in front counts as new",
        "shared/core/chat/echo.py",
        "        return text[len(compared) :]\n",
        "        return text\n",
    ),
    Bug(
        "a repetition that is cut off is left out",
        "shared/core/chat/echo.py",
        "            return held + text\n",
        "            return text\n",
    ),
    Bug(
        "a join stays exact although the text so far was not repeated",
        _GENERATE,
        "        self._loosens = self._loosens or isinstance(event, ChatNotRepeated)\n",
        "        self._loosens = False\n",
    ),
    Bug(
        "a join is taken for exact once more than it was",
        _GENERATING,
        "    if run.joined_loosely or run.joined != run.written:\n",
        "    if run.joined != run.written:\n",
    ),
    Bug(
        "a text is joined again although nothing came since",
        _GENERATING,
        "        if run.joined == run.written:\n",
        "        if run.joined > run.written:\n",
    ),
    Bug(
        "a stream goes on after its run was cancelled or taken over",
        _GENERATE,
        "        return self._hold.lease is None or latest.status is RunStatus.CANCELLING\n",
        "        return self._hold.lease is None and latest.terminal and not latest.generates\n",
    ),
    Bug(
        "a checkpoint does not see the cancellation",
        _GENERATING,
        "    if run.status is RunStatus.CANCELLING:\n        return end(run, RunStatus.CANCELLED, now), ()\n    if now",
        "    if now",
    ),
    Bug(
        "a checkpoint does not see the deadline",
        _GENERATING,
        "    if now >= run.expires_at:\n        return expire(run, now), ()\n",
        "",
    ),
    Bug(
        "an invocation holds a stream longer than it may",
        _GENERATE,
        "                if now >= self._began + self._longest():\n",
        "                if now >= self._began + self._longest() + timedelta(seconds=30):\n",
    ),
    Bug(
        "a stream is cut in its calls to be continued",
        _GENERATE,
        "        if self._chat.continues and written and not self._collected.calls_or_refuses:\n",
        "        if self._chat.continues and written:\n",
    ),
    Bug(
        "a worker of another queue holds a stream",
        "shared/steps/work.py",
        "    if streams and not generates:\n",
        "    if streams and not generates and run.turn == 1:\n",
    ),
    Bug(
        "a join after reasoning is told as exact",
        _GENERATE,
        "    loose = reasoned(run) or (chat.trims and text != text.rstrip())\n",
        "    loose = chat.trims and text != text.rstrip()\n",
    ),
    Bug(
        "a join after white space that was trimmed is told as exact",
        _GENERATE,
        "    loose = reasoned(run) or (chat.trims and text != text.rstrip())\n",
        "    loose = reasoned(run)\n",
    ),
    Bug(
        "the text so far is not sent",
        _GENERATE,
        "        prefix=text,\n",
        "        prefix=text[:0],\n",
    ),
    Bug(
        "a text is continued by a provider that cannot",
        _GENERATE,
        "    if chat is None or not chat.continues:\n",
        "    if chat is None:\n",
    ),
    Bug(
        "the text so far is not part of the output",
        _GENERATE,
        'Collected(f"{run.id} {run.turn}", text=prefix)',
        'Collected(f"{run.id} {run.turn}", text=prefix[:0])',
    ),
    Bug(
        "a finished stream is given up for a cancellation",
        _GENERATING,
        "    items = ItemLog.of(run)\n    items.finish(",
        "    if run.status is RunStatus.CANCELLING:\n        return end(run, RunStatus.CANCELLED, now), ()\n"
        "    items = ItemLog.of(run)\n    items.finish(",
    ),
    Bug(
        "half a character is stored",
        _COLLECTED,
        "        self.pieces.add(self._characters.add(piece))\n",
        "        self.pieces.add(piece)\n",
    ),
    Bug(
        "a provider's pause is ignored",
        _GENERATE,
        "            until = self._context.retry_at(since, event.retry_after)\n",
        "            until = self._context.retry_at(since, None)\n",
    ),
    Bug(
        "the text of a turn is stored after the pointer to it",
        _GENERATE,
        "            content = await self._context.content.save(run.id, name, text, apart=True)\n",
        "            content = replace(await self._context.content.save(run.id, name, text, apart=True), name=name[:-1])\n",
    ),
)
