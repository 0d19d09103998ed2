"""One trial: the app crashes at one point and is started again, with tables of its own."""

import json
import secrets
import tempfile
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.proofs.crash.host import Place
from tests.proofs.crash.ledger import Ledger
from tests.proofs.crash.life import fork_life, warm_up
from tests.proofs.crash.points import CRASHED, Point
from tests.proofs.crash.revival import PROMISED, Revival
from tests.proofs.crash.scenarios import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """All that is visible outside the process: to the client, to the tools, to the provider, in the tables."""

    scenario: Scenario
    point: Point | None
    exits: tuple[int, ...]
    journal: list[Any]
    effects: list[Any]
    sightings: list[Any]
    revival: Revival
    findings: Any
    provider: Mapping[str, int]
    error: str
    log: str


class Bench:
    """Runs trials one after another, over a storage and a provider that no other worker uses."""

    def __init__(self, connection: str, provider: str) -> None:
        self._connection = connection
        self._provider = provider

    def warm_up(self, scenario: Scenario) -> None:
        with tempfile.TemporaryDirectory(prefix="crash-") as name:
            began = datetime.now(UTC)
            place = Place(self._environment(), Path(name), began, 1, None, scenario.delays)
            warm_up(scenario, place)

    def carry_out(self, scenario: Scenario, point: Point | None) -> Trial:
        """Run a scenario with a crash at `point`, or without one."""
        self._control("POST", "reset")
        for fault in scenario.faults:
            self._control("POST", "faults", fault)
        environment = self._environment()
        with tempfile.TemporaryDirectory(prefix="crash-") as name:
            folder = Path(name)

            def live(began: datetime, life: int, armed: Point | None) -> int:
                return fork_life(scenario, Place(environment, folder, began, life, armed, scenario.delays))

            exits = [live(datetime.now(UTC), 1, point)]
            if exits[0] == CRASHED:
                died = datetime.fromisoformat(Ledger(folder / "journal").entries()[-1]["now"])
                exits.append(live(died + PROMISED, 2, None))
            findings, revival = folder / "findings", folder / "revival"
            return Trial(
                scenario=scenario,
                point=point,
                exits=tuple(exits),
                journal=Ledger(folder / "journal").entries(),
                effects=Ledger(folder / "effects").entries(),
                sightings=Ledger(folder / "sightings").entries(),
                revival=Revival.parse(json.loads(revival.read_text())) if revival.exists() else Revival(),
                findings=json.loads(findings.read_text()) if findings.exists() else None,
                provider=self._control("GET", "log")["counters"],
                error=_text(folder / "error"),
                log=_text(folder / "log"),
            )

    def _environment(self) -> dict[str, str]:
        name = secrets.token_hex(8)
        return {
            "AzureWebJobsStorage": self._connection,
            "RUNS_TABLE": f"runs{name}",
            "CONTENT_TABLE": f"content{name}",
            "POLL_MAX_SECONDS": "60",
            "POLL_FANOUT": "on",
            "STREAM_SLICE_SECONDS": "0.3",
            "STREAM_PAUSE_SECONDS": "0.1",
            "OPENAI_BASE_URL": f"{self._provider}/v1",
            "OPENAI_API_KEY": "local",
        }

    def _control(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        url, data = f"{self._provider}/_emulator/{path}", json.dumps(body).encode() if body else None
        request = urllib.request.Request(url, data, method=method)
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.load(reply)


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
