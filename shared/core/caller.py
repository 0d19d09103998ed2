"""Who sends a request, and what this caller may do."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

# With this an owner's name begins when the app itself has recognised the caller: by a key, or as a person of Entra.
KEY_OWNER = "key:"
PERSON_OWNER = "aad:"


class Role(StrEnum):
    """What a caller may do."""

    # See own runs.
    READER = "reader"
    # Start, cancel and delete own runs, and all that a reader may.
    CALLER = "caller"
    # See and answer the calls that wait for an approval, of all owners.
    APPROVER = "approver"
    # See the state of the app.
    ADMIN = "admin"


class Recognition(StrEnum):
    """How a caller was recognised."""

    # By a key of the Functions host: all callers are one owner.
    HOST_KEY = "host_key"
    # By the header that a proxy sets.
    OWNER_HEADER = "owner_header"
    # By one of the app's own keys.
    API_KEY = "api_key"
    # As a person or a program that the platform has signed in.
    SIGN_IN = "sign_in"


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request. What the request creates belongs to `owner`, and no other caller sees it."""

    owner: str
    roles: frozenset[Role] = frozenset(Role)
    recognition: Recognition = Recognition.HOST_KEY
    # What a person is called. It is for display only: names change, and two people may have the same.
    name: str | None = None

    @property
    def approves_for_all(self) -> bool:
        """Whether the caller may approve calls of all owners. Owners whom a proxy names approve for themselves."""
        return Role.APPROVER in self.roles and self.recognition is not Recognition.OWNER_HEADER

    def approves_for(self, owner: str) -> bool:
        """Return whether the caller may see and answer calls of this owner's runs that wait for an approval."""
        return Role.APPROVER in self.roles and (owner == self.owner or self.approves_for_all)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One of the app's own keys, without the key itself: `digest` is its SHA-256."""

    name: str
    roles: frozenset[Role]
    digest: bytes = field(repr=False)


def granted(names: Iterable[str]) -> frozenset[Role]:
    """Return the roles with exactly these names, and those that they include. Other names grant nothing."""
    known = {Role(name) for name in names if name in _NAMES}
    return frozenset(known | {Role.READER} if Role.CALLER in known else known)


_NAMES = frozenset(role.value for role in Role)
