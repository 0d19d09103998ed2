"""What a simulation reached: transitions, operations that met at one run, faults, answers."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations_with_replacement

from shared.core.life.advance import MOVES, State
from tests.proofs.simulation.faults import CHAT_KINDS, KINDS, PROPERTIES

# The operations that can use a run. A list, and a page of a session, use many runs.
OPERATIONS = (
    "start", "events", "read", "cancel", "delete", "delete session", "list", "session page",
    "poll", "work: poll", "work: create", "work: tools", "work: cancel", "work: purge", "answer", "work: wait",
    "work: generate",
)  # fmt: skip
# A rule guards against this, but no process can do it: a function ends before a run is purged for the second time.
_IMPOSSIBLE = frozenset({"Created: deleted/nothing -> deleted/purge"})
# A list shows no deleted run. To meet a purge, it would have to stand still between two requests longer than it may.
# A run that waits is neither polled nor cancelled by workers. What is so late that it meets the next turn is too rare.
_LATE = ("answer + work: poll", "work: cancel + work: wait", "work: poll + work: wait")
# A run is created and polled at its provider, or workers generate its turns.
_APART = ("work: create + work: generate", "work: generate + work: poll", "work: cancel + work: generate")
_NEVER = frozenset({"list + work: purge", *_LATE, *_APART})


def transitions() -> list[str]:
    """Return every change that the rules of a run's life allow."""
    return [
        transition(event, before, after)
        for event, moves in MOVES.items()
        for before, afters in moves.items()
        for after in sorted(afters)
    ]


def transition(event: type[object], before: State, after: State) -> str:
    return f"{event.__name__}: {'/'.join(before)} -> {'/'.join(after)}"


def pairs() -> list[str]:
    met = (f"{one} + {other}" for one, other in combinations_with_replacement(sorted(OPERATIONS), 2))
    return [pair for pair in met if pair not in _NEVER]


@dataclass
class Coverage:
    """Counts of what was reached, summed over seeds."""

    transitions: Counter[str] = field(default_factory=Counter)
    pairs: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)

    def met(self, one: str, other: str) -> None:
        self.pairs[f"{min(one, other)} + {max(one, other)}"] += 1

    def add(self, other: "Coverage") -> None:
        self.transitions.update(other.transitions)
        self.pairs.update(other.pairs)
        self.faults.update(other.faults)
        self.answers.update(other.answers)

    def missing(self) -> Mapping[str, list[str]]:
        """Return what was never reached, by kind."""
        wanted = {
            "transition": (sorted({*transitions()} - _IMPOSSIBLE), self.transitions),
            "pair of operations": (pairs(), self.pairs),
            "fault": ([*KINDS, *CHAT_KINDS, *PROPERTIES], self.faults),
        }
        return {
            kind: never
            for kind, (names, counts) in wanted.items()
            if (never := [name for name in names if not counts[name]])
        }
