"""The stack of a demo: storage, the emulator of the provider, and one host that is killed and started again."""

import time
from contextlib import ExitStack
from dataclasses import dataclass

from dev import azurite, stack
from dev.client import Client
from dev.processes import ChildProcess


@dataclass(frozen=True)
class Restarted:
    """A host that was started again."""

    pid: int
    seconds: float


class DemoStack:
    """Everything that a demo needs. It ends with `running`. `settings` are further ones of the host."""

    def __init__(self, running: ExitStack, *options: str, **settings: str) -> None:
        self._running = running
        storage, connection = azurite.start()
        running.enter_context(storage)
        provider, emulator = stack.start_provider(*options)
        running.enter_context(provider)
        print(f"storage    Azurite, in memory\nprovider   {emulator}")
        self._settings = stack.environment(connection, emulator, **settings)
        self._host, self._base = self._start_host(0)
        self._key = stack.keys().host
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

    def _start_host(self, port: int) -> tuple[ChildProcess, str]:
        host, base = stack.start_host(self._settings, port=port)
        self._running.enter_context(host)
        return host, base
