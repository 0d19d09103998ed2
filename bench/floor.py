"""The least that a poll can cost in Python: one GET over a kept connection, its body read and parsed."""

import json

import aiohttp

from bench.load import drive
from bench.measure import Meter


async def unchanged_polls(meter: Meter, *, provider: str, polls: int, in_flight: int) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def poll(number: int) -> None:
            url = f"{provider}/responses/resp_{number}"
            async with session.get(url, headers={"Authorization": "Bearer bench"}) as reply:
                assert json.loads(await reply.read())["status"] == "in_progress"

        await drive(poll, times=in_flight, in_flight=in_flight)
        with meter.measuring(count=polls):
            await drive(poll, times=polls, in_flight=in_flight)
