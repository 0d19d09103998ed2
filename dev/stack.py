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
from dev.processes import ChildProcess

ROOT = Path(__file__).parents[1]
# Loading a language model takes longest.
PROVIDER_READY = timedelta(seconds=120)

_DEFAULTS = {
    "FUNCTIONS_WORKER_RUNTIME": "python",
    "WORK_QUEUE": "baton-work",
    "POLL_SCHEDULE": "*/2 * * * * *",
    "NOVELIST_MODEL": "novelist",
    "ANALYST_MODEL": "analyst",
}
_PROVIDER_SETTINGS = (
    "OPENAI_BASE_URL",
    "OPENAI_API_KEY",
    "AZURE_OPENAI_ENDPOINT",
    "AZURE_OPENAI_API_KEY",
    "PROVIDER_HEADERS",
)


def own_provider(environment: Mapping[str, str]) -> str | None:
    """Return the address of the provider that the environment names, or None when the emulator is to be used."""
    if endpoint := environment.get("AZURE_OPENAI_ENDPOINT"):
        return endpoint
    if environment.get("OPENAI_API_KEY"):
        return environment.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
    return None


def environment(connection: str, emulator: str | None, **changes: str) -> dict[str, str]:
    """Return the settings of a host: this storage, and the emulator at this address or the environment's provider."""
    found = _DEFAULTS | dict(os.environ) | {"AzureWebJobsStorage": connection}
    if emulator:
        found = {name: value for name, value in found.items() if name not in _PROVIDER_SETTINGS}
        found |= {"OPENAI_BASE_URL": emulator, "OPENAI_API_KEY": "local"}
    return found | changes


def start_provider(*options: str) -> tuple[ChildProcess, str]:
    """Start the provider emulator; return it with its base address. Raises ChildFailed."""
    child = ChildProcess("provider", [sys.executable, "-m", "dev", "provider", *options], cwd=ROOT)
    return child, str(json.loads(_ready(child, r"^\{.*$", PROVIDER_READY))["base_url"])


def start_host(settings: Mapping[str, str], *, port: int = 0, app: Path = ROOT) -> tuple[ChildProcess, str]:
    """Start a Functions host; return it with its address. Raises ChildFailed."""
    command = [sys.executable, "-m", "dev", "host", "--port", str(port), "--app", str(app)]
    child = ChildProcess("host", command, cwd=ROOT, env=settings)
    return child, _ready(child, r"^ready (\S+)$", timedelta(seconds=30))


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
