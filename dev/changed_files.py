"""Which files of an app changed while it runs. Times and sizes are compared, and no file is read."""

import os
from collections.abc import Iterator
from pathlib import Path

from dev.host.settings import LOCAL_SETTINGS
from dev.local_settings import SAMPLE

FOLDERS = ("agents", "shared")
FILES = ("function_app.py", "host.json", LOCAL_SETTINGS, SAMPLE)
# Python and editors write these beside the files.
_PASSING_FOLDERS = {"__pycache__"}
_PASSING_ENDINGS = ("~", ".pyc", ".swp", ".swx", ".tmp")

_Look = dict[str, tuple[int, int, int]]


class ChangedFiles:
    """Returns what changed, once nothing has changed between two polls. So several quick saves are one change."""

    def __init__(self, app: Path) -> None:
        self._app = app
        self._served = self._last = self._look()

    def poll(self) -> list[str]:
        """Return the files that differ from those of the last change returned, or of the start."""
        now = self._look()
        settled, self._last = now == self._last, now
        if not settled or now == self._served:
            return []
        before, self._served = self._served, now
        return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))

    def _look(self) -> _Look:
        found: _Look = {}
        for path in self._paths():
            try:
                seen = path.stat()
            except OSError:  # it has just been removed, or does not exist
                continue
            found[path.relative_to(self._app).as_posix()] = (seen.st_mtime_ns, seen.st_size, seen.st_ino)
        return found

    def _paths(self) -> Iterator[Path]:
        yield from (self._app / name for name in FILES)
        for name in FOLDERS:
            for folder, inner, files in os.walk(self._app / name, followlinks=True):
                inner[:] = [each for each in inner if each not in _PASSING_FOLDERS and each[0] != "."]
                for file in files:
                    if file[0] != "." and not file.endswith(_PASSING_ENDINGS):
                        yield Path(folder, file)
