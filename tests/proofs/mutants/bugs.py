"""Bugs that somebody might put in one day, each as a replacement in the source."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bug:
    """In `file`, `good` is replaced by `bad`; `good` stands there once."""

    name: str
    file: str
    good: str
    bad: str


_CALLING = "shared/core/life/calling.py"
_CREATING = "shared/core/life/creating.py"
_ENDING = "shared/core/life/ending.py"
_POLLING = "shared/core/life/polling.py"
_RULE = "shared/core/life/rule.py"
_POLL = "shared/steps/poll.py"
_SLICES = "shared/steps/slices.py"
_RUNS = "shared/store/runs.py"
_START = "shared/usecases/start.py"

BUGS = (
    Bug(
        "no lease: whoever comes takes the step",
        _RULE,
        "in {Step.CREATE, Step.TOOLS, Step.CANCEL} and now >= run.due",
        "in {Step.CREATE, Step.TOOLS, Step.CANCEL}",
    ),
    Bug(
        "lease ignored on waking up",
        "shared/steps/lease.py",
        "    late = run.lease is None or context.clock.now() + duration(context, run) > run.lease.expires_at\n",
        "    late = False\n",
    ),
    Bug(
        "a create is saved without its lease",
        _CREATING,
        "    if not holds(run, event.lease_id, Step.CREATE):\n        return came_too_late(",
        "    if run.terminal:\n        return came_too_late(",
    ),
    Bug(
        "terminal guard removed: polls change what has ended",
        _POLLING,
        "    if run.token is None or run.terminal or snapshot.response_id != run.token:",
        "    if not run.responses or snapshot.response_id != run.responses[-1]:",
    ),
    Bug(
        "terminal guard removed: a deadline changes what has ended",
        _ENDING,
        "    if run.terminal:\n        return run, ()\n    if now < run.expires_at:\n        raise",
        "    if now < run.expires_at:\n        raise",
    ),
    Bug(
        "the token is kept after the end",
        _RULE,
        "        step=Step.NOTHING,\n        token=None,\n        sequence=None,\n        lease=None,\n        missing_since=None,",
        "        step=Step.NOTHING,\n        token=run.responses[-1] if run.responses else None,\n        sequence=None,\n        lease=None,\n        missing_since=None,",
    ),
    Bug(
        "transitions are saved without condition",
        _RUNS,
        "Put(rows.run_row(after, tx), before.etag)",
        "Put(rows.run_row(after, tx))",
    ),
    Bug(
        "tx is not read again after a lost reply",
        _RUNS,
        '            if row and row.values.get("tx") == tx:\n                return row.etag\n            raise',
        "            raise",
    ),
    Bug(
        "any tx counts as one's own",
        _RUNS,
        'if row and row.values.get("tx") == tx:',
        'if row and row.values.get("tx"):',
    ),
    Bug(
        "the key is not looked at before the run is written",
        _START,
        "    meant = await _claim_key(context, request, fresh, now)\n",
        "    meant = fresh\n",
    ),
    Bug(
        "the key is written over",
        _RUNS,
        '[Insert(Row(f"key|{hashed}", values))]',
        '[Put(Row(f"key|{hashed}", values))]',
    ),
    Bug(
        "another body with the same key is taken",
        _START,
        "    if stored.fingerprint != meant.fingerprint:",
        "    if not stored.fingerprint:",
    ),
    Bug(
        "a tool that is not idempotent is run again",
        _CALLING,
        "case CallStatus.IN_PROGRESS if not call.idempotent or run.status is RunStatus.CANCELLING:",
        "case CallStatus.IN_PROGRESS if run.status is RunStatus.CANCELLING:",
    ),
    Bug(
        "tools run before they are marked as started",
        "shared/steps/tools.py",
        "        if call.call_id in started\n",
        "        if call.call_id in started or run.turn\n",
    ),
    Bug(
        "tools start again in a run that is being cancelled",
        _CALLING,
        "case CallStatus.IN_PROGRESS if not call.idempotent or run.status is RunStatus.CANCELLING:",
        "case CallStatus.IN_PROGRESS if not call.idempotent:",
    ),
    Bug(
        "a tool's result is saved twice over",
        _CALLING,
        "if call.call_id == event.call_id and call.status is CallStatus.IN_PROGRESS:",
        "if call.call_id == event.call_id:",
    ),
    Bug(
        "usage is added twice",
        _POLLING,
        "usage=run.usage + snapshot.usage, turns",
        "usage=run.usage + snapshot.usage + snapshot.usage, turns",
    ),
    Bug(
        "a cancellation wins over a finished answer",
        _POLLING,
        "    done = replace(\n",
        "    if run.status is RunStatus.CANCELLING:\n        return end(run, RunStatus.CANCELLED, now), ()\n    done = replace(\n",
    ),
    Bug(
        "a deadline wins over a finished answer",
        _POLL,
        "        case Snapshot() if reply.status.finished or not expired:",
        "        case Snapshot() if not expired:",
    ),
    Bug("an expired run is not looked at", _POLL, "    if _expired(one, now):\n        return True\n", ""),
    Bug(
        "the pointer is saved, and the text is not there yet",
        "shared/store/content.py",
        "            await self._table.write(run_id, [Put(row)])\n",
        "            self.__dict__.setdefault('later', []).append((run_id, row))\n",
    ),
    Bug(
        "the text of another writer is removed",
        "shared/steps/settle.py",
        "    if output not in applied.stored.run.turns:\n",
        "    if not applied.changed or True:\n",
    ),
    Bug(
        "the pending row is left behind",
        _RUNS,
        "    return [Put(rows.pending_row(now))] if now else [Delete(rows.pending_key(after.id))]",
        "    return [Put(rows.pending_row(now))] if now else []",
    ),
    Bug(
        "the session is not released",
        _RUNS,
        '        values["held_by"] = ""\n',
        '        values["runs_ended"] = 1\n',
    ),
    Bug(
        "the poll schedule is ignored",
        _POLL,
        "    return context.schedule_for(one.sequence).poll_due(one.turn_started_at, after, now)",
        "    return True",
    ),
    Bug(
        "two pollers do not know of each other",
        _POLL,
        "    if not (polls or wakes) or not await context.runs.claim_tick(shard, tick, now):",
        "    await context.runs.claim_tick(shard, tick, now)\n    if not (polls or wakes):",
    ),
    Bug(
        "the message is trusted over the stored state",
        "shared/steps/work.py",
        "    if stored is None or not claimable(stored.run, context.clock.now()):",
        "    if stored is None or stored.run.terminal:",
    ),
    Bug(
        "a response that came too late is forgotten about",
        _CREATING,
        "    noted = replace(run, abandoned=(*run.abandoned, response_id))\n",
        "    noted = replace(run, unknown_creates=run.unknown_creates)\n",
    ),
    Bug(
        "creates of unknown outcome are not counted",
        _RULE,
        "        return replace(run, unknown_creates=run.unknown_creates + 1)\n",
        "        return run\n",
    ),
    Bug(
        "another owner's run can be read",
        "shared/usecases/read.py",
        "or stored.run.owner != owner:",
        "or not owner:",
    ),
    Bug(
        "a first 404 is believed",
        _POLLING,
        "    if now - run.missing_since < MISSING_GRACE:",
        "    if now < run.missing_since:",
    ),
    Bug(
        "a broken row stops its shard",
        _RUNS,
        "            except (KeyError, ValueError) as fault:\n                # One row",
        "            except IndexError as fault:\n                # One row",
    ),
    Bug(
        "a slice is kept wherever it begins",
        _POLLING,
        "run.token != piece.response_id or run.sequence != piece.after:",
        "run.token != piece.response_id:",
    ),
    Bug(
        "the rest of a turn is told from its beginning",
        _POLLING,
        '{"turn": run.turn, "start": run.written}',
        '{"turn": run.turn, "start": 0}',
    ),
    Bug(
        "a text that the answer does not begin with stays",
        _POLLING,
        "    if not event.as_told:",
        "    if False:",
    ),
    Bug(
        "the text of an unfinished turn stays",
        _ENDING,
        "    if unfinished and (run.written or run.turns):",
        "    if unfinished and run.turns:",
    ),
    Bug("the next turn goes on counting the text of the last", _CREATING, "        written=0,\n", ""),
    Bug(
        "of two slices, any is found",
        _SLICES,
        'f"slice-{run.rev:08d}-{context.token()}"',
        'f"slice-{run.rev:08d}"',
    ),
)
