"""Bugs that a change could introduce, each as a replacement in the source."""

from tests.proofs.mutants.bug import Bug
from tests.proofs.mutants.generate_bugs import GENERATE_BUGS
from tests.proofs.mutants.lease_bugs import LEASE_BUGS
from tests.proofs.mutants.log_bugs import LOG_BUGS
from tests.proofs.mutants.provider_bugs import PROVIDER_BUGS
from tests.proofs.mutants.quota_bugs import QUOTA_BUGS
from tests.proofs.mutants.wait_bugs import WAIT_BUGS

_CALLING = "shared/core/life/calling.py"
_CREATING = "shared/core/life/creating.py"
_ENDING = "shared/core/life/ending.py"
_POLLING = "shared/core/life/polling.py"
_RULE = "shared/core/life/rule.py"
_CANCEL = "shared/steps/cancel.py"
_DUE = "shared/steps/due.py"
_TOOLS = "shared/steps/tools.py"
_RUNS = "shared/store/runs.py"
_TRANSACTION = "shared/store/transaction.py"
_READ = "shared/usecases/read.py"
_START = "shared/usecases/start.py"

BUGS = (
    Bug(
        "no lease: any worker takes the step",
        _RULE,
        "run.step.worked_on and now >= run.due",
        "run.step.worked_on",
    ),
    Bug(
        "a create is saved without its lease",
        _CREATING,
        "    if not holds(run, event.lease_id, Step.CREATE):\n        return _abandon(",
        "    if run.terminal:\n        return _abandon(",
    ),
    Bug(
        "terminal guard removed: polls change a run that has ended",
        _POLLING,
        "    if run.terminal or not run.awaits(snapshot.response_id):",
        "    if not run.responses or snapshot.response_id != run.responses[-1]:",
    ),
    Bug(
        "terminal guard removed: a deadline changes a run that has ended",
        _ENDING,
        "    if run.terminal or run.paused_at or now < run.expires_at:\n",
        "    if run.paused_at or now < run.expires_at:\n",
    ),
    Bug(
        "the continuation is kept after the end",
        _RULE,
        "        continuation=None,\n        lease=None,\n        missing_since=None,",
        "        lease=None,\n        missing_since=None,",
    ),
    Bug(
        "transitions are saved without a condition",
        _RUNS,
        "Put(run_row(after, tx, unknown), before.etag)",
        "Put(run_row(after, tx, unknown))",
    ),
    Bug(
        "tx is not read again after a lost reply",
        _TRANSACTION,
        "        if row and row.values.get(proof) == tx:\n            return Written(row.etag, row)\n        raise",
        "        raise",
    ),
    Bug(
        "the tx of any writer counts as the writer's own",
        _TRANSACTION,
        "if row and row.values.get(proof) == tx:",
        "if row and row.values.get(proof):",
    ),
    Bug(
        "the key is not read before the run is written",
        _START,
        "    key = await claim_key(context, caller, request.idempotency_key, fresh, now)\n",
        "    key = fresh\n",
    ),
    Bug(
        "a key that another request has claimed is taken",
        "shared/store/keys.py",
        "                return stored\n            raise\n",
        "                return fresh\n            raise\n",
    ),
    Bug(
        "another body with the same key is accepted",
        "shared/usecases/repeated.py",
        "    if not stored.is_of(fresh.fingerprint):",
        "    if not stored.fingerprint:",
    ),
    Bug(
        "the answer of an earlier turn is shown",
        _POLLING,
        "        answer=event.answer,\n    )\n    if event.unread",
        "        answer=run.answer or event.answer,\n    )\n    if event.unread",
    ),
    Bug(
        "the answer of another output is shown",
        "shared/core/answer.py",
        "        after = begin + len(written)\n        spans.append((begin + 1, after - 1))",
        "        after = begin + len(written)\n        spans.append((begin + 2, after - 1))",
    ),
    Bug(
        "the hash of a deleted input is kept",
        "shared/steps/purge.py",
        "    if run.key:\n",
        "    if run.key and run.owner:\n",
    ),
    Bug(
        "a tool that is not idempotent is run again",
        _CALLING,
        "case CallStatus.IN_PROGRESS if not call.idempotent or run.status is RunStatus.CANCELLING:",
        "case CallStatus.IN_PROGRESS if run.status is RunStatus.CANCELLING:",
    ),
    Bug(
        "tools run before they are marked as started",
        _TOOLS,
        "        if call.status is CallStatus.IN_PROGRESS and call.call_id in requested.keys() - loaded.altered\n",
        "        if call.call_id in requested.keys() - loaded.altered\n",
    ),
    Bug(
        "tools start again in a run that is being cancelled",
        _CALLING,
        "case CallStatus.IN_PROGRESS if not call.idempotent or run.status is RunStatus.CANCELLING:",
        "case CallStatus.IN_PROGRESS if not call.idempotent:",
    ),
    Bug(
        "a tool's output is saved twice",
        _CALLING,
        "if call.call_id == event.call_id and call.status is CallStatus.IN_PROGRESS:",
        "if call.call_id == event.call_id:",
    ),
    Bug(
        "usage is added twice",
        _POLLING,
        "usage=run.usage + snapshot.usage,\n",
        "usage=run.usage + snapshot.usage + snapshot.usage,\n",
    ),
    Bug(
        "a cancellation replaces a finished answer",
        _POLLING,
        "    match snapshot.status:\n        case ResponseStatus.FAILED:",
        "    if done.status is RunStatus.CANCELLING:\n        return end(done, RunStatus.CANCELLED, now), ()\n"
        "    match snapshot.status:\n        case ResponseStatus.FAILED:",
    ),
    Bug(
        "a deadline replaces a finished answer",
        _CANCEL,
        "            case Snapshot() if _finished(reply):\n                return await settle(context, stored, reply)\n    return",
        "            case Snapshot() if not run:\n                return await settle(context, stored, reply)\n    return",
    ),
    Bug("an expired run is not polled", _DUE, "    if owed.expired(now):\n        return True\n", ""),
    Bug(
        "the pointer is saved before its text is stored",
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
        "    return [Put(owed_row(owed))] if owed else [Delete(rows.owed_key(after.id))]",
        "    return [Put(owed_row(owed))] if owed else []",
    ),
    Bug(
        "the session is not released",
        "shared/store/sessions.py",
        '        values["held_by"] = ""\n',
        '        values["runs_ended"] = 1\n',
    ),
    Bug(
        "the poll schedule is ignored",
        _DUE,
        "    return context.schedule_for(owed.continuation).poll_due(owed.turn_started_at, after, now)",
        "    return True",
    ),
    Bug(
        "two pollers do not exclude each other",
        _DUE,
        "    if due == Due() or not await context.shards.claim(shard, view.tick, max(now, after)):",
        "    await context.shards.claim(shard, view.tick, max(now, after))\n    if due == Due():",
    ),
    Bug(
        "the message is trusted over the stored state",
        "shared/steps/work.py",
        "    if stored is None or not claimable(stored.run, context.clock.now()):",
        "    if stored is None or stored.run.terminal:",
    ),
    Bug(
        "a worker starts calls that it has not loaded",
        _CALLING,
        "            case CallStatus.QUEUED if run.status is RunStatus.CANCELLING or call.call_id not in loaded:",
        "            case CallStatus.QUEUED if run.status is RunStatus.CANCELLING:",
    ),
    Bug(
        "a response that came too late is not noted",
        _CREATING,
        "    noted = replace(run, abandoned=abandoned)\n",
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
        _READ,
        "or stored.run.owner != caller.owner:",
        "or not caller.owner:",
    ),
    Bug(
        "a run that was deleted meanwhile is shown as its tombstone",
        _READ,
        "    if run.status is RunStatus.DELETED:\n        raise no_run(run.id)\n",
        "",
    ),
    Bug(
        "a worker does not expect that its calls are deleted meanwhile",
        "shared/steps/work.py",
        "    except LookupError as fault:",
        "    except KeyError as fault:",
    ),
    Bug(
        "the deletion of one run hides its session",
        _READ,
        "    except NotFound:\n        # Deleted since",
        "    except KeyError:\n        # Deleted since",
    ),
    Bug(
        "the first 404 ends the run",
        _POLLING,
        "    if now - run.missing_since < MISSING_GRACE:",
        "    if now < run.missing_since:",
    ),
    Bug(
        "a broken row stops its shard",
        "shared/store/shards.py",
        "            except UnreadableRow as fault:\n                # One broken row",
        "            except IndexError as fault:\n                # One broken row",
    ),
    *PROVIDER_BUGS,
    *LOG_BUGS,
    *QUOTA_BUGS,
    *LEASE_BUGS,
    *WAIT_BUGS,
    *GENERATE_BUGS,
)
