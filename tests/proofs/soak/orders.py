"""The input and the expected outcome of each run of a soak. Both follow from the run's number."""

import random
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property
from typing import Any

from tests.e2e.site import script
from tests.support.oracle import Expected

# Most tools and requests are quick. Some take so long that a kill hits them now and then. With more of these, messages
# would wait for a host that has room, and that would be measured.
TOOL_SECONDS, LONG_TOOL_SECONDS = 1.0, 20.0
_LONG_TOOLS_EVERY, _SLOW_CREATES_EVERY = 60, 50
# The words in the input of a run whose requests the emulator answers late, and how late.
SLOW_CREATES, CREATE_SECONDS = "slow creates", 10.0
SLOW_END, END_SECONDS = "slow end", 6.0
# When a client ends a run that would not end by itself, counted from its start.
ENDED_AFTER_SECONDS = 10.0
_ENDLESS_SECONDS = 3600.0
_CANCELLED_EVERY, _DELETED_EVERY = 20, 22
# The first run, which is not under load, ends by itself.
_FIRST_CANCELLED, _FIRST_DELETED = 7, 9
# A text that fills several rows of content, and one that is stored in the run's own row.
_LONG, _SHORT = 4_000, 3
_LONG_EVERY = 20
_SECOND_TOOL_TURN_EVERY = 4
# Some runs wait for a person, who approves a call with another amount, or refuses it.
_WAITS_EVERY, _FIRST_WAITING, _REFUSED_EVERY = 12, 5, 4
REQUESTED, APPROVED = 500, 20


class Ending(Enum):
    """How a run ends: with its answer, or because a client cancels or deletes it."""

    ANSWERED = auto()
    CANCELLED = auto()
    DELETED = auto()


@dataclass(frozen=True)
class Order:
    """One run that a client starts. The provider takes about `seconds` for all of its turns together."""

    number: int
    seconds: float

    @property
    def mark(self) -> str:
        return f"n{self.number}"

    @property
    def ending(self) -> Ending:
        if self.number % _CANCELLED_EVERY == _FIRST_CANCELLED:
            return Ending.CANCELLED
        deleted = self.number % _DELETED_EVERY == _FIRST_DELETED
        return Ending.DELETED if deleted else Ending.ANSWERED

    @property
    def waits(self) -> bool:
        """Whether a call of its first turn has to be approved."""
        due = self.number % _WAITS_EVERY == _FIRST_WAITING
        return due and self.ending is Ending.ANSWERED

    @property
    def refused(self) -> bool:
        return self.waits and self.number // _WAITS_EVERY % _REFUSED_EVERY == 0

    @property
    def slow_creates(self) -> bool:
        return self.number % _SLOW_CREATES_EVERY == 0

    @property
    def tool_seconds(self) -> float:
        return LONG_TOOL_SECONDS if self.number % _LONG_TOOLS_EVERY == 0 else TOOL_SECONDS

    @property
    def tool_turns(self) -> int:
        if self.ending is not Ending.ANSWERED:
            return 0
        return 2 if self.number % _SECOND_TOOL_TURN_EVERY == 0 else 1

    @property
    def turns(self) -> int:
        return self.tool_turns + 1

    @cached_property
    def turn_seconds(self) -> float:
        """How long the provider takes for each turn: between 0.5 and 1.5 times the average."""
        return self.seconds / self.turns * random.Random(self.number).uniform(0.5, 1.5)

    @property
    def effects(self) -> set[str]:
        """The effects that its tools must have, each as the tool's name and a mark for the turn."""
        effects = {
            f"{tool} {self.mark}.{turn}" for tool in ("charge", "look_up") for turn in range(self.tool_turns)
        }
        return effects | ({self._refund} if self.waits else set())

    @property
    def _refund(self) -> str:
        return f"refund {self.mark}.0"

    @property
    def expected(self) -> Expected:
        match self.ending:
            case Ending.ANSWERED:
                closed = {self._refund: "refused"} if self.refused else {}
                return Expected(text=self.text, calls=self.effects, closed=closed)
            case Ending.CANCELLED:
                return Expected(status="cancelled")
            case Ending.DELETED:
                return Expected(status=None)

    @property
    def first_read_after(self) -> float:
        """How many seconds after its start a client looks at the run first, or ends it."""
        answered = self.ending is Ending.ANSWERED
        if self.waits:
            return self.turn_seconds
        return self.turns * self.turn_seconds if answered else ENDED_AFTER_SECONDS

    @property
    def input(self) -> str:
        if self.ending is not Ending.ANSWERED:
            return f"{SLOW_END} {script(turns=[{'text': 'never'}], seconds=_ENDLESS_SECONDS)}"
        words = f"{SLOW_CREATES} " if self.slow_creates else ""
        return words + self._script

    @property
    def _script(self) -> str:
        turns: list[dict[str, Any]] = [
            {
                "calls": [
                    {"name": tool, "arguments": {"mark": f"{self.mark}.{turn}", "seconds": self.tool_seconds}}
                    for tool in ("charge", "look_up")
                ]
            }
            for turn in range(self.tool_turns)
        ]
        if self.waits:
            arguments = {"mark": f"{self.mark}.0", "amount": REQUESTED}
            turns[0] = {"calls": [*turns[0]["calls"], {"name": "refund", "arguments": arguments}]}
        turns.append({"text": self._phrase, "repeat": self._repeat})
        return script(turns=turns, seconds=round(self.turn_seconds, 3))

    @property
    def text(self) -> str:
        """The text that the emulated model writes, which must be the text of the outcome."""
        return self._phrase * self._repeat

    @property
    def _phrase(self) -> str:
        return f"The tale of {self.mark}: \u661f \u00fc \U0001f680 \u202e(;\n"

    @property
    def _repeat(self) -> int:
        return _LONG if self.number % _LONG_EVERY == 0 else _SHORT
