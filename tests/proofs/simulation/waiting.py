"""Which calls wait for people, or for the caller, in the seeds that have such calls."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any

from shared.core.calls import WAIT_FOR, ToolCall, WaitKind
from shared.ports.agents import WaitNeeded

# In what share of the seeds calls wait.
_WAITING = 0.35
# The tools of the agent that need an approval: always, as a predicate decides, and because a predicate raises.
ALWAYS, BY_PREDICATE, RAISES = "transfer", "order", "sign"
# The tools that the caller runs: one of the agent, and one of the start request.
OF_AGENT, BROUGHT = "ask", "open"
# The tool of a hosted MCP server, which needs an approval.
HOSTED = "hosted"
APPROVED = (ALWAYS, BY_PREDICATE, RAISES, HOSTED)
# A predicate lets smaller amounts pass. Arguments with a negative one fit no tool.
LIMIT = 100
# What the model requests, with the weight of each, in one kind of seeds.
_MIXES: Sequence[Mapping[str, int]] = (
    {ALWAYS: 4, BY_PREDICATE: 4, RAISES: 1, "look_up": 1, "pay": 1},
    {ALWAYS: 3, OF_AGENT: 3, BROUGHT: 3, BY_PREDICATE: 1},
    {OF_AGENT: 3, BROUGHT: 4, "look_up": 2, "pay": 1},
    {ALWAYS: 2, BY_PREDICATE: 2, RAISES: 1, OF_AGENT: 2, BROUGHT: 2, HOSTED: 2, "look_up": 2, "pay": 2, "no_such_tool": 1},
    {HOSTED: 4, ALWAYS: 2, "look_up": 1},
)  # fmt: skip
# What the model is told of a call whose arguments do not fit.
UNFIT = '{"error": {"code": "invalid_arguments"}}'
TOOLS = [{"type": "function", "name": BROUGHT, "parameters": {"type": "object", "properties": {}}}]


@dataclass(frozen=True, slots=True)
class Plan:
    """What waits in a seed, and for how long."""

    mix: Mapping[str, int]
    wait_for: Mapping[str, timedelta]
    # How often a start lets the run end with the calls that its caller runs.
    ends: float

    @classmethod
    def of(cls, seed: int) -> "Plan | None":
        # Drawn apart, so that the other seeds stay as they are.
        random = Random(f"waits of {seed}")
        if random.random() >= _WAITING:
            return None
        spans = (timedelta(seconds=5), timedelta(seconds=20), timedelta(seconds=60), timedelta(minutes=10))
        wait_for = {name: random.choice(spans) for name in (ALWAYS, BY_PREDICATE, RAISES, OF_AGENT)}
        ends = random.choice((0.0, 0.5, 1.0))
        return cls(random.choice(_MIXES), wait_for | {BROUGHT: WAIT_FOR, HOSTED: WAIT_FOR}, ends)

    def names(self, random: Random, request_tools: str, *, first: bool) -> list[str]:
        """Return the tools that the model calls in a response."""
        if random.random() >= (0.85 if first else 0.5):
            return []
        brought = any(tool["name"] == BROUGHT for tool in json.loads(request_tools))
        weights = [weight * (name != BROUGHT or brought) for name, weight in self.mix.items()]
        return random.choices(tuple(self.mix), weights, k=random.randint(1, 4))

    def item(self, name: str, call_id: str, random: Random) -> dict[str, Any]:
        """Return an item that calls a tool."""
        arguments = json.dumps({"amount": random.choice((5, 5, 500, 500, 500, -1))})
        if name == HOSTED:
            request = {"type": "mcp_approval_request", "id": call_id, "server_label": "shop", "name": HOSTED}
            return request | {"arguments": arguments}
        return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}

    def needs(self, call: ToolCall) -> WaitNeeded | None:
        """Return which wait one of the agent's tools needs."""
        if call.name == OF_AGENT:
            return WaitNeeded(WaitKind.OUTPUT, self.wait_for[OF_AGENT])
        return WaitNeeded(WaitKind.APPROVAL, self.wait_for[call.name]) if needs_approval(call) else None


def needs_approval(call: ToolCall) -> bool:
    """Return whether a call must not run before a person has approved it."""
    if call.name == BY_PREDICATE:
        return amount_of(call.arguments) > LIMIT
    return call.name in {ALWAYS, RAISES, HOSTED}


def amount_of(arguments: str) -> int:
    return int(json.loads(arguments)["amount"])


def fits(arguments: str) -> bool:
    """Return whether arguments fit the tools that need an approval, and those that the caller runs."""
    return amount_of(arguments) >= 0
