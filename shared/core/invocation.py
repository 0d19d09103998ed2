"""How long an invocation of a function lasts at most, and when its work has to end before that."""

from datetime import timedelta

# functionTimeout in host.json.
FUNCTION_TIMEOUT = timedelta(minutes=30)
# Work ends this much earlier. At the time-out the host ends the worker process, with everything else that it does.
END_MARGIN = timedelta(minutes=1)
# With less, nothing would be left beside that minute and one request to the provider, which may take a minute, too.
MIN_FUNCTION_TIMEOUT = timedelta(minutes=2)
# A deleted run is purged again after this time, so its tombstone is owed a step for as long.
MAX_FUNCTION_TIMEOUT = timedelta(days=7)


def time_for_work(function_timeout: timedelta) -> timedelta:
    """Return for how long after its beginning an invocation may work."""
    return function_timeout - END_MARGIN
