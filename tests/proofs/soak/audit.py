"""Whether every promise was kept: from what was asked, what clients read, and what the tools left behind."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.proofs.soak.load import DELETED
from tests.proofs.soak.orders import Order
from tests.support.oracle import Effects, Seen, judge_effects, judge_run

_SHOWN = 10


@dataclass
class Verdict:
    """What was counted, and every violation under the name of its kind."""

    # The statuses of the runs; a deleted one counts as "deleted".
    ended: Counter[str] = field(default_factory=Counter)
    unknown_calls: int = 0
    repeated_look_ups: int = 0
    violations: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def lines(self) -> list[str]:
        found = []
        for kind, those in self.violations.items():
            found.append(f"VIOLATION {kind}: {len(those)}")
            found += [f"  {one}" for one in those[:_SHOWN]]
        return found


def audit(orders: Mapping[str, Order], runs: Mapping[str, Any], effects: Effects) -> Verdict:
    """Judge a soak: `orders` that were accepted and `runs` as last read, both by run id."""
    verdict = Verdict()
    expected = {run_id: order.expected for run_id, order in orders.items()}
    findings = [*judge_effects(effects, expected.values(), interrupted=None)]
    for run_id, order in orders.items():
        seen = _seen(order, run_id, runs.get(run_id))
        findings += judge_run(expected[run_id], seen, effects)
        if seen.run:
            verdict.ended[seen.run["status"]] += 1
        verdict.unknown_calls += sum(status == "unknown" for _, status in seen.calls)
    for finding in findings:
        verdict.violations[finding.kind].append(finding.detail)
    look_ups = [keys for effect, keys in effects.keys.items() if effect.startswith("look_up ")]
    verdict.repeated_look_ups = sum(len(keys) - 1 for keys in look_ups)
    return verdict


def _seen(order: Order, run_id: str, run: Any) -> Seen:
    calls = [
        (f"{call['name']} {order.mark}.{call['turn'] - 1}", call["status"])
        for call in (run or {}).get("tool_calls", [])
    ]
    # A host was killed now and then, and nobody knows what it was doing.
    answer = 404 if run and run["status"] == DELETED else 200
    return Seen(name=f"{order.mark} {run_id}", answer=answer, run=run, calls=calls, interrupted=None)
