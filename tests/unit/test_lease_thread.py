"""The thread that renews leases: it works while the event loop of the work does not."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from shared.adapters import lease_thread
from shared.adapters.lease_thread import LeaseThread
from shared.ports.tables import Table
from tests.support.memory_table import MemoryTable

# Nothing waits for so long, unless the code is broken.
GIVE_UP_SECONDS = 60
NOW, SOON = timedelta(), timedelta(milliseconds=1)


class Tables:
    """Opens tables, and notes where."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.closed = threading.Event()
        self.faults = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Table]:
        self.opened.append(threading.current_thread().name)
        if self.faults:
            self.faults -= 1
            raise OSError("no network")
        yield MemoryTable()
        self.closed.set()


class Renewals:
    """Counts calls. Each returns the next of `pauses`, and the last one for ever."""

    def __init__(self, *pauses: timedelta | BaseException | None) -> None:
        self.pauses, self.threads = list(pauses), []
        self.enough = threading.Event()

    async def __call__(self, table: Table) -> timedelta | None:
        assert isinstance(table, MemoryTable)
        self.threads.append(threading.current_thread().name)
        pause = self.pauses.pop(0) if len(self.pauses) > 1 else self.pauses[0]
        if len(self.pauses) == 1:
            self.enough.set()
        if isinstance(pause, BaseException):
            raise pause
        return pause


def run(scenario: Callable[[LeaseThread, Tables], object]) -> Tables:
    tables = Tables()

    async def whole() -> None:
        keeper = LeaseThread(tables.open)
        try:
            await scenario(keeper, tables)
        finally:
            await keeper.close()

    asyncio.run(whole())
    return tables


def test_leases_are_renewed_while_the_event_loop_is_blocked():
    async def scenario(keeper, _tables):
        first, second = Renewals(SOON, SOON, SOON), Renewals(SOON, SOON)
        kept = [keeper.keep(NOW, each) for each in (first, second)]
        # This blocks the loop, as a tool does that never awaits.
        assert first.enough.wait(GIVE_UP_SECONDS)
        assert second.enough.wait(GIVE_UP_SECONDS)
        assert set(first.threads) == {"leases"}
        for each in kept:
            each.end()

    tables = run(scenario)
    assert tables.opened == ["leases"]
    assert tables.closed.is_set()


def test_a_lost_lease_is_reported_and_not_renewed_again():
    async def scenario(keeper, _tables):
        renewals = Renewals(SOON, None)
        kept = keeper.keep(NOW, renewals)
        async with asyncio.timeout(GIVE_UP_SECONDS):
            await kept.lost()
        other = Renewals(SOON, SOON)
        keeper.keep(NOW, other)
        assert other.enough.wait(GIVE_UP_SECONDS)
        assert len(renewals.threads) == 2

    run(scenario)


def test_work_that_has_ended_is_not_renewed():
    async def scenario(keeper, _tables):
        ended, other = Renewals(SOON), Renewals(*[SOON] * 50)
        kept = keeper.keep(NOW, ended)
        assert ended.enough.wait(GIVE_UP_SECONDS)
        kept.end()
        before = len(ended.threads)
        keeper.keep(NOW, other)
        assert other.enough.wait(GIVE_UP_SECONDS)
        # One renewal may have been under way.
        assert len(ended.threads) <= before + 1

    run(scenario)


def test_a_renewal_that_raises_is_tried_again_and_does_not_stop_others():
    async def scenario(keeper, _tables):
        broken, other = Renewals(ValueError("broken"), SOON), Renewals(SOON, SOON)
        keeper.keep(NOW, broken)
        keeper.keep(NOW, other)
        assert other.enough.wait(GIVE_UP_SECONDS)
        assert broken.enough.wait(GIVE_UP_SECONDS)

    run(scenario)


def test_a_renewal_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(lease_thread, "RENEWAL_SECONDS", 0.01)
    calls, again = [], threading.Event()

    async def hang(_table):
        calls.append(1)
        if len(calls) == 2:
            again.set()
        await asyncio.Event().wait()

    async def scenario(keeper, _tables):
        keeper.keep(NOW, hang)
        assert again.wait(GIVE_UP_SECONDS)

    run(scenario)


def test_tables_that_cannot_be_opened_are_opened_again():
    async def scenario(keeper, tables):
        tables.faults = 2
        renewals = Renewals(SOON, SOON)
        keeper.keep(NOW, renewals)
        assert renewals.enough.wait(GIVE_UP_SECONDS)

    assert run(scenario).opened == ["leases"] * 3


def test_the_thread_ends_when_there_is_nothing_to_do_and_starts_again(monkeypatch):
    monkeypatch.setattr(lease_thread, "IDLE_SECONDS", 0.01)

    async def scenario(keeper, tables):
        for number in (1, 2):
            renewals = Renewals(None)
            keeper.keep(NOW, renewals)
            assert renewals.enough.wait(GIVE_UP_SECONDS)
            assert tables.closed.wait(GIVE_UP_SECONDS)
            assert len(tables.opened) == number
            tables.closed.clear()
        tables.closed.set()

    run(scenario)


def test_no_thread_is_needed_for_work_without_leases():
    async def scenario(keeper, tables):
        assert keeper._thread is None
        assert tables.opened == []

    run(scenario)


def test_nobody_hears_of_a_loss_after_the_loop_has_closed():
    kept = []

    async def scenario():
        kept.append(LeaseThread(Tables().open).keep(timedelta(hours=1), Renewals(None)))
        kept[0].end()

    asyncio.run(scenario())
    kept[0].lose()


@pytest.mark.parametrize("leases", [1, 50])
def test_closing_ends_the_thread(leases):
    async def scenario(keeper, _tables):
        for _ in range(leases):
            keeper.keep(timedelta(hours=1), Renewals(None))
        thread = keeper._thread
        await keeper.close()
        assert not thread.is_alive()
        assert keeper._thread is None

    run(scenario)
