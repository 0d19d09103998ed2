"""`python -m dev.run_states`: draw docs/run-states.md from the rules of a run's life."""

from collections import defaultdict
from pathlib import Path

from shared.core.life.advance import MOVES, State
from shared.core.run import TERMINAL, RunStatus, Step

PAGE = Path(__file__).parents[1] / "docs" / "run-states.md"

_HEAD = """# Run states

Drawn from `MOVES` in `shared/core/life/advance.py` by `make docs`. A box is a status, and a state in it is the step that the
run is owed. An arrow names the events that may lead from one state to another; events that leave a state as it is, and
deletions, have no arrow.

```mermaid
stateDiagram-v2
    [*] --> queued_create: Accepted
"""

_TAIL = """A run may be deleted in any state. It is then owed a purge, and in the end nothing. A tombstone stays, which no client
sees. It keeps late writers from creating the run again, and it lists the responses that still have to be deleted at the
provider. `Created` may come late in every state: such a response is noted, and cancelled at the provider.
"""


def page() -> str:
    """Return the text of the page."""
    states = sorted({state for moves in MOVES.values() for state in moves}, key=_place)
    shown = [state for state in states if state[0] is not RunStatus.DELETED]
    lines = [*_boxes(shown), *_arrows(shown)]
    lines += [f"    {status} --> [*]" for status in RunStatus if status in TERMINAL - {RunStatus.DELETED}]
    return _HEAD + "\n".join(lines) + "\n```\n\n" + _TAIL


def _boxes(states: list[State]) -> list[str]:
    lines = []
    for status in dict.fromkeys(status for status, _ in states):
        steps = [step for one, step in states if one is status and step is not Step.NOTHING]
        if steps:
            lines.append(f"    state {status} {{")
            lines += [f"        {_name((status, step))}: {step}" for step in steps]
            lines.append("    }")
    return lines


def _arrows(states: list[State]) -> list[str]:
    events: dict[tuple[State, State], list[str]] = defaultdict(list)
    for event, moves in MOVES.items():
        for before in states:
            for after in moves.get(before, ()):
                if after != before and after in states:
                    events[before, after].append(event.__name__)
    return [
        f"    {_name(before)} --> {_name(after)}: {', '.join(sorted(events[before, after]))}"
        for before, after in sorted(events, key=lambda arrow: (_place(arrow[0]), _place(arrow[1])))
    ]


def _name(state: State) -> str:
    status, step = state
    return status.value if step is Step.NOTHING else f"{status}_{step}"


def _place(state: State) -> tuple[int, int]:
    status, step = state
    return list(RunStatus).index(status), list(Step).index(step)


if __name__ == "__main__":
    PAGE.write_text(page())
