"""The cost of our own code: a poll, a slice, a complete run, and each action in storage operations."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from bench import stream
from bench.load import drive
from bench.measure import Meter
from bench.operations import Operations, count, counted
from bench.wired import WiredBaton, wired
from shared.adapters.http.access import Connection
from shared.adapters.responses_api.provider import ResponsesProvider
from shared.core.ids import shard_of
from shared.core.response import Slice
from shared.core.run import Owed
from shared.steps.poll import poll
from shared.steps.tick import tick
from shared.web.runs_api import handlers

STARTS_IN_FLIGHT = 64
WARM_UP_TICKS = 2
# Long enough that a slice ends with the last event of the stub, even on a busy machine.
SLICE_BUDGET = timedelta(seconds=30)
SLICE_PAUSE = timedelta(seconds=10)


async def unchanged_polls(
    meter: Meter, *, provider: str, storage: str, runs: int, ticks: int, in_flight: int
) -> None:
    """Measure a poll with its share of the tick: queries, claims, reads, decoding, log."""
    async with wired(provider, storage, POLL_CONCURRENCY=str(in_flight)) as baton:
        await baton.lay(runs)
        for _ in range(WARM_UP_TICKS):
            await baton.tick(polls=runs)
        with meter.measuring(count=runs * ticks):
            for _ in range(ticks):
                await baton.tick(polls=runs)


async def first_tick(meter: Meter, *, provider: str, storage: str, runs: int, in_flight: int) -> None:
    async with wired(provider, storage, POLL_CONCURRENCY=str(in_flight)) as baton:
        await baton.lay(runs)
        with meter.measuring(count=runs):
            await baton.tick(polls=runs)


async def slices(meter: Meter, *, provider: str, storage: str, runs: int, ticks: int, events: int) -> None:
    """As `unchanged_polls`, with so many new events of each run's stream at every tick."""
    patient = {
        "STREAM_SLICE_SECONDS": str(SLICE_BUDGET.seconds),
        "STREAM_PAUSE_SECONDS": str(SLICE_PAUSE.seconds),
    }
    async with wired(provider, storage, **patient) as baton:
        await baton.lay(runs, sequence=0)
        for _ in range(WARM_UP_TICKS):
            await baton.tick(polls=runs)
        with meter.measuring(count=runs * ticks, events=events):
            for _ in range(ticks):
                await baton.tick(polls=runs)
        continued = [owed.continuation for owed in await _owed(baton, "00")]
        assert {each and each.sequence for each in continued} == {(WARM_UP_TICKS + ticks) * events}


async def slices_read(meter: Meter, *, provider: str, slices: int, events: int, in_flight: int) -> None:
    """Read slices as a poll does, and store nothing."""
    expected = stream.text(0, events)
    adapter = ResponsesProvider(
        Connection(base_url=provider, api_key="bench", slice_budget=SLICE_BUDGET, slice_pause=SLICE_PAUSE)
    )

    async def read(number: int) -> None:
        found = await adapter.slice(f"resp_{number}", 0)
        assert isinstance(found, Slice)
        assert found.text == expected

    await drive(read, times=in_flight, in_flight=in_flight)
    with meter.measuring(count=slices, events=events):
        await drive(read, times=slices, in_flight=in_flight)
    await adapter.close()


async def whole_runs(
    meter: Meter, *, provider: str, storage: str, runs: int, polls: int, in_flight: int
) -> None:
    async with wired(provider, storage, POLL_CONCURRENCY=str(in_flight)) as baton:
        await _carry(baton, runs=min(in_flight, 10), polls=polls)
        with meter.measuring(count=runs):
            started = await _carry(baton, runs=runs, polls=polls)
        for run_id in started:
            assert (await baton.answer(handlers.get_run, run_id))["status"] == "completed"


async def _carry(baton: WiredBaton, *, runs: int, polls: int) -> list[str]:
    started: list[str] = []

    async def start(_number: int) -> None:
        started.append(await baton.start())

    await drive(start, times=runs, in_flight=STARTS_IN_FLIGHT)
    for _ in range(polls):
        await baton.tick(polls=runs)
    await baton.tick(polls=0)
    return started


@asynccontextmanager
async def _counted(provider: str, storage: str) -> AsyncIterator[tuple[WiredBaton, Operations]]:
    async with counted(storage) as (through_counter, operations), wired(provider, through_counter) as baton:
        yield baton, operations


async def _owed(baton: WiredBaton, shard: str) -> list[Owed]:
    return (await baton.app.context.shards.owed(shard, baton.clock.now())).runs


async def _only_owed(baton: WiredBaton, run_id: str) -> Owed:
    [owed] = await _owed(baton, shard_of(run_id))
    return owed


async def start_operations(meter: Meter, *, provider: str, storage: str) -> None:
    async with _counted(provider, storage) as (baton, operations):
        await count(meter, operations, baton.start)


async def poll_operations(meter: Meter, *, provider: str, storage: str, polls_before: int) -> None:
    """Count one poll. `tick_operations` counts the rest of a tick of its shard."""
    async with _counted(provider, storage) as (baton, operations):
        run_id = await baton.start()
        for _ in range(polls_before):
            await poll(baton.app.context, await _only_owed(baton, run_id))
        owed = await _only_owed(baton, run_id)
        await count(meter, operations, lambda: poll(baton.app.context, owed))


async def status_operations(meter: Meter, *, provider: str, storage: str, polls_before: int) -> None:
    async with _counted(provider, storage) as (baton, operations):
        run_id = await baton.start()
        for _ in range(polls_before):
            await poll(baton.app.context, await _only_owed(baton, run_id))
        await count(meter, operations, lambda: baton.answer(handlers.get_run, run_id))


async def slice_operations(meter: Meter, *, provider: str, storage: str) -> None:
    async with _counted(provider, storage) as (baton, operations):
        owed = await _streamed(baton)
        await count(meter, operations, lambda: poll(baton.app.context, owed))


async def feed_operations(meter: Meter, *, provider: str, storage: str, slices: int, new: bool) -> None:
    """Count one read of a feed with the texts of so many slices, from its beginning or from its end."""
    async with _counted(provider, storage) as (baton, operations):
        owed = await _streamed(baton)
        for _ in range(slices):
            await poll(baton.app.context, await _only_owed(baton, owed.run_id))
        whole = await baton.answer(handlers.get_events, owed.run_id)
        types = [event["type"] for event in whole["data"]]
        assert types == ["run.in_progress", "item.started", "part.started", *["text.delta"] * slices]
        after = "0" if new else str(whole["last_id"])
        await count(meter, operations, lambda: baton.answer(handlers.get_events, owed.run_id, after=after))


async def _streamed(baton: WiredBaton) -> Owed:
    """Return the only run; its stream has been read up to its first event."""
    await baton.lay(1, sequence=0)
    [owed] = await _owed(baton, "00")
    return owed


async def tick_operations(meter: Meter, *, provider: str, storage: str, due: bool) -> None:
    """Count a tick over one shard with one run, whose response is unchanged."""
    async with _counted(provider, storage) as (baton, operations):
        await baton.lay(1)
        await baton.tick(polls=1)
        if due:
            baton.let_all_fall_due()
        await count(meter, operations, lambda: tick(baton.app.context, 1, ["00"]))
