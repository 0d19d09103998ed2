"""Lists of runs, newest first."""

from dataclasses import dataclass

from shared.core.caller import Caller
from shared.core.ids import position, shard_of
from shared.core.run import Run, RunStatus
from shared.errors import Malformed
from shared.steps.chain import run_of_session
from shared.steps.context import Context
from shared.usecases.read import owned_session

# A page of a session reads at most this many runs. The next page continues after them.
_LOOK_BACK = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Which runs a client requests."""

    status: str | None = None
    agent: str | None = None
    session_id: str | None = None
    limit: int
    # The position of the last run that the client has seen, or empty.
    after: str = ""


async def list_runs(context: Context, caller: Caller, listing: Listing) -> tuple[list[Run], str | None]:
    """Return a page of the owner's runs, and the position after which the next page begins.

    The position is None when there is no next page. The last page may be empty.
    Raises NotFound for a session that does not exist or is another owner's.
    """
    if listing.session_id:
        return await _of_session(context, caller, listing)
    runs = await context.runs.listing(
        caller.owner, status=listing.status, agent=listing.agent, after=listing.after, limit=listing.limit + 1
    )
    page = runs[: listing.limit]
    return page, position(page[-1].id) if len(runs) > listing.limit else None


async def _of_session(context: Context, caller: Caller, listing: Listing) -> tuple[list[Run], str | None]:
    """Follow the session's linked list of runs: each run names the one before it."""
    session = (await owned_session(context, caller, listing.session_id or "")).session
    # The cursor names the last run that was read, so the next page continues there.
    run_id, last_position = session.last_run_id, ""
    if listing.after and listing.session_id:
        run_id = f"run_{shard_of(listing.session_id)}{listing.after}"
        stored = await run_of_session(context, run_id, session)
        if stored is None:
            raise Malformed(
                "cursor must come from a nextLink of this list.", code="invalid_cursor", field="cursor"
            )
        run_id = stored.run.previous_run_id
    found: list[Run] = []
    for _ in range(_LOOK_BACK):
        if run_id is None or (stored := await run_of_session(context, run_id, session)) is None:
            return found, None
        run = stored.run
        if _matches(run, listing):
            if len(found) == listing.limit:
                return found, last_position
            found.append(run)
        run_id, last_position = run.previous_run_id, position(run.id)
    return found, last_position


def _matches(run: Run, listing: Listing) -> bool:
    return (
        run.status is not RunStatus.DELETED
        and listing.status in {None, run.status.value}
        and listing.agent in {None, run.agent}
    )
