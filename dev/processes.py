"""Child processes: wait until one is ready, and end it for certain."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

TETHER = Path(__file__).with_name("tether.py")
KEPT_LINES = 2_000
SHOWN_LINES = 30
READY_TIMEOUT = timedelta(seconds=30)
STOP_GRACE = timedelta(seconds=8)


def interrupt_on_sigterm() -> None:
    """Let SIGTERM end this program as Ctrl-C does, so that its `with` and `finally` blocks run."""

    def interrupt(_number: int, _frame: object) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


class ChildFailed(Exception):
    """A child ended, or was not ready in time; the text has its last output."""


class ChildProcess:
    """A running command in a process group of its own, its output read line by line.

    On Linux the kernel kills it when the thread that started it ends, however that happens:
    start it from a thread that lives as long as the child should, usually the main one.
    `echo` is called with every line of output (standard output and error, without the newline)
    from a thread of its own.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        echo: Callable[[str], None] | None = None,
    ) -> None:
        self.name = name
        self._echo = echo
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._written = 0
        self._changed = threading.Condition()
        self._output_ended = False
        tethered = [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), *command]
        self._process = subprocess.Popen(
            tethered,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            process_group=0,
        )
        self._reader = threading.Thread(target=self._read, name=f"output of {name}", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    @property
    def output(self) -> str:
        """The last lines it wrote, at most KEPT_LINES."""
        with self._changed:
            return "\n".join(self._lines)

    def lines_after(self, count: int) -> tuple[list[str], int]:
        """Return the lines after the first `count` that are still kept, and how many it has written."""
        with self._changed:
            new = self._written - count
            return list(self._lines)[-new:] if new else [], self._written

    def wait_for(self, pattern: str, *, timeout: timedelta = READY_TIMEOUT) -> re.Match[str]:
        """Return the first line of output that matches, among those already written and those to come.

        Raises ChildFailed when the child ends, or the time-out passes, without such a line.
        """
        expression = re.compile(pattern)
        deadline = time.monotonic() + timeout.total_seconds()
        with self._changed:
            while True:
                for line in self._lines:
                    if match := expression.search(line):
                        return match
                if self._output_ended:
                    raise ChildFailed(self._report(f"ended with status {self._process.wait()}"))
                left = deadline - time.monotonic()
                if left <= 0:
                    raise ChildFailed(self._report(f"did not write {pattern!r} within {timeout}"))
                self._changed.wait(left)

    def ended(self) -> bool:
        """Return whether it has ended. If so, its output is complete."""
        if self.running:
            return False
        self._reader.join(timeout=1)  # a grandchild could hold the pipe open
        return True

    def wait(self, *, timeout: timedelta | None = None) -> int:
        """Return its exit status once it has ended by itself; subprocess.TimeoutExpired if it has not."""
        status = self._process.wait(timeout.total_seconds() if timeout else None)
        self._finish()
        return status

    def stop(self, *, grace: timedelta = STOP_GRACE) -> int:
        """Send SIGTERM, after `grace` SIGKILL, and return the exit status. Does nothing if it has ended."""
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(grace.total_seconds())
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
        return self._end()

    def kill(self) -> int:
        """End it with SIGKILL, as a crash would."""
        self._signal(signal.SIGKILL)
        return self._end()

    def _end(self) -> int:
        status = self._process.wait()
        self._finish()
        return status

    def _finish(self) -> None:
        self._reader.join(timeout=1)  # a grandchild could hold the pipe open
        if not self._reader.is_alive() and self._process.stdout:
            self._process.stdout.close()

    def _signal(self, number: signal.Signals) -> None:
        if self.running:
            os.killpg(self.pid, number)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            line = raw.rstrip("\n")
            with self._changed:
                self._lines.append(line)
                self._written += 1
                self._changed.notify_all()
            if self._echo:
                self._echo(line)
        with self._changed:
            self._output_ended = True
            self._changed.notify_all()

    def _report(self, problem: str) -> str:
        shown = list(self._lines)[-SHOWN_LINES:]
        return "\n".join([f"{self.name} {problem}", *(f"  {line}" for line in shown)])
