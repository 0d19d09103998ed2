"""LiteLLM's proxy in front of other servers, on loopback. `make real` installs it, in a virtual environment of its own."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from dev.processes import ChildProcess

ROOT = Path(__file__).parents[1]
KEY = "sk-of-the-local-proxy"
# It imports a lot.
READY_TIMEOUT = timedelta(seconds=180)
# Nothing listens here, so that a request to anything but loopback fails, and its log says so.
_NOWHERE = "http://127.0.0.1:9"


class LiteLLMMissingError(Exception):
    """LiteLLM is not installed."""


@dataclass(frozen=True)
class Route:
    """A model of the proxy, and the server that has it."""

    model: str
    # The address of an OpenAI-compatible server.
    base: str
    key: str = "none"
    # Whether requests to the Responses API become requests for chat completions.
    bridged: bool = False


def program() -> Path:
    """Return the program that starts the proxy. Raises LiteLLMMissingError."""
    found = ROOT / os.environ.get("LITELLM", ".venv-litellm") / "bin" / "litellm"
    if not found.exists():
        raise LiteLLMMissingError("LiteLLM's proxy needs a virtual environment of its own: make real")
    return found


class Proxy:
    """A running proxy. It has one key, and no database."""

    def __init__(self, folder: Path, routes: Iterable[Route]) -> None:
        """Start it with a configuration in `folder`. Raises LiteLLMMissingError, ChildFailed."""
        self._folder = folder
        self._program = program()
        self._config = folder / "config.yaml"
        # JSON is YAML too.
        self._config.write_text(json.dumps(_configuration(routes)))
        self._logs: list[str] = []
        self._child, self._address = self._start(port=0)

    @property
    def base(self) -> str:
        """The address of its OpenAI-compatible API."""
        return f"{self._address}/v1"

    @property
    def log(self) -> str:
        """What it has written since it was started for the first time."""
        return "\n".join([*self._logs, self._child.output])

    def kill(self) -> None:
        """End it as a crash would."""
        self._child.kill()

    def restart(self) -> None:
        """Start it again at the same address, after it was killed. Raises ChildFailed."""
        self._logs.append(self._child.output)
        self._child, self._address = self._start(port=int(self._address.rpartition(":")[2]))

    def stop(self) -> None:
        # It would wait for the ends of its streams.
        self._child.kill()

    def _start(self, *, port: int) -> tuple[ChildProcess, str]:
        command = [
            str(self._program),
            "--config",
            str(self._config),
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        child = ChildProcess("litellm", command, cwd=self._folder, env=_environment(self._folder))
        try:
            found = child.wait_for(r"Uvicorn running on (http://127\.0\.0\.1:\d+)", timeout=READY_TIMEOUT)
        except BaseException:
            child.kill()
            raise
        return child, found[1]


def _configuration(routes: Iterable[Route]) -> dict[str, object]:
    return {
        "model_list": [
            {
                "model_name": route.model,
                "litellm_params": {
                    "model": f"openai/{route.model}",
                    "api_base": route.base,
                    "api_key": route.key,
                    **({"use_chat_completions_api": True} if route.bridged else {}),
                },
            }
            for route in routes
        ],
        "general_settings": {"master_key": KEY},
    }


def _environment(folder: Path) -> dict[str, str]:
    """Return its environment, which has no key and no proxy of this machine. It fetches nothing."""
    return {
        "PATH": os.defpath,
        "HOME": str(folder),
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "ignore",
        "HTTP_PROXY": _NOWHERE,
        "HTTPS_PROXY": _NOWHERE,
        "NO_PROXY": "127.0.0.1,localhost",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOCAL_BLOG_POSTS": "True",
        "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
        "LITELLM_LOCAL_AUTOROUTER_PRESETS": "True",
        "LITELLM_LOCAL_POLICY_TEMPLATES": "True",
        "LITELLM_TELEMETRY": "False",
        "DISABLE_ADMIN_UI": "True",
    }
