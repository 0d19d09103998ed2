"""The printed results of a simulation."""

from collections import Counter
from collections.abc import Sequence

from tests.proofs.simulation.coverage import Coverage
from tests.proofs.simulation.simulation import Outcome

# The longest part of a trace that is printed.
TRACE_LINES = 60
_WIDTH = 200


def summary(seeds: int, seconds: float, runs: int, steps: int, breaches: int) -> str:
    return (
        f"{seeds:,} seeds, {runs:,} runs, {steps:,} steps, {breaches} broken promises, "
        f"{seeds / seconds:,.0f} seeds a second"
    )


def counts(title: str, counter: Counter[str]) -> list[str]:
    """Return a table of what was reached, the rarest first."""
    if not counter:
        return []
    width = max(len(name) for name in counter)
    ranked = sorted(counter.items(), key=lambda one: (one[1], one[0]))
    return ["", title, *(f"  {name:<{width}}  {count:>10,}" for name, count in ranked)]


def coverage(found: Coverage) -> list[str]:
    return [
        *counts("Transitions", found.transitions),
        *counts("Operations that met at one run", found.pairs),
        *counts("Faults", found.faults),
        *counts("Answers to clients", found.answers),
    ]


def failure(outcome: Outcome, trace: Sequence[str]) -> list[str]:
    """Return a report of a seed that broke a promise: what happened to the run, and the command to repeat it."""
    breach = outcome.breach
    assert breach is not None
    about = [line for line in trace if breach.run_id and breach.run_id in line] or list(trace)
    shown = about[-TRACE_LINES:]
    return [
        f"Seed {outcome.seed} broke promise {breach.promise}, run {breach.run_id or '-'}:",
        f"  {breach.what}",
        f"The last {len(shown)} of {len(about)} things that happened to it (time, invocation, call, [fault]):",
        *(line[:_WIDTH].replace(breach.run_id, "RUN") if breach.run_id else line[:_WIDTH] for line in shown),
        f"Repeat: make simulate SEED={outcome.seed}",
    ]
