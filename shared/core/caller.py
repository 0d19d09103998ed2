"""Who asks for something, and what they may."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a caller may do."""

    # See the own runs.
    READER = "reader"
    # Start, cancel and delete own runs.
    CALLER = "caller"
    # See and answer waiting calls of all owners.
    APPROVER = "approver"
    # See what concerns the whole app.
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sent a request: the owner of what it makes, and the only one who sees that again."""

    owner: str
    roles: frozenset[Role] = frozenset(Role)
