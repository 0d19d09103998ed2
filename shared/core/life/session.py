"""What a transition of a run changes in its session."""

from dataclasses import dataclass

from shared.core.run import Run, RunStatus

_CHAIN_LOST = "previous_response_not_found"


@dataclass(frozen=True, slots=True)
class SessionChange:
    """What changes in a session."""

    # Whether the run stops holding the session.
    released: bool = False
    # The response that the next run continues. None: no change. Empty: the next run replays the conversation.
    last_response_id: str | None = None
    # Whether the next run has to bring outputs of calls. None: no change.
    awaits_outputs: bool | None = None


def session_change(before: Run, after: Run) -> SessionChange | None:
    """Return what the transition from `before` to `after` changes in the session, or None."""
    released = after.terminal and not before.terminal
    if before.in_conversation and after.status is RunStatus.DELETED:
        # At the provider, the chain of previous responses still contains the deleted run.
        # A later run may have handed over calls as well, so what the next run has to bring stays.
        return SessionChange(released, "")
    if not released:
        return None
    if after.error and after.error.provider_code == _CHAIN_LOST:
        # The response failed because it could not continue the one before.
        return SessionChange(released, "")
    if not after.in_conversation:
        return SessionChange(released)
    # Without a change it is not written.
    awaits = bool(after.handed_over) if after.handed_over or after.answers_calls else None
    return SessionChange(released, after.previous_response_id if after.chainable else "", awaits)
