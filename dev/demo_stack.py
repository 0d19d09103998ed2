"""The stack of a demo: storage, a provider, and one host that is killed and started again."""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from dev import azurite, stack
from dev.client import Client, Refused
from dev.processes import ChildFailed, ChildProcess, interrupt_on_sigterm


class Unfinished(Exception):
    """A run of a demo did not go as it should; the text says why."""


def play(demo: Callable[[ExitStack], None]) -> int:
    """Carry out a demo, and return the exit code. What it starts ends with the stack that it gets."""
    interrupt_on_sigterm()
    try:
        with ExitStack() as running:
            demo(running)
    except (ChildFailed, Refused, Unfinished, OSError) as failure:
        print(f"\nThe demo failed: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    return 0


@dataclass(frozen=True)
class Restarted:
    """A host that was started again."""

    pid: int
    seconds: float


class DemoStack:
    """Everything that a demo needs. It ends with `running`. `settings` are further ones of the host.

    `provider` is the address of one that runs already. Without it there is the emulator, with these options.
    """

    def __init__(
        self,
        running: ExitStack,
        *options: str,
        provider: str | None = None,
        app: Path = stack.ROOT,
        **settings: str,
    ) -> None:
        self._running, self._app = running, app
        storage, connection = azurite.start()
        running.enter_context(storage)
        address = provider or self._start_emulator(*options)
        print(f"storage    Azurite, in memory\nprovider   {address}")
        self._settings = stack.environment(connection, address, **settings)
        self._host, self._base = self._start_host(0)
        self._key = stack.keys(app).host
        print(f"functions  {self._base}/api")

    @property
    def client(self) -> Client:
        return Client(self._base, self._key)

    def kill_host(self) -> int:
        """End the host as a crash does, and return the id of its process."""
        pid = self._host.pid
        self._host.kill()
        return pid

    def restart_host(self) -> Restarted:
        """Start the host again, at the same address."""
        began = time.monotonic()
        self._host, _ = self._start_host(int(self._base.rpartition(":")[2]))
        return Restarted(self._host.pid, time.monotonic() - began)

    def _start_emulator(self, *options: str) -> str:
        emulator, address = stack.start_provider(*options)
        self._running.enter_context(emulator)
        return address

    def _start_host(self, port: int) -> tuple[ChildProcess, str]:
        host, base = stack.start_host(self._settings, port=port, app=self._app)
        self._running.enter_context(host)
        return host, base
