"""Why the host does not start."""

from collections.abc import Iterable


class StartupError(Exception):
    """The host cannot start; the text lists every problem, one a line."""

    @classmethod
    def of(cls, problems: Iterable[str]) -> "StartupError":
        return cls("\n".join(f"- {problem}" for problem in problems))
