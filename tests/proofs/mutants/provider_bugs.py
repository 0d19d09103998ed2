"""Bugs in what the app sends to a provider and believes of it, each as a replacement in the source."""

from tests.proofs.mutants.bug import Bug

_CREATE = "shared/steps/create.py"
_MISSING = "shared/steps/missing.py"
_CREATING = "shared/core/life/creating.py"
_POLLING = "shared/core/life/polling.py"
_CANCEL = "shared/steps/cancel.py"
_CONVERSATION = "shared/steps/conversation.py"
_POLL = "shared/steps/poll.py"
_READING = "shared/steps/reading.py"
_STREAMED = "shared/core/streamed.py"
_OVERDUE = "shared/usecases/overdue.py"

PROVIDER_BUGS = (
    Bug(
        "the key of a create changes with each attempt",
        _CONVERSATION,
        'f"{run.id}-{run.turn}-{run.repeats}"',
        'f"{run.id}-{run.turn}-{run.rev}"',
    ),
    Bug(
        "the key of a create stays after the chain was replayed",
        _CREATING,
        ", repeats=run.repeats + 1)",
        ")",
    ),
    Bug(
        "the turns of a run have the same key",
        _CONVERSATION,
        'f"{run.id}-{run.turn}-{run.repeats}"',
        'f"{run.id}-{run.repeats}"',
    ),
    Bug(
        "a key is sent again after it was refused",
        _CONVERSATION,
        "None if run.keyless else f",
        "f",
    ),
    Bug(
        "a refused key is not noted",
        _CREATING,
        "prolonged(replace(run, keyless=True), event.lease)",
        "prolonged(run, event.lease)",
    ),
    Bug(
        "creates whose replies cannot be used are not counted",
        _CREATING,
        "run.unusable_creates + event.unusable",
        "run.unusable_creates",
    ),
    Bug(
        "one reply that cannot be used ends the run",
        _CREATING,
        "if counted.unusable_creates >= MAX_UNUSABLE_CREATES:",
        "if counted.unusable_creates:",
    ),
    Bug(
        "one create without a reply in time ends the run",
        _CREATING,
        "if counted.timed_out_creates >= MAX_TIMED_OUT_CREATES:",
        "if counted.timed_out_creates:",
    ),
    Bug(
        "a finished reply to a create is not kept",
        _CREATE,
        "if reply.status.finished and kept is None:",
        "if kept is not None:",
    ),
    Bug(
        "a kept reply is not looked for when the response cannot be read",
        _MISSING,
        "if stored.run.awaits(response_id) and (kept",
        "if not stored.run.awaits(response_id) and (kept",
    ),
    Bug(
        "a kept reply is forgotten when the run is saved",
        "shared/store/run_rows.py",
        '"kept": rows.content_value(run.kept) if run.kept else None,',
        '"kept": None,',
    ),
    Bug(
        "the response of another run is adopted",
        _CREATING,
        "if other != run.id:",
        "if not run.id:",
    ),
    Bug(
        "the response of another run is read as the own one",
        _POLLING,
        "    if isinstance(reply, Snapshot) and reply.run_id is not None and reply.run_id != run_id:\n",
        "    if isinstance(reply, Snapshot) and reply.run_id == run_id == '':\n",
    ),
    Bug(
        "another run's response counts as the reply to a cancellation",
        _READING,
        "    return reply if isinstance(reply, Refused) else read_verdict(run_id, reply)\n",
        "    return reply\n",
    ),
    Bug(
        "a run goes on waiting although its provider answers again",
        _POLLING,
        "        read = replace(run, missing_since=None, waiting=None, lease=None)\n",
        "        read = replace(run, missing_since=None, lease=None)\n",
    ),
    Bug(
        "a response with an unanswered call is continued",
        "shared/core/life/session.py",
        'after.previous_response_id if can_continue else ""',
        'after.responses[-1] if after.responses else ""',
    ),
    Bug(
        "a run with an unanswered call is left out of its conversation",
        "shared/core/run.py",
        "self.status is RunStatus.INCOMPLETE and self.incomplete_reason == UNANSWERED_CALL",
        "self.status is RunStatus.INCOMPLETE and not self.responses",
    ),
    Bug(
        "a call that nobody can answer counts as an answer",
        _POLLING,
        "        case ResponseStatus.COMPLETED if snapshot.unanswerable:\n"
        "            return end(done, RunStatus.INCOMPLETE, now, reason=UNANSWERED_CALL), ()\n"
        "        case _ if not snapshot.calls and not snapshot.unanswerable:\n",
        "        case _ if not snapshot.calls:\n",
    ),
    Bug(
        "an answer that does not fit the output type is completed",
        _POLLING,
        "            if invalid:\n",
        "            if invalid and now < done.created_at:\n",
    ),
    Bug(
        "a call without an output is replayed",
        "shared/core/replay.py",
        "                self._unanswered.add(len(self._kept))\n",
        "",
    ),
    Bug(
        "the end of a stream counts although it denies the stream",
        "shared/steps/settle.py",
        "    if not streamed.denied_by(snapshot):\n",
        "    if streamed is not None:\n",
    ),
    Bug(
        "streamed text is given up for nothing",
        _STREAMED,
        "        return [*messages, *restored]\n",
        "        return restored\n",
    ),
    Bug(
        "streamed calls are given up for nothing",
        _STREAMED,
        "        restored = output + self._missing(output)\n",
        "        restored = output\n",
    ),
    Bug(
        "commentary counts as the text of the answer",
        _STREAMED,
        "            case TextAdded(index, text) if index not in hidden:\n",
        "            case TextAdded(_, text):\n",
    ),
    Bug(
        "a worker polls without a claim",
        _POLL,
        "    if not claimed.changed:\n        return ()\n    within",
        "    within",
    ),
    Bug(
        "a worker has no more time for a slow response than the poll loop",
        _READING,
        "    return min(context.read_timeout * 2.0 ** min(waiting.attempts, 10), context.provider_timeout)\n",
        "    return context.read_timeout\n",
    ),
    Bug(
        "the poll loop reads a slow response itself",
        _POLL,
        "    if owed.waiting == RESPONSE_SLOW and owed.step is Step.POLL:",
        "    if owed.waiting == RESPONSE_SLOW and owed.step is Step.CREATE:",
    ),
    Bug(
        "a read of an overdue run wakes nobody",
        _OVERDUE,
        "            return (poll_message(run.id),)\n",
        "            return ()\n",
    ),
    Bug(
        "a read of a run whose worker is overdue wakes nobody",
        _OVERDUE,
        "            return (run.id,)\n",
        "            return ()\n",
    ),
    Bug(
        "a refused cancellation is sent again",
        _CANCEL,
        "        case Snapshot() | Refused():\n",
        "        case Refused(error):\n"
        "            until = context.retry_at(run.created_at, None)\n"
        "            return await hold.apply(stored, events.CancelDeferred(hold.lease_id, until, error))\n"
        "        case Snapshot():\n",
    ),
    Bug(
        "a run expires without a read of its response",
        _CANCEL,
        "        reply: CancelReply = await read(context, run, response_id, within)\n",
        "        reply: CancelReply = Absent()\n",
    ),
    Bug(
        "a run expires although its response finished before the cancellation",
        _CANCEL,
        "        if isinstance(reply, Refused):\n            # It has finished since it was read.\n",
        "        if isinstance(reply, Usage):\n",
    ),
    Bug(
        "a deadline ends a run whose response was created meanwhile",
        "shared/core/life/ending.py",
        "    if run.continuation and run.continuation.response_id != event.response_id:\n",
        "    if not run.expires_at:\n",
        first=3600,
    ),
)
