"""Do what a message asks for, from whichever queue, except for polling a shard, which needs the shell's tasks."""

import logging

from shared.core.delivery import WAIT
from shared.core.ids import is_id
from shared.log import log_event
from shared.steps.context import Context
from shared.steps.deliver import deliver
from shared.steps.messages import bundle_of_message, clock_of_message, generate_of_message, poll_of_message
from shared.steps.poll import poll_by_worker
from shared.steps.waits import end_waits
from shared.steps.work import work


async def carry_out(context: Context, message: str) -> tuple[str, ...]:
    """Do what a message asks for, and return further messages. Anybody may have written it, so it may be anything.

    A message that came on another queue than its own is carried out, too.
    """
    if bundle := bundle_of_message(message):
        return bundle
    if clock := clock_of_message(message):
        if clock.name == WAIT:
            return await end_waits(context, clock)
        await deliver(context, clock)
        return ()
    if run_id := generate_of_message(message):
        return await work(context, run_id, generates=True)
    if run_id := poll_of_message(message):
        return await poll_by_worker(context, run_id)
    if not is_id("run", message):
        log_event("message.ignored", level=logging.WARNING, length=len(message))
        return ()
    return await work(context, message)
