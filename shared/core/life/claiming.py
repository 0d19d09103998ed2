"""A worker takes the step that a run is owed."""

from dataclasses import replace
from datetime import datetime

from shared.core import log
from shared.core.life import events
from shared.core.life.calling import claim_tools
from shared.core.life.generating import claim_generation
from shared.core.life.rule import Result, claimable, counted, end
from shared.core.run import Run, RunStatus, Step


def claimed(run: Run, event: events.Claimed, now: datetime) -> Result:
    # What was read before the claim belongs to one step of one turn. Another one may be owed by now.
    if not claimable(run, now) or (run.step, run.turn) != (event.step, event.turn):
        return run, ()
    known = not run.turn_started_at or run.status is RunStatus.CANCELLING or run.written == event.written
    if run.step is Step.GENERATE and not known:
        # Another worker has stored more meanwhile. A text is continued only by who has loaded all of it.
        return run, ()
    # The lease of another worker has expired, and it is unknown what this worker did.
    lease_expired = run.lease is not None
    leased = replace(run, lease=event.lease, due=event.lease.expires_at)
    match run.step:
        case Step.CREATE if run.status is RunStatus.CANCELLING:
            return end(counted(run), RunStatus.CANCELLED, now), ()
        case Step.CREATE if lease_expired:
            return counted(leased), (log.TurnCreateRepeated(run.turn),)
        case Step.GENERATE:
            return claim_generation(leased, event, now)
        case Step.TOOLS:
            return claim_tools(leased, event, now)
    return leased, ()
