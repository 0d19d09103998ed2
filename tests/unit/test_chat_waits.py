"""How long an answer of chat completions is waited for, in virtual time."""

from dataclasses import dataclass
from datetime import timedelta

import pytest

from shared.adapters.chat_api.provider import Dialect, Reading
from shared.adapters.http.answer import NoAnswer
from shared.ports.chat import ChatEnd
from tests.support.chats import DONE, Collected, a_reader, chunk, content, events

DIALECT = Dialect(
    silence=timedelta(seconds=10), idle=timedelta(seconds=25), after_finish=timedelta(seconds=3)
)
PING, NOTHING = b": ping\n\n", events(content(""))
TEXT, FINISH = events(content("a")), events(chunk(finish="stop"))


@dataclass
class Line:
    """Brings each packet at its time. `slow`: seconds that whoever reads takes for each event."""

    packets: list[tuple[float, bytes]]
    slow: float = 0.0
    now: float = 100.0
    ends: float = float("inf")

    async def read(self, seconds: float) -> bytes | NoAnswer:
        assert seconds >= 0
        begun = 100.0
        at = begun + self.packets[0][0] if self.packets else float("inf")
        if at > self.now + seconds:
            self.now += seconds
            return NoAnswer("the connection broke: TimeoutError", may_be_done=True, slow=True)
        self.now = max(self.now, at)
        return self.packets.pop(0)[1]

    async def keep(self, size: int) -> None:
        pass

    async def collected(self) -> Collected:
        reading, found = Reading(self, a_reader(), DIALECT, lambda: self.now, self.ends), Collected()
        while reading.outcome is None:
            for event in await reading.next():
                found.add(event)
                self.now += self.slow
        found.add(reading.outcome)
        return found

    async def stalls_at(self) -> float:
        found = await self.collected()
        assert found.outcome.error.code == "stream_stalled"
        return self.now - 100.0


async def test_silence_ends_an_answer():
    assert await Line([]).stalls_at() == 10
    assert await Line([(9, PING)]).stalls_at() == 19
    assert await Line([(9, TEXT)]).stalls_at() == 19
    assert await Line([(9, b"data: {")]).stalls_at() == 19


@pytest.mark.parametrize("packet", [PING, NOTHING, b"\n", b"x", b"data: [HEARTBEAT]\n\n"])
async def test_bytes_that_bring_nothing_keep_an_answer_for_a_while(packet):
    pings = [(float(second), packet) for second in range(100)]
    assert await Line(pings[:]).stalls_at() == 25
    assert await Line([*pings[:20], (20, b"\n\n" + TEXT), *pings[21:]]).stalls_at() == 45


async def test_the_time_that_the_reader_takes_is_not_the_providers():
    line = Line([(0, TEXT), (1, TEXT), (2, TEXT + FINISH + DONE)], slow=60.0)
    assert await line.collected() == Collected("aaa", outcome=ChatEnd("stop", None))


@pytest.mark.parametrize("packet", [b"", PING, NOTHING])
async def test_a_complete_answer_waits_a_moment_for_its_usage(packet):
    pings = [(5 + second / 2, packet) for second in range(1, 40)] if packet else []
    line = Line([(0, TEXT), (5, FINISH), *pings])
    assert await line.collected() == Collected("a", outcome=ChatEnd("stop", None))
    assert line.now == 108


@pytest.mark.parametrize("packets", [[], [(1, TEXT)], [(float(second), PING) for second in range(100)]])
async def test_nobody_waits_longer_than_the_function_may_last(packets):
    line = Line(packets, ends=107.0)
    assert await line.stalls_at() == 7
    assert "function" in (await Line([], ends=101.0).collected()).outcome.error.message


async def test_an_answer_that_is_complete_counts_when_the_function_may_last_no_longer():
    line = Line([(5, TEXT + FINISH)], ends=106.0)
    assert await line.collected() == Collected("a", outcome=ChatEnd("stop", None))
    assert line.now == 106
