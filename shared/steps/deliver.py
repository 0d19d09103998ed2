"""The deliveries: each is made at least once, and never lost by a crash."""

import logging
from datetime import timedelta

from shared.core.delivery import CancelResponse, ClockRow, Delivery
from shared.core.response import NotNow
from shared.errors import RowConflict
from shared.log import log_event
from shared.steps.context import Context
from shared.store.outbox import StoredDelivery

# How long the provider is asked to stop a response; after that it runs to its end there, and nobody reads it.
CANCEL_PATIENCE = timedelta(hours=1)


async def deliver(context: Context, clock: ClockRow) -> None:
    """Make the delivery that a clock row stands for, if it is still owed and due."""
    if clock.due > context.clock.now() or (stored := await context.outbox.read(clock)) is None:
        return
    try:
        # Until then nobody else makes it; if this process dies, it is due again.
        taken = await context.outbox.move(stored, context.lease_end())
    except RowConflict:
        return
    delivery = taken.delivery
    reply = await context.provider(delivery.content.provider).cancel(delivery.content.response_id)
    if isinstance(reply, NotNow) and context.clock.now() - delivery.created_at < CANCEL_PATIENCE:
        log_event("delivery.deferred", level=logging.WARNING, run_id=delivery.run_id, reason=reply.reason)
        await _defer(context, taken, reply.retry_after)
        return
    _report(delivery, delivery.content, stopped=not isinstance(reply, NotNow))
    await context.outbox.remove(taken)


async def _defer(context: Context, taken: StoredDelivery, asked: timedelta | None) -> None:
    try:
        await context.outbox.move(taken, context.retry_at(taken.delivery.created_at, asked))
    except RowConflict:
        return


def _report(delivery: Delivery, content: CancelResponse, *, stopped: bool) -> None:
    log_event(
        "response.abandoned",
        level=logging.WARNING,
        run_id=delivery.run_id,
        response_id=content.response_id,
        stopped=stopped,
    )
