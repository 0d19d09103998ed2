"""Bugs in calls that wait for people, or for the caller, each as a replacement in the source."""

from tests.proofs.mutants.bug import Bug

_CALLING = "shared/core/life/calling.py"
_ENDING = "shared/core/life/ending.py"
_RULE = "shared/core/life/rule.py"
_WAITING = "shared/core/life/waiting.py"
_WAITS = "shared/steps/waits.py"
_ROWS = "shared/store/waits.py"
_ANSWER = "shared/usecases/answer.py"

WAIT_BUGS = (
    Bug(
        "a second answer to a call is accepted",
        _ANSWER,
        "            raise _closed(view)\n",
        "            return view, Applied(stored)\n",
    ),
    Bug(
        "an answer is stored although its call does not wait any more",
        _ANSWER,
        "    applied = await apply(context, stored, event, results, [given])\n",
        "    applied = await apply(context, stored, event, results)\n"
        "    fresh = await context.runs.read(run.id)\n"
        "    fresh = fresh and await context.runs.commit(fresh, replace(fresh.run, rev=fresh.run.rev + 1), answers=[given])\n",
    ),
    Bug(
        "the model's arguments run instead of those that were approved",
        _WAITS,
        "        if answer and answer.changed:\n",
        "        if answer and answer.changed and not answer.reason and answer.by.startswith('nobody'):\n",
    ),
    Bug(
        "a call runs with arguments that were loaded before its approval",
        _CALLING,
        "            case CallStatus.QUEUED if call.wait and loaded[call.call_id] != call.wait:\n"
        "                calls.append(call)\n",
        "",
    ),
    Bug(
        "a turn begins while a call waits",
        _WAITING,
        "    if CallStatus.WAITING in statuses:\n        return _paused(run, now)\n",
        "    if CallStatus.WAITING in statuses and run.lease is None:\n        return _paused(run, now)\n",
    ),
    Bug(
        "a turn begins while an approved call is queued",
        _WAITING,
        "    if CallStatus.QUEUED in statuses:\n",
        "    if CallStatus.QUEUED in statuses and run.lease is None:\n",
    ),
    Bug(
        "the clock of a run that waits for people goes on",
        _RULE,
        "paused=run.paused + pause, expires_at=run.expires_at + pause)",
        "paused=run.paused + pause)",
    ),
    Bug(
        "the clock of a run does not go on after an answer",
        _WAITING,
        "    free = replace(resumed(run, now), status",
        "    free = replace(run, status",
    ),
    Bug(
        "a wait that has ended takes the place of an answer",
        _WAITING,
        "    for call, wait in run.waits:\n        if now >= wait.expires_at:\n            effects.append(",
        "    for call in run.calls_of_turn():\n        if (wait := call.wait) and now >= wait.expires_at and call.started_at is None:\n            effects.append(",
    ),
    Bug(
        "a wait ends before its time",
        _WAITING,
        "    for call, wait in run.waits:\n        if now >= wait.expires_at:\n            effects.append(",
        "    for call, wait in run.waits:\n        if now >= run.due:\n            effects.append(",
    ),
    Bug(
        "an answer after the end of its wait is tried again and again",
        _ANSWER,
        "    if call.wait and context.clock.now() >= call.wait.expires_at:\n",
        "    if call.wait is None:\n",
    ),
    Bug(
        "an answer is not stored with its transition",
        "shared/store/runs.py",
        "            *(Put(answer_row(after.id, each)) for each in answers),\n",
        "",
    ),
    Bug(
        "a call that needs an approval runs at once",
        _WAITS,
        "        elif spec and call.name in spec.may_wait:\n",
        "        elif spec and call.name in spec.may_wait and call.name != 'transfer':\n",
    ),
    Bug(
        "a caller without the role approves",
        _ANSWER,
        "        if not caller.approves_for(run.owner):\n",
        "        if not (caller.approves_for(run.owner) or Role.CALLER in caller.roles):\n",
    ),
    Bug(
        "an approver sees calls that wait for no approval",
        "shared/usecases/calls.py",
        "    return approval and caller.approves_for(run.owner)\n",
        "    return caller.approves_for(run.owner)\n",
    ),
    Bug(
        "it is decided again whether an approved call waits",
        _WAITS,
        "        if call.call_id in queued and queued[call.call_id].wait is None\n",
        "        if call.call_id in queued\n",
    ),
    Bug(
        "the clock row of a wait that is over stays",
        _ROWS,
        "    removals = [Delete(key) for key in old if key not in new]\n",
        "    removals = [Delete(key) for key in old if key not in new and key.startswith('paused')]\n",
    ),
    Bug(
        "no clock row ends a wait",
        _ROWS,
        "    return {row.key: row, clock.key: clock}\n",
        "    return {row.key: row}\n",
    ),
    Bug(
        "no row lists a run that waits",
        _ROWS,
        "    return {row.key: row, clock.key: clock}\n",
        "    return {clock.key: clock}\n",
    ),
    Bug(
        "the deadline of the run ends its waits",
        "shared/core/run.py",
        "        return min((wait.expires_at for _, wait in self.waits), default=None)",
        "        return min((self.expires_at for _, wait in self.waits), default=None)",
    ),
    Bug(
        "a run that waits for people is owed to the poll loop",
        "shared/core/run.py",
        "        if run.step in {Step.NOTHING, Step.ANSWER}:",
        "        if run.step is Step.NOTHING:",
    ),
    Bug(
        "a run that waits for people does not count as pending",
        "shared/store/quotas.py",
        '        return bool(row.values.get("paused"))\n',
        "        return False\n",
    ),
    Bug(
        "a pause by two clocks is negative",
        _RULE,
        "    pause = max(now - run.paused_at, timedelta())\n",
        "    pause = now - run.paused_at\n",
    ),
    Bug(
        "a refused call runs",
        _WAITING,
        "    AnswerType.REFUSED: CallStatus.REFUSED,",
        "    AnswerType.REFUSED: CallStatus.QUEUED,",
    ),
    Bug(
        "a hosted call that was refused is approved at the provider",
        "shared/steps/conversation.py",
        "    approve = call.status is CallStatus.COMPLETED\n",
        "    approve = call.status is not CallStatus.TIMED_OUT\n",
    ),
    Bug(
        "a run that continues another one need not bring the outputs that are missing",
        "shared/usecases/continued.py",
        "    if missing := sorted(handed_over - answers.given.keys()):",
        "    if (missing := sorted(handed_over - answers.given.keys())) and answers.given:",
    ),
    Bug(
        "the session does not remember that outputs are missing",
        "shared/core/life/session.py",
        "    awaits = bool(after.handed_over) if after.handed_over or after.answers_calls else None\n",
        "    awaits = None\n",
    ),
)
