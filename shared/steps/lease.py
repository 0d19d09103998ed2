"""How long the lease of a step lasts, and whether enough of it is left for a side effect."""

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
    """Return whether the lease may expire before the work is done; checked right before a side effect.

    This happens when the process was paused after it took the lease. Another worker then takes the step.
    """
    late = run.lease is None or context.clock.now() + duration(context, run) > run.lease.expires_at
    if late:
        reason = "the lease may expire before the work is done"
        log_event("step.skipped", level=logging.WARNING, run_id=run.id, step=run.step, reason=reason)
    return late
