"""What a caller needs for each operation."""

from collections.abc import Callable, Mapping
from enum import Enum

from shared.core.caller import Caller, Role
from shared.errors import Forbidden, Unauthenticated, Unidentified
from shared.web.http import Request


class Need(Enum):
    """What an operation needs, other than a role."""

    # It is the same in each app and holds no data, so nobody is looked for.
    NOTHING = "nothing"
    # It answers everybody, and an admin more.
    CALLER_IF_NAMED = "caller if named"
    # Any caller may use it.
    CALLER = "caller"


# By the names of the handlers. Of several roles, one is enough.
NEEDS: Mapping[str, Role | frozenset[Role] | Need] = {
    "start_run": Role.CALLER,
    "retry_run": Role.CALLER,
    "cancel_run": Role.CALLER,
    "delete_run": Role.CALLER,
    "delete_session": Role.CALLER,
    "get_runs": Role.READER,
    "get_run": Role.READER,
    "get_events": Role.READER,
    # What a caller may see and answer depends on the call.
    "get_calls": frozenset({Role.READER, Role.APPROVER}),
    "post_answer": frozenset({Role.CALLER, Role.APPROVER}),
    "get_waits": Role.APPROVER,
    "get_session": Role.READER,
    "get_agents": Role.READER,
    "get_me": Need.CALLER,
    "get_health": Need.CALLER_IF_NAMED,
    "get_openapi": Need.NOTHING,
    "get_dashboard": Need.NOTHING,
}
# What they answer belongs to no owner. A request that a key of the host has let in need not name one.
_WITHOUT_OWNER = frozenset({"get_agents", "get_health"})


def admitted(operation: str, callers: Callable[[Request], Caller], request: Request) -> Caller | None:
    """Return the caller of an operation; None if it does not need one.

    Raises Unidentified, Unauthenticated or Forbidden.
    """
    need = NEEDS[operation]
    if need is Need.NOTHING:
        return None
    try:
        caller = callers(request)
    except (Unidentified, Unauthenticated, Forbidden) as error:
        if _may_stay_unknown(operation, need, error):
            return None
        raise
    needed = frozenset() if isinstance(need, Need) else need if isinstance(need, frozenset) else {need}
    if needed and not needed & caller.roles:
        had, wanted = (", ".join(role for role in Role if role in roles) for roles in (caller.roles, needed))
        raise Forbidden(
            f"This needs the role {wanted.replace(', ', ' or ')}. The caller has: {had}.", code="role_missing"
        )
    return caller


def _may_stay_unknown(
    operation: str, need: Role | frozenset[Role] | Need, error: Unidentified | Unauthenticated | Forbidden
) -> bool:
    if isinstance(error, Unidentified):
        return operation in _WITHOUT_OWNER
    # Wrong credentials are refused, so that a monitor learns that its key was replaced.
    return need is Need.CALLER_IF_NAMED and (
        isinstance(error, Forbidden) or error.code == Unauthenticated.code
    )
