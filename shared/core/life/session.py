"""What a transition of a run changes in its session."""

from dataclasses import dataclass

from shared.core.run import Run, RunStatus


@dataclass(frozen=True, slots=True)
class SessionChange:
    """`released`: the run holds the session no longer. `last_response_id`: where the next run goes on.

    None leaves it as it is; an empty text says that nothing can be continued, so the next run replays the conversation.
    """

    released: bool = False
    last_response_id: str | None = None


def session_change(before: Run, after: Run) -> SessionChange | None:
    """Return what the transition from `before` to `after` changes in the session, None if nothing."""
    released = after.terminal and not before.terminal
    if before.in_conversation and after.status is RunStatus.DELETED:
        # The provider's chain still holds the deleted run.
        return SessionChange(released, "")
    if not released:
        return None
    return SessionChange(released, after.previous_response_id if after.in_conversation else None)
