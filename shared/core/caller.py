"""Who sends a request, and what this caller may do."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a caller may do."""

    # See own runs.
    READER = "reader"
    # Start, cancel and delete own runs.
    CALLER = "caller"
    # See and answer the waiting calls of all owners.
    APPROVER = "approver"
    # See what concerns the whole app.
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request. What the request creates belongs to `owner`, and no other caller sees it."""

    owner: str
    roles: frozenset[Role] = frozenset(Role)
