"""One life of the host that `make up` serves: whether it is ready, why it is not, and what of its log is shown."""

import re
import time
from collections.abc import Callable
from enum import Enum, auto

from dev import stack
from dev.host.program import CANNOT_START
from dev.processes import SHOWN_LINES, ChildProcess

_LOG_LINE = re.compile(r"\d\d:\d\d:\d\d\.\d{3} (?P<level>[A-Z]+) ")
_ERRORS = {"ERROR", "CRITICAL"}


class State(Enum):
    STARTING = auto()
    READY = auto()
    # It did not become ready.
    FAILED = auto()
    # It was ready, and ended by itself.
    ENDED = auto()


class ServedHost:
    """`show` gets warnings and errors of its log, or with `complete` every line."""

    def __init__(self, child: ChildProcess, show: Callable[[str], None], *, complete: bool) -> None:
        self.state = State.STARTING
        self.base = ""
        self._child = child
        self._show = show
        self._complete = complete
        self._began = time.monotonic()
        self._lines = 0
        self._in_error = False
        self._hung = False

    @property
    def seconds(self) -> float:
        """Its age, or how long it took until now to become ready."""
        return time.monotonic() - self._began

    def look(self) -> State:
        """Show what it has logged since the last call, and return its state."""
        ended = self._child.ended()
        if self.state is State.STARTING:
            self._look_at_start(ended)
        elif self.state is State.READY and ended:
            self.state = State.ENDED
        self._show_log()
        return self.state

    def stop(self) -> None:
        """End it gracefully: running calls get some seconds."""
        self._child.stop()
        self._show_log()

    def why(self) -> str:
        """Return why it failed or ended."""
        output = self._child.output
        _, found, reasons = output.rpartition(CANNOT_START)
        if found:
            return reasons.strip("\n")
        if self._hung:
            limit = int(stack.HOST_READY.total_seconds())
            return f"It was not ready after {limit} seconds. An import may wait for something."
        status = self._child.returncode or 0
        if status < 0:
            return f"Signal {-status} ended it."
        return "\n".join([f"It ended with status {status}.", *output.splitlines()[-SHOWN_LINES:]])

    def _look_at_start(self, ended: bool) -> None:
        if ready := re.search(stack.READY, self._child.output, re.MULTILINE):
            self.state, self.base = State.READY, ready[1]
        elif ended:
            self.state = State.FAILED
        elif self.seconds > stack.HOST_READY.total_seconds():
            self._hung = True
            self._child.kill()
            self.state = State.FAILED

    def _show_log(self) -> None:
        if self.state is State.STARTING and not self._complete:
            return  # if it fails, only the reason is shown
        lines, self._lines = self._child.lines_after(self._lines)
        for line in lines:
            if self._complete or (self.state is not State.FAILED and self._counts(line)):
                self._show(line)

    def _counts(self, line: str) -> bool:
        """Return whether it is a warning or an error, or belongs to an error, as a trace does."""
        if entry := _LOG_LINE.match(line):
            self._in_error = entry["level"] in _ERRORS
            return self._in_error or entry["level"] == "WARNING"
        return self._in_error
