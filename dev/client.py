"""A small client of the API, for the terminal."""

import json
import urllib.error
import urllib.request
from typing import Any

TIMEOUT_SECONDS = 60


class Refused(Exception):
    """The API answered with a problem."""


class Client:
    """Speaks to one host. A host that is away raises OSError."""

    def __init__(self, base: str, key: str) -> None:
        self.base = base
        self._key = key

    def start(self, agent: str, text: str) -> dict[str, Any]:
        return self._call("POST", "runs", {"agent": agent, "input": text})

    def get(self, run_id: str) -> dict[str, Any]:
        return self._call("GET", f"runs/{run_id}")

    def _call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.base}/api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"x-functions-key": self._key, "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as reply:
                return json.loads(reply.read())  # type: ignore[no-any-return]
        except urllib.error.HTTPError as error:
            raise Refused(_reason(error)) from None


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        detail = json.loads(error.read())["detail"]
    except (ValueError, KeyError, TypeError):
        detail = "no reason given"
    return f"HTTP {error.code}: {detail}"
