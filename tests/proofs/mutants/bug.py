"""A bug that a change could introduce."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bug:
    """In `file`, `good` is replaced by `bad`; `good` must be there exactly once."""

    name: str
    file: str
    good: str
    bad: str
    # The seed to begin with, for a bug that few seeds find.
    first: int = 0
