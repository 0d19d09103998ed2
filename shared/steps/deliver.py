"""Make deliveries. Each is made at least once, and a crash does not lose it."""

import logging
from datetime import timedelta

from shared.core.delivery import CancelResponse, ClockRow, Delivery
from shared.core.life.leasing import ENOUGH
from shared.core.life.polling import MISSING_GRACE
from shared.core.response import Absent, CancelReply, NotNow, Refused, Snapshot
from shared.errors import RowConflict
from shared.log import log_event
from shared.steps.context import Context
from shared.steps.reading import send_cancel
from shared.store.outbox import StoredDelivery

# How long the cancellation of a response is tried. After that the response runs to its end at the provider.
CANCEL_PATIENCE = timedelta(hours=1)


async def deliver(context: Context, clock: ClockRow) -> None:
    """Make the delivery of a clock row, if it is still owed."""
    stored = await context.outbox.read(clock)
    if stored is None:
        return
    try:
        # The later time works like a lease: other workers wait, and if this process dies it is due again
        # then. It is not renewed, because it covers the one request.
        until = max(context.lease_end(), context.clock.now() + context.read_timeout + ENOUGH)
        claimed = await context.outbox.move(stored, until)
    except RowConflict:
        return
    delivery = claimed.delivery
    # Taken before the request, because this process may stand still before it has the reply.
    age = context.clock.now() - delivery.created_at
    reply = await send_cancel(
        context, delivery.run_id, delivery.content.provider, delivery.content.response_id
    )
    gone = context.gone(delivery.content.provider) is not None
    if age < _patience(reply):
        log_event(
            "delivery.deferred", level=logging.WARNING, run_id=delivery.run_id, reply=type(reply).__name__
        )
        await _defer(context, claimed, reply.retry_after if isinstance(reply, NotNow) else None)
        return
    _report(delivery, delivery.content, stopped=isinstance(reply, Snapshot | Absent) and not gone)
    await context.outbox.remove(claimed)


def _patience(reply: CancelReply) -> timedelta:
    """Return at which age of a delivery this reply to it is final."""
    match reply:
        case Snapshot():
            return timedelta()
        case Absent():
            # A provider may not know a new response yet. Another host may still have the provider.
            return MISSING_GRACE
        case Refused() | NotNow():
            return CANCEL_PATIENCE


async def _defer(context: Context, claimed: StoredDelivery, retry_after: timedelta | None) -> None:
    try:
        await context.outbox.move(claimed, context.retry_at(claimed.delivery.created_at, retry_after))
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
