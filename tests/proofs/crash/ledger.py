"""Append-only files, which stay complete when the process that writes them dies."""

import json
import os
from pathlib import Path
from typing import Any


class Ledger:
    """A file with a JSON object on each line. Each is one write, so a crash of the process cannot cut it.

    With `sync` it is on the disk when `add` returns.
    """

    def __init__(self, path: Path, *, sync: bool = False) -> None:
        self._path = path
        self._sync = sync

    def add(self, **entry: Any) -> None:
        line = json.dumps(entry) + "\n"
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line.encode())
            if self._sync:
                os.fsync(file)
        finally:
            os.close(file)

    def entries(self) -> list[Any]:
        if not self._path.exists():
            return []
        return [json.loads(line) for line in self._path.read_text().splitlines()]
