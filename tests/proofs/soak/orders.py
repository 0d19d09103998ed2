"""The input and the expected outcome of each run of a soak. Both follow from the run's number."""

import random
from dataclasses import dataclass
from functools import cached_property

from tests.e2e.site import script

TOOL_SECONDS = 1.0
# A text that fills several rows of content, and one that is stored in the run's own row.
_LONG, _SHORT = 4_000, 3
_LONG_EVERY = 20
_SECOND_TOOL_TURN_EVERY = 4


@dataclass(frozen=True)
class Order:
    """One run that a client starts. The provider takes about `seconds` for all of its turns together."""

    number: int
    seconds: float

    @property
    def mark(self) -> str:
        return f"n{self.number}"

    @property
    def tool_turns(self) -> int:
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
        return {
            f"{tool} {self.mark}.{turn}" for tool in ("charge", "look_up") for turn in range(self.tool_turns)
        }

    @property
    def input(self) -> str:
        turns: list[dict[str, object]] = [
            {
                "calls": [
                    {"name": tool, "arguments": {"mark": f"{self.mark}.{turn}", "seconds": TOOL_SECONDS}}
                    for tool in ("charge", "look_up")
                ]
            }
            for turn in range(self.tool_turns)
        ]
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
