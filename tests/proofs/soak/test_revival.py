"""How the time is measured until a run is taken up again after a kill."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from shared.core.run import Lease, Run, Step
from tests.proofs.soak.revival import LONGEST, Revivals
from tests.support.runs import NOW, a_run, an_id

TICK = timedelta(seconds=2)


def at(seconds: float) -> datetime:
    """Return a time, in seconds after the kill."""
    return NOW + timedelta(seconds=seconds)


def leased(number: int = 0, until: float = 10, step: Step = Step.TOOLS, lease_id: str = "first") -> Run:
    return a_run(id=an_id("run", 0, number), step=step, lease=Lease(lease_id, at(until)))


def watched(*runs: Run) -> Revivals:
    revivals = Revivals()
    revivals.killed(NOW, runs)
    return revivals


def taken_up(run: Run, seconds: float) -> Run:
    return replace(run, rev=2, lease=Lease("next", at(seconds + 15)), updated_at=at(seconds))


def test_the_time_is_that_from_the_kill_to_the_next_transition() -> None:
    run = leased()
    revivals = watched(run)
    revivals.look({run.id: run}, at(9))
    assert list(revivals.waiting) == [run.id]
    revivals.look({run.id: taken_up(run, 11.5)}, at(12))
    assert (revivals.seconds, revivals.waiting, revivals.alive) == ({Step.TOOLS: [11.5]}, {}, 0)


def test_a_run_that_was_taken_up_and_is_worked_on_no_longer_counts_too() -> None:
    run = leased(step=Step.CREATE)
    revivals = watched(run)
    revivals.look({run.id: replace(run, lease=None, step=Step.POLL, updated_at=at(10))}, at(11))
    assert revivals.seconds == {Step.CREATE: [10.0]}


@pytest.mark.parametrize(
    "changes",
    [
        # Renewed.
        {"lease": Lease("first", at(16))},
        # A result was saved, and the lease goes on.
        {"lease": Lease("first", at(20)), "rev": 2, "updated_at": at(5)},
        # The work ended before its lease.
        {"lease": None, "rev": 2, "updated_at": at(9.9)},
    ],
)
def test_a_run_of_a_host_that_is_alive_does_not_count(changes: dict[str, object]) -> None:
    run = leased()
    revivals = watched(run)
    revivals.look({run.id: replace(run, **changes)}, at(30))
    assert (dict(revivals.seconds), revivals.waiting, revivals.alive) == ({}, {}, 1)


def test_a_run_that_a_client_changes_is_still_watched() -> None:
    run = leased()
    revivals = watched(run)
    changed = replace(run, rev=2, updated_at=at(3))
    revivals.look({run.id: changed}, at(4))
    revivals.look({run.id: taken_up(changed, 12)}, at(13))
    assert revivals.seconds == {Step.TOOLS: [12.0]}


def test_only_runs_under_a_lease_that_has_not_ended_are_watched() -> None:
    free, over = replace(leased(0), lease=None), leased(1, until=0)
    polled = leased(2, step=Step.POLL)
    assert watched(free, over, polled).waiting == {}


def test_a_second_kill_does_not_begin_the_time_again() -> None:
    run = leased()
    revivals = watched(run)
    revivals.killed(at(5), [run])
    revivals.look({run.id: taken_up(run, 11)}, at(12))
    assert revivals.seconds == {Step.TOOLS: [11.0]}


def test_a_run_that_is_never_taken_up_is_a_violation() -> None:
    run = leased()
    revivals = watched(run)
    revivals.look({run.id: run}, NOW + LONGEST)
    assert revivals.waiting == {}
    assert revivals.seconds == {Step.TOOLS: [60.0]}
    assert run.id in revivals.figures()[-1]
    [p95] = revivals.violations(TICK)
    assert "p95 60.0 s, at most 22 s" in p95


@pytest.mark.parametrize(("late", "found"), [(1, 0), (2, 1)])
def test_one_in_twenty_may_be_late(late: int, found: int) -> None:
    runs = [leased(number) for number in range(20)]
    revivals = watched(*runs)
    for number, run in enumerate(runs):
        revivals.look({run.id: taken_up(run, 30 if number < late else 21)}, at(31))
    assert len(revivals.violations(TICK)) == found


def test_without_a_kill_nothing_is_violated() -> None:
    assert Revivals().violations(TICK) == []
