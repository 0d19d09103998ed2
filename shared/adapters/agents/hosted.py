"""Hosted tools whose calls the app would have to carry out. Baton carries out function tools only."""

import logging
from collections.abc import Iterable, Mapping

from shared.agent import Agent, CallerTool, Tool
from shared.log import log_event

_TYPES = frozenset({"custom", "local_shell", "apply_patch"})
_CONSEQUENCE = "When the model calls this tool, the run ends incomplete with the reason unanswered_call."


def warn_of_unanswered_tools(agents: Iterable[Agent]) -> None:
    """Log a warning for each hosted tool that the provider leaves to the app."""
    for agent in agents:
        for each in agent.tools:
            if not isinstance(each, Tool | CallerTool) and _is_left_to_the_app(each):
                log_event(
                    "agent.tool_unanswered",
                    level=logging.WARNING,
                    agent=agent.name,
                    tool=each["type"],
                    name=each.get("name"),
                    consequence=_CONSEQUENCE,
                )


def _is_left_to_the_app(tool: Mapping[str, object]) -> bool:
    match tool:
        case {"type": "shell", "environment": {"type": str(environment)}}:
            return not environment.startswith("container")
        case {"type": "shell"}:
            return True
        case {"type": str(kind)}:
            return kind in _TYPES or kind.startswith("computer")
    return False
