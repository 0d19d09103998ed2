"""`python -m dev.run_states`: draw docs/run-states.md from the rules of a run's life."""

from collections import defaultdict
from pathlib import Path

from shared.core.life.advance import MOVES
from shared.core.run import TERMINAL, RunStatus

PAGE = Path(__file__).parents[1] / "docs" / "run-states.md"

_HEAD = """# Run states

Drawn from `MOVES` in `shared/core/life/advance.py` by `make docs`. An arrow says which events may lead
from one status to another; an event that may also leave the status as it is has no arrow for that.
A pending run also has a step that it is owed: `create`, `poll`, `tools`, `cancel`.

```mermaid
stateDiagram-v2
    [*] --> queued: accepted
"""


def page() -> str:
    """Return the text of the page."""
    events: dict[tuple[RunStatus, RunStatus], list[str]] = defaultdict(list)
    for event, moves in MOVES.items():
        for before, afters in moves.items():
            for after in afters - {before}:
                events[before, after].append(event.__name__)
    order = list(RunStatus)
    lines = [
        f"    {before} --> {after}: {', '.join(sorted(names))}"
        for (before, after), names in sorted(
            events.items(), key=lambda item: [order.index(one) for one in item[0]]
        )
        if after is not RunStatus.DELETED
    ]
    lines += [f"    {status} --> [*]" for status in order if status in TERMINAL - {RunStatus.DELETED}]
    return _HEAD + "\n".join(lines) + "\n```\n\n" + _TAIL


_TAIL = """Any run may be deleted, in whatever status. What is left is a tombstone that no client sees: it keeps
late writers from bringing the run back, and it remembers which responses the provider still has to forget.
"""


if __name__ == "__main__":
    PAGE.write_text(page())
