"""Lists of runs, newest first."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared.core.caller import Caller
from shared.core.ids import first_position, position, shard_of
from shared.core.run import Run, RunStatus
from shared.errors import Malformed
from shared.steps.chain import run_of_session, runs_back
from shared.steps.context import Context
from shared.usecases.read import LOOK_BACK, owned_session

# A page that is filtered by metadata reads runs at most this many times. The next page continues after them.
_ROUNDS = 5
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Which runs a client requests."""

    status: str | None = None
    agent: str | None = None
    session_id: str | None = None
    # Values that the metadata of a run must have.
    metadata: Mapping[str, str] = field(default_factory=dict)
    # Runs that were started at this time or later, and before this time.
    created_after: datetime | None = None
    created_before: datetime | None = None
    limit: int
    # The position of the last run that the client has seen, or empty.
    after: str = ""

    def has(self, run: Run) -> bool:
        return (
            run.status is not RunStatus.DELETED
            and self.status in {None, run.status.value}
            and self.agent in {None, run.agent}
            and self.metadata.items() <= run.metadata.items()
            and (self.created_after is None or run.created_at >= self.created_after)
            and (self.created_before is None or run.created_at < self.created_before)
        )


async def list_runs(context: Context, caller: Caller, listing: Listing) -> tuple[list[Run], str | None]:
    """Return a page of the owner's runs, and the position after which the next page begins.

    The position is None when there is no next page. A page may be empty and still have a next one.
    Raises NotFound for a session that does not exist or is another owner's.
    """
    if listing.session_id:
        return await _of_session(context, caller, listing)
    after, until = _bounds(listing)
    page: list[Run] = []
    for _ in range(_ROUNDS):
        runs = await context.runs.listing(
            caller.owner,
            status=listing.status,
            agent=listing.agent,
            after=after,
            until=until,
            limit=listing.limit + 1,
        )
        for run in runs[: listing.limit]:
            if listing.has(run):
                if len(page) == listing.limit:
                    return page, after
                page.append(run)
            after = position(run.id)
        if len(runs) <= listing.limit:
            return page, None
        if len(page) == listing.limit:
            break
    return page, after


def _bounds(listing: Listing) -> tuple[str, str]:
    """Return the positions between which the runs lie. Positions count time backwards."""
    after, until = listing.after, ""
    if listing.created_before:
        # A millisecond more on each side: a run knows its own time more precisely than its position.
        after = max(after, first_position(listing.created_before + _MILLISECOND))
    if listing.created_after:
        until = first_position(listing.created_after - 2 * _MILLISECOND)
    return after, until


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
    read = 0
    async for stored in runs_back(context, run_id, session):
        run = stored.run
        if listing.has(run):
            if len(found) == listing.limit:
                return found, last_position
            found.append(run)
        last_position = position(run.id)
        read += 1
        if read == LOOK_BACK:
            return found, last_position
    return found, None
