"""The keys of the hosts that serve one folder: made at the first start, and kept in the folder's `.dev`."""

import json
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from dev.host.errors import StartupError
from dev.host.keys import Keys

FILE = Path(".dev") / "host-keys.json"
# 160 bits. Letters and digits need no escaping, neither in a URL nor in a shell.
_KEY_BYTES = 20
_KEY = re.compile(f"[0-9a-f]{{{2 * _KEY_BYTES}}}")
_OTHER_USERS = stat.S_IRWXG | stat.S_IRWXO
_ADVICE = (
    "Delete it, and the next start makes new keys; or set FUNCTIONS_HOST_KEY and FUNCTIONS_MASTER_KEY, "
    "and no file is used."
)


def load_keys(app: Path, environ: Mapping[str, str]) -> Keys:
    """Return the keys of the environment, and for those that it does not set the keys of the folder `app`.

    The first call for a folder makes its keys. Raises StartupError when they cannot be read or kept.
    """
    host, master = environ.get("FUNCTIONS_HOST_KEY"), environ.get("FUNCTIONS_MASTER_KEY")
    if host and master:
        return Keys(host, master)
    kept = _kept(app / FILE)
    return Keys(host or kept.host, master or kept.master)


def _kept(path: Path) -> Keys:
    try:
        try:
            return _read(path)
        except FileNotFoundError:
            _create(path)
            return _read(path)
    except OSError as error:
        raise StartupError(f"{path} cannot be used: {error.strerror}. {_ADVICE}") from error


def _create(path: Path) -> None:
    """Write new keys, unless another process was faster: then its keys stay.

    The file gets its name when it is complete, by a link, which fails where the name exists. No process reads half of it.
    """
    path.parent.mkdir(mode=0o700, exist_ok=True)
    keys = {"host": secrets.token_hex(_KEY_BYTES), "master": secrets.token_hex(_KEY_BYTES)}
    # Only its owner can read a temporary file, from its creation on.
    with tempfile.NamedTemporaryFile("w", dir=path.parent, encoding="utf-8") as draft:
        json.dump(keys, draft)
        draft.flush()
        with suppress(FileExistsError):
            path.hardlink_to(draft.name)


def _read(path: Path) -> Keys:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & _OTHER_USERS:
            raise StartupError(f"{path} is open to other users of this machine. {_ADVICE}")
        content = file.read()
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    match document:
        case {"host": str(host), "master": str(master)} if _KEY.fullmatch(host) and _KEY.fullmatch(master):
            return Keys(host, master)
    raise StartupError(f"{path} does not hold the keys of a host. {_ADVICE}")
