"""A small client of the API, for the terminal."""

import http.client
import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote

TIMEOUT_SECONDS = 60
EVENTS_AT_ONCE = 1_000
_TEMPORARY = {408, 429}


class Refused(Exception):
    """The API answered with a problem."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"HTTP {status}: {detail}")
        self.status = status

    @property
    def temporary(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status in _TEMPORARY or self.status >= 500


class Client:
    """Sends requests to one host. Raises OSError when the host cannot be reached, or ends during its answer."""

    def __init__(self, base: str, key: str) -> None:
        self.base = base.rstrip("/").removesuffix("/api")
        self._key = key

    def start(self, agent: str, text: str) -> dict[str, Any]:
        return self._call("POST", "runs", {"agent": agent, "input": text})

    def get(self, run_id: str) -> dict[str, Any]:
        return self._call("GET", f"runs/{quote(run_id, safe='')}")

    def events(self, run_id: str, after: int) -> dict[str, Any]:
        """Return a page of the run's feed."""
        path = f"runs/{quote(run_id, safe='')}/events?after={after}&limit={EVENTS_AT_ONCE}"
        return self._call("GET", path)

    def answer(self, run_id: str, call_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """Answer a call that waits, and return it."""
        return self._call("POST", f"runs/{quote(run_id, safe='')}/calls/{quote(call_id, safe='')}", body)

    def _call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.base}/api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "x-functions-key": self._key,
                "Content-Type": "application/json",
                "Accept": "application/json",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as reply:
                return json.loads(reply.read())  # type: ignore[no-any-return]
        except urllib.error.HTTPError as error:
            with error:
                raise Refused(error.code, _reason(error)) from None
        except (http.client.HTTPException, ValueError) as error:
            raise OSError(f"{self.base} closed the connection during its answer: {error}") from None


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read())["detail"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return "no reason given"
