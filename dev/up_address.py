"""Where the host of `make up` is, for other terminals in the same folder: `.dev/up` has its process and its address."""

import os
from contextlib import suppress
from pathlib import Path

_FILE = Path(".dev") / "up"


def remember(app: Path, base: str) -> None:
    """Note the address. The stack that started last is found."""
    file = app / _FILE
    file.parent.mkdir(mode=0o700, exist_ok=True)
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    draft.write_text(f"{os.getpid()} {base}\n", encoding="utf-8")
    draft.replace(file)


def forget(app: Path) -> None:
    """Remove the note of this process."""
    if _read(app)[0] == os.getpid():
        (app / _FILE).unlink(missing_ok=True)


def remembered(app: Path) -> str | None:
    """Return the address, unless its process was killed before it could remove the note."""
    process, base = _read(app)
    if process:
        with suppress(OSError):
            os.kill(process, 0)
            return base
    return None


def _read(app: Path) -> tuple[int, str]:
    try:
        process, base = (app / _FILE).read_text(encoding="utf-8").split()
        return int(process), base
    except (OSError, ValueError):
        return 0, ""
