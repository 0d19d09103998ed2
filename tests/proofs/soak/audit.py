"""Whether every promise was kept: from what was asked, what came of it, and what the tools left behind."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.proofs.soak.orders import Order

TERMINAL = {"completed", "failed", "cancelled", "incomplete", "expired"}
_SHOWN = 10


@dataclass(frozen=True)
class Effects:
    """Idempotency keys under which each effect was had, in order; an effect is a tool and what it marked."""

    keys: Mapping[str, tuple[str, ...]]

    @classmethod
    def parse(cls, lines: Iterable[str]) -> "Effects":
        """Read what the tools of agents/clerk.py write."""
        keys = defaultdict[str, list[str]](list)
        for line in lines:
            tool, mark, key, *_ = line.split()
            keys[f"{tool} {mark}"].append(key)
        return cls({effect: tuple(those) for effect, those in keys.items()})

    def count(self, effect: str) -> int:
        return len(self.keys.get(effect, ()))


@dataclass
class Verdict:
    """What was counted, and every violation under the name of its kind."""

    completed: int = 0
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
    for run_id, order in orders.items():
        run = runs.get(run_id)
        if run is None or run["status"] not in TERMINAL:
            verdict.violations["lost"].append(f"{order.mark} {run_id}: {run and run['status']}")
            continue
        _judge_outcome(verdict, order, run)
        _judge_calls(verdict, order, run, effects)
    _judge_effects(verdict, orders.values(), effects)
    return verdict


def _judge_outcome(verdict: Verdict, order: Order, run: Any) -> None:
    where = f"{order.mark} {run['id']}"
    if run["status"] != "completed":
        verdict.violations["wrong outcome"].append(f"{where}: {run['status']} {run['error']}")
        return
    verdict.completed += 1
    if run["output_text"] != order.text:
        lengths = f"{len(run['output_text'])} characters instead of {len(order.text)}"
        verdict.violations["text not whole"].append(f"{where}: {lengths}")


def _judge_calls(verdict: Verdict, order: Order, run: Any, effects: Effects) -> None:
    """A call that says it is completed had its effect; one that is unknown is of a tool that may not run twice."""
    where = f"{order.mark} {run['id']}"
    calls = {f"{call['name']} {order.mark}.{call['turn'] - 1}": call["status"] for call in run["tool_calls"]}
    if set(calls) != order.effects or len(run["tool_calls"]) != len(calls):
        verdict.violations["wrong tool calls"].append(f"{where}: {sorted(calls)}")
    for effect, status in calls.items():
        match status:
            case "completed" if effects.count(effect):
                pass
            case "completed":
                verdict.violations["tool call completed without effect"].append(f"{where}: {effect}")
            case "unknown" if effect.startswith("charge "):
                verdict.unknown_calls += 1
            case _:
                verdict.violations["tool call not completed"].append(f"{where}: {effect} {status}")


def _judge_effects(verdict: Verdict, orders: Iterable[Order], effects: Effects) -> None:
    wanted = {effect for order in orders for effect in order.effects}
    for effect, keys in effects.keys.items():
        if effect not in wanted:
            verdict.violations["effect that nobody asked for"].append(effect)
        elif effect.startswith("charge ") and len(keys) > 1:
            verdict.violations["effect doubled"].append(f"{effect}: {len(keys)} times")
        elif len(set(keys)) > 1:
            verdict.violations["effect repeated under another key"].append(f"{effect}: {', '.join(keys)}")
        else:
            verdict.repeated_look_ups += len(keys) - 1
