"""The loop that documentation leads one to: default clients; read the row, retrieve, write the row back."""

from azure.data.tables.aio import TableClient
from openai import AsyncOpenAI

from bench.load import drive
from bench.measure import Meter


async def unchanged_polls(
    meter: Meter, *, provider: str, storage: str, runs: int, polls: int, in_flight: int
) -> None:
    table = TableClient.from_connection_string(storage, table_name="runs")
    async with AsyncOpenAI(api_key="bench", base_url=provider) as client, table:
        await table.create_table()

        async def start(number: int) -> None:
            await table.create_entity(_run(number))

        async def poll(number: int) -> None:
            run = await table.get_entity(*_key(number % runs))
            response = await client.responses.retrieve(run["token"])
            assert response.status == "in_progress"
            run["status"] = response.status
            run["output_text"] = response.output_text
            await table.upsert_entity(run)

        await drive(start, times=runs, in_flight=in_flight)
        await drive(poll, times=in_flight, in_flight=in_flight)
        with meter.measuring(count=polls):
            await drive(poll, times=polls, in_flight=in_flight)


def _key(number: int) -> tuple[str, str]:
    return f"session-{number}", f"run-{number}"


def _run(number: int) -> dict[str, str]:
    partition_key, row_key = _key(number)
    return {
        "PartitionKey": partition_key,
        "RowKey": row_key,
        "agent": "space_novelist",
        "status": "queued",
        "token": f"resp_{number}",
        "output_text": "",
    }
