"""Parse the queries of lists, feeds and reads. Errors are as in `parse`."""

import re
from collections.abc import Mapping
from datetime import datetime

from shared.core import ids
from shared.core.run import RunStatus
from shared.core.text import is_name
from shared.core.times import is_usable
from shared.errors import InvalidInput, Malformed
from shared.usecases.listing import Listing
from shared.web.http import EVENT_STREAM, Request
from shared.web.runs_api.parse import MAX_METADATA_PAIRS, session_id

MAX_PAGE = 100
DEFAULT_PAGE = 20
# How many events of a feed one reply holds.
MAX_EVENTS = 1_000
DEFAULT_EVENTS = 100

# The parameters of a list that its nextLink has too. Other parameters are not the API's own: a gateway's key is one.
RUNS_PARAMETERS = ("status", "agent", "session_id", "created_after", "created_before", "limit")
PAGE_PARAMETERS = ("limit",)

_METADATA = re.compile(r"metadata\[(.{1,64})\]", re.DOTALL)
_POSITION = re.compile(r"[0-9a-z]{26}")
_STATUSES = [status.value for status in RunStatus if status is not RunStatus.DELETED]


def listing(request: Request) -> Listing:
    query = request.query
    status = query.get("status")
    if status is not None and status not in _STATUSES:
        raise InvalidInput(
            f"status must be one of: {', '.join(_STATUSES)}.", code="invalid_status", field="status"
        )
    agent = query.get("agent")
    if agent is not None and not is_name(agent):
        raise InvalidInput("agent must be the name of an agent.", code="unknown_agent", field="agent")
    after = query.get("cursor", "")
    if after and not _POSITION.fullmatch(after):
        raise _bad_cursor()
    within = query.get("session_id")
    metadata = {found[1]: value for name, value in query.items() if (found := _METADATA.fullmatch(name))}
    if len(metadata) > MAX_METADATA_PAIRS:
        raise InvalidInput(
            f"A list is filtered by at most {MAX_METADATA_PAIRS} values of metadata.",
            code="invalid_metadata",
            field="metadata",
        )
    return Listing(
        status=status,
        agent=agent,
        session_id=session_id(within) if within is not None else None,
        metadata=metadata,
        created_after=_time(query, "created_after"),
        created_before=_time(query, "created_before"),
        limit=page_limit(query),
        after=after,
    )


def _time(query: Mapping[str, str], name: str) -> datetime | None:
    text = query.get(name)
    if text is None:
        return None
    try:
        # A plus sign that was not escaped has become a space.
        at = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        at = None
    if at is None or not is_usable(at):
        raise InvalidInput(
            f"{name} must be a time with its zone, such as 2026-01-31T09:00:00Z.",
            code="invalid_time",
            field=name,
        )
    return at


def list_parameters(query: Mapping[str, str]) -> list[str]:
    """Return the names of the parameters that a nextLink of a list has too."""
    return [name for name in query if name in RUNS_PARAMETERS or _METADATA.fullmatch(name)]


def includes_input(query: Mapping[str, str]) -> bool:
    """Return whether a client asks for the complete input of a run."""
    return "input" in query.get("include", "").split(",")


def page_limit(query: Mapping[str, str], default: int = DEFAULT_PAGE, most: int = MAX_PAGE) -> int:
    text = query.get("limit", str(default))
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= most:
        raise InvalidInput(f"limit must be a number from 1 to {most}.", code="invalid_limit", field="limit")
    return int(text)


def wants_stream(request: Request) -> bool:
    """Return whether the client accepts an event stream, as an EventSource does. Other clients get JSON."""
    return EVENT_STREAM in request.headers.get("accept", "")


def after_event(request: Request) -> int:
    """Return the number of the last event that the client has.

    An EventSource reconnects with its first URL and the header Last-Event-ID, so the header has precedence
    over the parameter.
    """
    header, parameter = request.headers.get("last-event-id"), request.query.get("after", "0")
    if not all(re.fullmatch(r"[0-9]{1,9}", text) for text in (header or "0", parameter)):
        raise InvalidInput(
            "after, or the header Last-Event-ID, must be the id of an event.",
            code="invalid_after",
            field="after",
        )
    return int(header or parameter)


def session_cursor(request: Request) -> str | None:
    cursor = request.query.get("cursor")
    if cursor is not None and not ids.is_id("run", cursor):
        raise _bad_cursor()
    return cursor


def _bad_cursor() -> Malformed:
    return Malformed("cursor must come from a nextLink of this list.", code="invalid_cursor", field="cursor")
