"""Lists of runs, newest first."""

from dataclasses import dataclass

from shared.core.caller import Caller
from shared.core.ids import position, shard_of
from shared.core.run import Run, RunStatus
from shared.errors import Malformed
from shared.steps.context import Context
from shared.usecases.read import owned_session

# How far back a page of a session looks for runs that match, before it leaves the rest to the next page.
_LOOK_BACK = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Which runs a client wants to see. `after` is the position of the last one it has seen, or empty."""

    status: str | None = None
    agent: str | None = None
    session_id: str | None = None
    limit: int
    after: str = ""


async def list_runs(context: Context, caller: Caller, wanted: Listing) -> tuple[list[Run], str | None]:
    """Return a page of the owner's runs, and the position after which the next page begins, if there may be one.

    Raises NotFound for a session that is not there or not the owner's.
    """
    if wanted.session_id:
        return await _of_session(context, caller, wanted)
    runs = await context.runs.listing(
        caller.owner, status=wanted.status, agent=wanted.agent, after=wanted.after, limit=wanted.limit + 1
    )
    page = runs[: wanted.limit]
    return page, position(page[-1].id) if len(runs) > wanted.limit else None


async def _of_session(context: Context, caller: Caller, wanted: Listing) -> tuple[list[Run], str | None]:
    """Follow the session's runs backwards, from each to the one before it."""
    session = (await owned_session(context, caller, wanted.session_id or "")).session
    # A cursor names the last run looked at, so the walk goes on from there and not from the beginning.
    at, seen = session.last_run_id, ""
    if wanted.after and wanted.session_id:
        at = f"run_{shard_of(wanted.session_id)}{wanted.after}"
        stored = await context.runs.read(at)
        if stored is None or stored.run.session_id != session.id:
            raise Malformed(
                "cursor has to come from a nextLink of this list.", code="invalid_cursor", field="cursor"
            )
        at = stored.run.previous_run_id
    found: list[Run] = []
    for _ in range(_LOOK_BACK):
        if at is None or (stored := await context.runs.read(at)) is None:
            return found, None
        run = stored.run
        if run.session_id == session.id and _matches(run, wanted):
            if len(found) == wanted.limit:
                return found, seen
            found.append(run)
        at, seen = run.previous_run_id, position(run.id)
    return found, seen


def _matches(run: Run, wanted: Listing) -> bool:
    return (
        run.status is not RunStatus.DELETED
        and wanted.status in {None, run.status.value}
        and wanted.agent in {None, run.agent}
    )
