"""Read and cancel responses. The reply is not believed when it is the response of another run."""

from datetime import timedelta

from shared.core.life.polling import read_verdict
from shared.core.response import RESPONSE_SLOW, CancelReply, ReadReply, Refused, Snapshot
from shared.core.run import Owed, Run
from shared.steps.context import Context


async def read(
    context: Context, owed: Run | Owed, response_id: str, within: timedelta | None = None
) -> ReadReply:
    """Read a response. `within` is the time limit, when it is not the usual one."""
    provider = context.provider(owed.provider)
    reply = await provider.read(response_id, include=include_of(context, owed), within=within)
    if isinstance(reply, Snapshot) and not reply.status.finished:
        context.background.works(owed.provider)
    return read_verdict(owed.id if isinstance(owed, Run) else owed.run_id, reply)


async def send_cancel(context: Context, run_id: str, provider: str, response_id: str) -> CancelReply:
    """Cancel a response of a run, and return the reply."""
    reply = await context.provider(provider).cancel(response_id)
    return reply if isinstance(reply, Refused) else read_verdict(run_id, reply)


def time_limit(context: Context, run: Run) -> timedelta:
    """Return how long a read by a worker may take: longer each time that the last one was not enough."""
    waiting = run.waiting
    if waiting is None or waiting.error.code != RESPONSE_SLOW:
        return context.read_timeout
    return min(context.read_timeout * 2.0 ** min(waiting.attempts, 10), context.provider_timeout)


def include_of(context: Context, owed: Run | Owed) -> tuple[str, ...]:
    spec = context.agents.spec(owed.agent)
    return spec.include if spec else ()
