"""The cost of the generate step: a worker holds the streams of chat completions, and stores what comes."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace

from bench import stream
from bench.load import drive
from bench.measure import Meter
from bench.operations import count, counted
from bench.wired import NOVELIST, WiredBaton, wired
from shared.adapters.system import SystemClock
from shared.provider import ChatCompletions
from shared.steps.messages import generate_message
from shared.web.runs_api import handlers


@asynccontextmanager
async def _generating(provider: str, storage: str) -> AsyncIterator[WiredBaton]:
    """Wire the app with a provider without background mode, and with this machine's clock: checkpoints need time."""
    chat = ChatCompletions("chat", base_url=provider, api_key="bench", resume="prefix")
    async with wired(provider, storage, replace(NOVELIST, provider=chat)) as baton:
        baton.app.context = replace(baton.app.context, clock=SystemClock())
        yield baton


async def _carry(baton: WiredBaton) -> str:
    """Start a run and carry it to its end, as the worker of the queue does. Return its id."""
    run_id = await baton.start()
    assert not await baton.app.work(generate_message(run_id)), "the run has one turn"
    assert not baton.log.faults, baton.log.faults[0]
    return run_id


async def _check(baton: WiredBaton, run_ids: Iterable[str], events: int) -> None:
    for run_id in run_ids:
        assert (await baton.answer(handlers.get_run, run_id))["output_text"] == stream.text(0, events)


async def stored_streams(
    meter: Meter, *, provider: str, storage: str, streams: int, events: int, in_flight: int
) -> None:
    """Measure complete runs of one turn: the start, the stream with its checkpoints, the end."""
    async with _generating(provider, storage) as baton:
        await _carry(baton)
        with meter.measuring(count=stream.thousands(streams, events)):
            run_ids = await _carry_all(baton, streams, in_flight)
        await _check(baton, run_ids, events)


async def held_streams(
    meter: Meter, *, provider: str, storage: str, streams: int, events: int, seconds: int
) -> None:
    """Measure what a process needs for streams that come side by side and last so long."""
    async with _generating(provider, storage) as baton:
        await _carry(baton)
        with meter.measuring(count=streams * seconds):
            run_ids = await _carry_all(baton, streams, streams)
        await _check(baton, run_ids, events)


async def _carry_all(baton: WiredBaton, streams: int, in_flight: int) -> list[str]:
    run_ids: list[str] = []

    async def carry(_number: int) -> None:
        run_ids.append(await _carry(baton))

    await drive(carry, times=streams, in_flight=in_flight)
    return run_ids


async def turn_operations(meter: Meter, *, provider: str, storage: str, events: int) -> None:
    """Count the worker's part of a run of one turn, whose start is counted elsewhere."""
    async with (
        counted(storage) as (through_counter, operations),
        _generating(provider, through_counter) as baton,
    ):
        run_id = await baton.start()
        message = generate_message(run_id)
        await count(meter, operations, lambda: baton.app.work(message))
        await _check(baton, [run_id], events)
