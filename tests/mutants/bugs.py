"""Bugs that somebody might put in one day, each as a replacement in the source."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bug:
    """In `file`, `good` is replaced by `bad`; `good` stands there once."""

    name: str
    file: str
    good: str
    bad: str


_ADVANCE = "shared/core/advance.py"
_RUNS = "shared/store/runs.py"
_WORK = "shared/usecases/work.py"
_POLL = "shared/usecases/poll.py"
_START = "shared/usecases/start.py"
_END = "shared/usecases/end.py"

BUGS = (
    Bug(
        "no lease: whoever comes takes the step",
        _ADVANCE,
        "in {Step.CREATE, Step.TOOLS, Step.CANCEL} and now >= run.due",
        "in {Step.CREATE, Step.TOOLS, Step.CANCEL}",
    ),
    Bug(
        "lease ignored on waking up",
        _WORK,
        "    late = run.lease is None or context.clock.now() + _duration(context, run) > run.lease.expires_at\n",
        "    late = False\n",
    ),
    Bug(
        "a create is saved without its lease",
        _ADVANCE,
        "    if not _holds(run, event.lease_id, Step.CREATE):\n        return _came_too_late(",
        "    if run.terminal:\n        return _came_too_late(",
    ),
    Bug(
        "terminal guard removed: polls change what has ended",
        _ADVANCE,
        "    if run.token is None or run.terminal or snapshot.response_id != run.token:",
        "    if not run.responses or snapshot.response_id != run.responses[-1]:",
    ),
    Bug(
        "terminal guard removed: a deadline changes what has ended",
        _ADVANCE,
        "    if run.terminal:\n        return run, ()\n    if now < run.expires_at:\n        raise",
        "    if now < run.expires_at:\n        raise",
    ),
    Bug(
        "the token is kept after the end",
        _ADVANCE,
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
        _ADVANCE,
        "case CallStatus.IN_PROGRESS if not call.idempotent or run.status is RunStatus.CANCELLING:",
        "case CallStatus.IN_PROGRESS if run.status is RunStatus.CANCELLING:",
    ),
    Bug(
        "tools run before they are marked as started",
        _WORK,
        "        if call.call_id in started\n",
        "        if call.call_id in started or run.turn\n",
    ),
    Bug(
        "tools start again in a run that is being cancelled",
        _ADVANCE,
        "case CallStatus.IN_PROGRESS if not call.idempotent or run.status is RunStatus.CANCELLING:",
        "case CallStatus.IN_PROGRESS if not call.idempotent:",
    ),
    Bug(
        "a tool's result is saved twice over",
        _ADVANCE,
        "if call.call_id == event.call_id and call.status is CallStatus.IN_PROGRESS:",
        "if call.call_id == event.call_id:",
    ),
    Bug(
        "usage is added twice",
        _ADVANCE,
        "usage=run.usage + snapshot.usage, turns",
        "usage=run.usage + snapshot.usage + snapshot.usage, turns",
    ),
    Bug(
        "a cancellation wins over a finished answer",
        _ADVANCE,
        "    done = replace(\n",
        "    if run.status is RunStatus.CANCELLING:\n        return _end(run, RunStatus.CANCELLED, now), ()\n    done = replace(\n",
    ),
    Bug(
        "a deadline wins over a finished answer",
        _POLL,
        "        case Snapshot() if reply.status.finished or not expired:",
        "        case Snapshot() if not expired:",
    ),
    Bug(
        "an expired run is not looked at",
        _POLL,
        "    if _expired(one, now):\n        return True\n",
        "",
    ),
    Bug(
        "the pointer is saved, and the text is not there yet",
        "shared/store/content.py",
        "            await self._table.write(run_id, [Put(row)])\n",
        "            self.__dict__.setdefault('later', []).append((run_id, row))\n",
    ),
    Bug(
        "the text of another writer is removed",
        _WORK,
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
        _WORK,
        "    if stored is None or not claimable(stored.run, context.clock.now()):",
        "    if stored is None or stored.run.terminal:",
    ),
    Bug(
        "a response that came too late is forgotten about",
        _ADVANCE,
        "    noted = replace(run, abandoned=(*run.abandoned, response_id))\n",
        "    noted = replace(run, unknown_creates=run.unknown_creates)\n",
    ),
    Bug(
        "creates of unknown outcome are not counted",
        _ADVANCE,
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
        "a run that was deleted meanwhile is shown as its tombstone",
        "shared/usecases/read.py",
        "    if run.status is RunStatus.DELETED:\n        raise _no_run(run.id)\n",
        "",
    ),
    Bug(
        "a worker takes it that the calls it has claimed are still there",
        _WORK,
        "    asked = await _asked(context, run)\n",
        "    asked = items.calls(await context.content.load(run.id, run.turns[-1]))\n",
    ),
    Bug(
        "a run that is deleted meanwhile hides its session",
        "shared/usecases/read.py",
        "        except NotFound:\n            # Deleted since",
        "        except KeyError:\n            # Deleted since",
    ),
    Bug(
        "a first 404 is believed",
        _ADVANCE,
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
        _ADVANCE,
        "run.token != piece.response_id or run.sequence != piece.after:",
        "run.token != piece.response_id:",
    ),
    Bug(
        "the rest of a turn is told from its beginning",
        _ADVANCE,
        '{"turn": run.turn, "start": run.written}',
        '{"turn": run.turn, "start": 0}',
    ),
    Bug(
        "a text that the answer does not begin with stays",
        _ADVANCE,
        "    if not event.as_told:",
        "    if False:",
    ),
    Bug(
        "the text of an unfinished turn stays",
        _ADVANCE,
        "    if unfinished and (run.written or run.turns):",
        "    if unfinished and run.turns:",
    ),
    Bug(
        "the next turn goes on counting the text of the last",
        _ADVANCE,
        "        written=0,\n",
        "",
    ),
    Bug(
        "of two slices, any is found",
        "shared/usecases/slices.py",
        'f"slice-{run.rev:08d}-{context.token()}"',
        'f"slice-{run.rev:08d}"',
    ),
)
