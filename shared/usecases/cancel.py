"""Cancel a run when a client requests it."""

from shared.core.caller import Caller
from shared.core.life.events import CancelRequested
from shared.core.run import RunStatus
from shared.errors import Conflict
from shared.steps.context import Context
from shared.steps.transition import Applied, apply
from shared.steps.work import perform_now
from shared.usecases.read import owned_run


async def cancel(context: Context, caller: Caller, run_id: str) -> Applied:
    """Cancel a run, at the provider too. A repeated request changes nothing.

    Raises NotFound, and Conflict for a run that has ended in another way.
    """
    stored = await owned_run(context, caller, run_id)
    if stored.run.terminal and stored.run.status is not RunStatus.CANCELLED:
        raise Conflict(f"Run {run_id} is {stored.run.status} and cannot be cancelled.", code="run_ended")
    lease = context.lease()
    return await perform_now(context, await apply(context, stored, CancelRequested(lease)), lease)
