"""Start the parts of the local stack as child processes: storage, provider emulator, Functions hosts."""

import json
import os
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from dev.host.key_file import load_keys
from dev.host.keys import Keys
from dev.host.settings import load_app_settings
from dev.local_settings import emulated
from dev.processes import ChildProcess

ROOT = Path(__file__).parents[1]
# Loading a language model takes longest.
PROVIDER_READY = timedelta(seconds=120)
HOST_READY = timedelta(seconds=30)
READY = r"^ready (\S+)$"

# For the demo and the tests, which use the emulator only. It accepts any name of a model.
_DEFAULTS = {
    "FUNCTIONS_WORKER_RUNTIME": "python",
    "POLL_SCHEDULE": "*/2 * * * * *",
    "NOVELIST_MODEL": "novelist",
    "ANALYST_MODEL": "analyst",
    "CLERK_MODEL": "clerk",
}


def environment(connection: str, emulator: str, **changes: str) -> dict[str, str]:
    """Return the settings of a host with this storage and the emulator at this address. No settings file counts."""
    settings = _DEFAULTS | dict(os.environ) | {"AzureWebJobsStorage": connection}
    return emulated(settings, emulator) | changes


def start_provider(*options: str) -> tuple[ChildProcess, str]:
    """Start the provider emulator; return it with its base address. Raises ChildFailed."""
    child = ChildProcess("provider", [sys.executable, "-m", "dev", "provider", *options], cwd=ROOT)
    return child, str(json.loads(_ready(child, r"^\{.*$", PROVIDER_READY))["base_url"])


def start_model() -> tuple[ChildProcess, str]:
    """Start llama.cpp's server with the small model; return it with its base address. Raises ChildFailed."""
    child = ChildProcess("model-server", [sys.executable, "-m", "dev", "model-server"], cwd=ROOT)
    return child, _ready(child, READY, PROVIDER_READY)


def start_host(settings: Mapping[str, str], *, port: int = 0, app: Path = ROOT) -> tuple[ChildProcess, str]:
    """Start a Functions host; return it with its address, once it is ready. Raises ChildFailed."""
    child = launch_host(settings, port=port, app=app)
    return child, _ready(child, READY, HOST_READY)


def launch_host(settings: Mapping[str, str], *, port: int, app: Path) -> ChildProcess:
    """Start a Functions host that takes all of its settings from here, and do not wait until it is ready."""
    command = [sys.executable, "-m", "dev", "host", "--environment-only"]
    return ChildProcess("host", [*command, "--port", str(port), "--app", str(app)], cwd=ROOT, env=settings)


def keys(app: Path = ROOT) -> Keys:
    """Return the keys of the hosts that serve a folder, which need not run yet. Raises StartupError."""
    settings = dict(os.environ)
    load_app_settings(app, settings)
    return load_keys(app, settings)


def _ready(child: ChildProcess, pattern: str, timeout: timedelta) -> str:
    try:
        found = child.wait_for(pattern, timeout=timeout)
    except BaseException:
        child.kill()
        raise
    return found[found.lastindex or 0]
