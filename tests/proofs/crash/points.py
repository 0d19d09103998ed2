"""The names of crash points, and the methods that must have points."""

from dataclasses import dataclass
from typing import Self

from shared.ports.chat import ChatProvider
from shared.ports.providers import Provider
from shared.ports.tables import Table

BEFORE, AFTER = "before", "after"
# In the journal, this stands before the error that a call raised.
FAILED = " -> "
# The status of a process that ended at its point.
CRASHED = 77
# The content store never calls these. A point at one of them means that this list is out of date.
UNUSED = frozenset({"content.get", "content.query_each"})


@dataclass(frozen=True, slots=True)
class Point:
    """The point before or after the `ordinal`th call of a method, counted from 1 within one process of the app."""

    method: str
    ordinal: int
    side: str

    @classmethod
    def parse(cls, text: str) -> Self:
        method, ordinal, side = text.split("/")
        return cls(method, int(ordinal), side)

    def __str__(self) -> str:
        return f"{self.method}/{self.ordinal}/{self.side}"


def required_methods() -> list[str]:
    """Return every method of the ports that reach outside the process, and each stage of running tools.

    `tools.result` before is between a tool's effect and the yield of its result; `tools.result` after follows the
    checkpoint of that result. `chat.event` is around the use of each event of a stream. `tools.waits` decides which calls wait. `tool.*` are before and after the effect itself.
    """
    tables = [f"{table}.{method}" for table in ("runs", "content") for method in _methods(Table)]
    provider = [f"provider.{method}" for method in _methods(Provider)]
    tools = ["tools.waits", "tools.run", "tools.result", "tool.pay", "tool.look_up", "tool.transfer"]
    chat = [f"chat.{method}" for method in _methods(ChatProvider)] + ["chat.event"]
    return [method for method in tables + provider + chat + tools if method not in UNUSED]


def _methods(port: type) -> list[str]:
    return [name for name in vars(port) if not name.startswith("_")]
