"""Runs at providers without background mode in a world, and workers that die while they hold a stream."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from shared.core.chat.events import ChatEnd, ChatEvent, ChatText
from shared.ports.chat import ChatRequest, ChatService
from tests.support.fakes import FakeClock
from tests.support.world import World

# One that continues a text that it has begun, and one that cannot.
CONTINUES, RESTARTS = "continues", "restarts"
_END: Sequence[ChatEvent] = (ChatText("The end."), ChatEnd("stop", None))


class Died(BaseException):
    """The process of a worker has ended."""


@dataclass
class ScriptedChat:
    """A provider without background mode. It sends events, and a number lets so many seconds pass.

    Where a stream has no end, its reader dies. After the streams it sends the same short text each time.
    """

    clock: FakeClock
    streams: list[Sequence[ChatEvent | float]]

    async def generate(self, _: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        event: ChatEvent | float = 0.0
        for event in self.streams.pop(0) if self.streams else _END:
            if isinstance(event, float):
                self.clock.pass_(event)
            else:
                yield event
        if not isinstance(event, ChatEnd):
            raise Died


def add_chat(world: World, *streams: Sequence[ChatEvent | float], continues: bool = True) -> str:
    """Add a provider without background mode, and return its name."""
    name = CONTINUES if continues else RESTARTS
    service = ChatService(ScriptedChat(world.clock, list(streams)), continues=continues)
    world.context.chats[name] = service  # type: ignore[index]
    return name


def generates(world: World, *streams: Sequence[ChatEvent | float], continues: bool = True) -> None:
    """Let the agent use such a provider."""
    world.agents.changes = {"provider": add_chat(world, *streams, continues=continues)}


async def drive_until_death(world: World, seconds: float = 5) -> None:
    with suppress(Died):
        await world.drive(3, seconds)
        raise AssertionError("nobody died")
