"""Starts that are repeated with the same Idempotency-Key: the first one counts."""

from datetime import datetime

from shared.core import ids
from shared.core.caller import Caller
from shared.core.run import RunStatus
from shared.errors import Conflict, InvalidInput
from shared.steps.context import Context
from shared.steps.transition import Applied
from shared.store.keys import StoredKey
from shared.store.runs import StoredRun


async def claim_key(
    context: Context, caller: Caller, key: str | None, fresh: StoredKey, now: datetime
) -> StoredKey:
    """Store the key before the run, so that a repeated request after a crash uses the same ids.

    Returns the ids that are stored for the key: `fresh`, or those of an earlier request.
    """
    if not key:
        return fresh
    hashed = ids.key_hash(caller.owner, key)
    stored = await context.keys.claim(ids.key_shard(hashed), hashed, fresh, now)
    if not stored.is_of(fresh.fingerprint):
        raise _reused()
    return stored


async def earlier_run(
    context: Context, caller: Caller, key: str | None, fingerprint: str
) -> StoredRun | None:
    """Return the run that an earlier request with the same key and body has started, if there is one."""
    if not key:
        return None
    hashed = ids.key_hash(caller.owner, key)
    stored = await context.keys.read(ids.key_shard(hashed), hashed)
    if stored is None or not stored.is_of(fingerprint):
        return None
    return await context.runs.read(stored.run_id)


def repeated(stored: StoredRun, caller: Caller) -> Applied:
    """Return the run of an earlier request with the same key. What the key's row says is not trusted."""
    if stored.run.status is RunStatus.DELETED:
        raise Conflict(
            "The run of this Idempotency-Key was deleted; use a new key for a new run.",
            code="run_deleted",
            field="Idempotency-Key",
        )
    if stored.run.owner != caller.owner:
        raise _reused()
    return Applied(stored)


def _reused() -> InvalidInput:
    return InvalidInput(
        "This Idempotency-Key was used with another request; use a new key for a new request.",
        code="idempotency_key_reused",
        field="Idempotency-Key",
    )
