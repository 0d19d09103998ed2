"""Runs Schemathesis until enough cases are checked."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import schemathesis
from schemathesis.engine import events, from_schema
from schemathesis.engine.recorder import ScenarioRecorder

from tests.proofs.fuzz import checks

# The time limit of Schemathesis. A campaign normally ends earlier, after its number of cases.
LONGEST = timedelta(hours=2)
# How many examples of an operation, or sequences of linked calls, run before the other kind has its turn.
EXAMPLES_A_TURN = 30
_EMPTY_WITHOUT_PARAMETERS = 5


@dataclass
class Campaign:
    """The results: cases by operation and status, checks, and failures with the requests that repeat them."""

    cases: Counter[tuple[str, int]] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)

    def take(self, event: events.EngineEvent) -> None:
        match event:
            case events.ScenarioFinished():
                self._take_scenario(event.phase.name, event.recorder)
            case events.NonFatalError():
                self.failures[f"{event.label}: {event.info.title}"] = event.info.format()
            case events.FatalError():
                self.failures["schemathesis"] = repr(event.exception)
            case events.EngineFinished() if event.failures:
                self.failures |= {failure.title: failure.message for failure in event.failures}

    def _take_scenario(self, phase: str, recorder: ScenarioRecorder) -> None:
        for case_id, results in recorder.checks.items():
            case, interaction = recorder.cases[case_id].value, recorder.interactions.get(case_id)
            if not results or interaction is None or interaction.response is None:
                continue
            self.cases[case.operation.label, interaction.response.status_code] += 1
            self.phases[phase.lower().replace("_", " ")] += 1
            for check in results:
                self.checks[check.name] += 1
                if info := check.failure_info:
                    name = f"{case.operation.label}: {info.failure.title}"
                    self.failures.setdefault(name, _described(info, interaction.response))


def _described(info: Any, response: Any) -> str:
    body = response.content[:2000].decode(errors="replace")
    return (
        f"{info.failure.message}\n\nanswer: {response.status_code} {body}\n\nrepeat with:\n{info.code_sample}"
    )


def run(document: Mapping[str, Any], base: str, key: str, *, cases: int, seed: int) -> Iterator[Campaign]:
    """Check at least `cases` cases against the API at `base`, and yield the campaign after each scenario."""
    schema = schemathesis.openapi.from_dict(dict(document), config=_config(base, key, seed))
    stream = from_schema(schema).execute()
    campaign = Campaign()
    for event in stream:
        campaign.take(event)
        yield campaign
        if campaign.cases.total() >= cases:
            stream.stop()


def _config(base: str, key: str, seed: int) -> schemathesis.Config:
    return schemathesis.Config.from_dict(
        {
            "base-url": base,
            "headers": {"x-functions-key": key},
            "seed": seed,
            "max-time": int(LONGEST.total_seconds()),
            # A failure is printed with its key, so that its request can be repeated unchanged. Only this server
            # accepts the key.
            "output": {"sanitization": {"enabled": False}, "truncation": {"enabled": False}},
            # The seed alone decides which requests are made: no campaign uses results of an earlier one.
            "cache": {"enabled": False},
            "generation": {"database": "none", "max-examples": EXAMPLES_A_TURN},
            "checks": {name: {"enabled": False} for name in sorted(checks.OFF)}
            # A request with several errors may be refused as too large.
            | {
                "negative_data_rejection": {
                    "expected-statuses": ["400", "401", "404", "409", "411", "413", "415", "422"]
                }
            },
            "operations": [
                # Without parameters there is little to vary.
                {
                    "include-path": path,
                    "phases": {"fuzzing": {"generation": {"max-examples": _EMPTY_WITHOUT_PARAMETERS}}},
                }
                for path in ("/agents", "/health", "/openapi.json", "/dashboard")
            ],
        }
    )
