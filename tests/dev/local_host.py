"""A local host as a process of its own, requests to it, and whether processes have ended."""

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dev.processes import ChildProcess

ROOT = Path(__file__).parents[2]
APPS = Path(__file__).parent / "apps"
KEYS = {"FUNCTIONS_HOST_KEY": "host-key", "FUNCTIONS_MASTER_KEY": "master-key"}
HOST_KEY = {"x-functions-key": "host-key"}
MASTER_KEY = {"x-functions-key": "master-key"}
# Longer than a busy machine needs. A wait ends as soon as its event happens.
LONG = timedelta(seconds=60)


@dataclass(frozen=True)
class Reply:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Host:
    child: ChildProcess
    address: str  # host:port

    def call(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] = HOST_KEY
    ) -> Reply:
        connection = http.client.HTTPConnection(self.address, timeout=LONG.total_seconds())
        try:
            connection.request(method, path, body, dict(headers))  # type: ignore[arg-type]
            response = connection.getresponse()
            return Reply(response.status, response.getheaders(), response.read())
        finally:
            connection.close()


def start(
    app: Path, storage: str, settings: Mapping[str, str], *, port: int = 0, keys: Mapping[str, str] = KEYS
) -> ChildProcess:
    environ = {**os.environ, **keys, "AzureWebJobsStorage": storage, **settings}
    command = [sys.executable, "-m", "dev", "host", "--port", str(port), "--app", str(app)]
    return ChildProcess("host", command, env=environ, cwd=ROOT)


def ready(child: ChildProcess) -> Host:
    return Host(child, urlsplit(child.wait_for(r"^ready (\S+)$", timeout=LONG)[1]).netloc)


def children_of(pid: int) -> list[int]:
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, check=True, text=True
    )
    return [int(line) for line in listed.stdout.split()]


def gone(pid: int) -> bool:
    """Wait for a process to end that is not a child of this one."""
    deadline = time.monotonic() + LONG.total_seconds()
    while time.monotonic() < deadline:
        state = Path(f"/proc/{pid}/stat")
        try:
            if state.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False
