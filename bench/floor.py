"""The lower bound of the cost in Python.

A poll is one GET over an open connection, its body read and parsed. A slice is one GET, the data of each of
its events parsed. A chat completion is one POST, the data of each of its events parsed as it comes.
"""

import json

import aiohttp

from bench import stream
from bench.load import drive
from bench.measure import Meter
from bench.novel import REQUEST


async def unchanged_polls(meter: Meter, *, provider: str, polls: int, in_flight: int) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def poll(number: int) -> None:
            url = f"{provider}/responses/resp_{number}"
            async with session.get(url, headers={"Authorization": "Bearer bench"}) as reply:
                assert json.loads(await reply.read())["status"] == "in_progress"

        await drive(poll, times=in_flight, in_flight=in_flight)
        with meter.measuring(count=polls):
            await drive(poll, times=polls, in_flight=in_flight)


async def slices(meter: Meter, *, provider: str, slices: int, events: int, in_flight: int) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        expected = stream.text(0, events)

        async def read(number: int) -> None:
            url = f"{provider}/responses/resp_{number}?stream=true&starting_after=0"
            async with session.get(url, headers={"Authorization": "Bearer bench"}) as reply:
                lines = (await reply.read()).split(b"\n")
            data = (json.loads(line[6:]) for line in lines if line.startswith(b"data: "))
            assert "".join(event["delta"] for event in data) == expected

        await drive(read, times=in_flight, in_flight=in_flight)
        with meter.measuring(count=slices, events=events):
            await drive(read, times=slices, in_flight=in_flight)


async def chats(meter: Meter, *, provider: str, streams: int, events: int, in_flight: int) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        expected, url = stream.text(0, events), f"{provider}/chat/completions"
        body = json.dumps(
            {"model": "stub", "messages": [{"role": "user", "content": REQUEST}], "stream": True}
        )

        async def read(_number: int) -> None:
            text, rest = "", b""
            async with session.post(url, data=body, headers={"Authorization": "Bearer bench"}) as reply:
                async for received in reply.content.iter_any():
                    *whole, rest = (rest + received).split(b"\n\n")
                    for event in whole:
                        if event != b"data: [DONE]":
                            for choice in json.loads(event[6:])["choices"]:
                                text += choice["delta"].get("content", "")
            assert text == expected

        await read(0)
        with meter.measuring(count=stream.thousands(streams, events)):
            await drive(read, times=streams, in_flight=in_flight)
