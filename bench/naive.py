"""The loop that one writes from the documentation: default clients; read the row, retrieve, write the row back.

And streams read as the documentation shows it, with nothing stored: a response's, resumed, and a chat completion.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from azure.data.tables.aio import TableClient
from openai import AsyncOpenAI

from bench import stream
from bench.load import drive
from bench.measure import Meter
from bench.novel import REQUEST
from bench.operations import count, counted


@dataclass(frozen=True, slots=True)
class NaiveLoop:
    table: TableClient
    client: AsyncOpenAI

    async def start(self, number: int) -> None:
        await self.table.create_entity(
            {
                "PartitionKey": f"session-{number}",
                "RowKey": f"run-{number}",
                "agent": "space_novelist",
                "status": "queued",
                "token": f"resp_{number}",
                "output_text": "",
            }
        )

    async def poll(self, number: int) -> None:
        run = await self.table.get_entity(f"session-{number}", f"run-{number}")
        response = await self.client.responses.retrieve(run["token"])
        assert response.status == "in_progress"
        run["status"] = response.status
        run["output_text"] = response.output_text
        await self.table.upsert_entity(run)


@asynccontextmanager
async def _naive_loop(provider: str, storage: str) -> AsyncIterator[NaiveLoop]:
    table = TableClient.from_connection_string(storage, table_name="runs")
    async with AsyncOpenAI(api_key="bench", base_url=provider) as client, table:
        await table.create_table()
        yield NaiveLoop(table, client)


async def unchanged_polls(
    meter: Meter, *, provider: str, storage: str, runs: int, polls: int, in_flight: int
) -> None:
    async with _naive_loop(provider, storage) as loop:
        await drive(loop.start, times=runs, in_flight=in_flight)
        await drive(loop.poll, times=min(in_flight, runs), in_flight=in_flight)
        with meter.measuring(count=polls):
            await drive(lambda number: loop.poll(number % runs), times=polls, in_flight=in_flight)


async def poll_operations(meter: Meter, *, provider: str, storage: str) -> None:
    async with (
        counted(storage) as (through_counter, operations),
        _naive_loop(provider, through_counter) as loop,
    ):
        await loop.start(0)
        await count(meter, operations, lambda: loop.poll(0))


async def slices(meter: Meter, *, provider: str, slices: int, events: int, in_flight: int) -> None:
    expected = stream.text(0, events)
    async with AsyncOpenAI(api_key="bench", base_url=provider) as client:

        async def read(number: int) -> None:
            text = ""
            async for event in await client.responses.retrieve(
                f"resp_{number}", stream=True, starting_after=0
            ):
                if event.type == "response.output_text.delta":
                    text += event.delta
            assert text == expected

        await drive(read, times=in_flight, in_flight=in_flight)
        with meter.measuring(count=slices, events=events):
            await drive(read, times=slices, in_flight=in_flight)


async def chats(meter: Meter, *, provider: str, streams: int, events: int, in_flight: int) -> None:
    expected = stream.text(0, events)
    async with AsyncOpenAI(api_key="bench", base_url=provider) as client:

        async def read(_number: int) -> None:
            text = ""
            async for chunk in await client.chat.completions.create(
                model="stub", messages=[{"role": "user", "content": REQUEST}], stream=True
            ):
                if chunk.choices:
                    text += chunk.choices[0].delta.content or ""
            assert text == expected

        await read(0)
        with meter.measuring(count=stream.thousands(streams, events)):
            await drive(read, times=streams, in_flight=in_flight)
