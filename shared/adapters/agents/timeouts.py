"""Whether the time-out of a tool fits into an invocation of a function, together with what comes before and after it."""

from datetime import timedelta
from typing import Any

from shared.adapters.agents.threads import PATIENCE
from shared.agent import Tool
from shared.core.invocation import time_for_work

# The result of the tool and the next response are saved, with retries.
SAVING = timedelta(seconds=30)
# How long the author's function may take to decide whether one call needs an approval.
APPROVAL_TIMEOUT = timedelta(seconds=5)


def longest_tool(function_timeout: timedelta, create_timeout: timedelta) -> timedelta:
    """Return the longest time-out that a tool may have.

    The call waits for a thread first. Then its result is saved, and the next response is created.
    """
    return time_for_work(function_timeout) - PATIENCE - create_timeout - SAVING


def fault_of_timeout(tool: Tool[..., Any], longest: timedelta) -> str | None:
    """Return why the tool may not end in time: a sentence that says what to do. None when it does."""
    if tool.timeout <= longest:
        return None
    left = f"{longest} for it" if longest > timedelta() else "no time for it"
    return (
        f"Tool {tool.name} has a timeout of {tool.timeout}, but the time-out of functions leaves {left}: give it a "
        "shorter one, lower PROVIDER_CREATE_TIMEOUT_SECONDS, or raise AzureFunctionsJobHost__functionTimeout."
    )
