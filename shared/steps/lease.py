"""How long a lease covers a step, and whether it is still fresh enough for a side effect."""

import logging
from datetime import timedelta

from shared.core.run import Run, Step
from shared.log import log_event
from shared.steps.context import Context


def duration(context: Context, run: Run) -> timedelta:
    """Return how long the owed step may take."""
    spec = context.agents.spec(run.agent)
    if run.step is Step.TOOLS and spec is not None:
        return spec.longest_tool + context.provider_timeout
    return context.provider_timeout


def too_late(context: Context, run: Run) -> bool:
    """Say, right before a side effect that must not happen twice, whether the lease may end before the work does.

    A process that stood still meanwhile leaves the step to the worker that takes it next.
    """
    late = run.lease is None or context.clock.now() + duration(context, run) > run.lease.expires_at
    if late:
        log_event("lease.too_old", level=logging.WARNING, run_id=run.id, step=run.step)
    return late
