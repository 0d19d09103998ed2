"""Compares a text that was interrupted with one that was not. No IO."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

# How much of both texts is shown where they begin to differ.
_SHOWN = 40


@dataclass(frozen=True)
class Joined:
    """A place at which another worker went on with a text: after so many characters."""

    characters: int
    exact: bool


def joins_in(events: Iterable[Mapping[str, Any]]) -> list[Joined]:
    """Return the joins of a run, from its feed."""
    return [
        Joined(event["characters"], event["join"] == "exact")
        for event in events
        if event["type"] == "turn.joined"
    ]


@dataclass(frozen=True)
class Comparison:
    """What came of a text that was interrupted."""

    interrupted: str
    undisturbed: str
    joins: Sequence[Joined]

    @property
    def identical(self) -> bool:
        return self.interrupted == self.undisturbed

    @property
    def as_declared(self) -> bool:
        """Whether the text is what its joins let expect: the same, or different after a join that is not exact."""
        return self.identical or (self._last_join is not None and not self._last_join.exact)

    @property
    def _same(self) -> int:
        """How many characters are the same before the first difference."""
        pairs = zip(self.interrupted, self.undisturbed, strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    @property
    def _last_join(self) -> Joined | None:
        """The last join before the first difference."""
        return next((each for each in reversed(self.joins) if each.characters <= self._same), None)

    def lines(self) -> list[str]:
        """Return what to show."""
        each = [
            f"join       after {join.characters:,} characters: {'exact' if join.exact else 'best effort'}"
            for join in self.joins
        ]
        if self.identical:
            return [
                *each,
                f"compared   the same {len(self.interrupted):,} characters as the undisturbed text",
            ]
        at = self._same
        return [
            *each,
            f"compared   the texts differ after {at:,} characters: {self._reason()}",
            f"           here         {self.interrupted[at : at + _SHOWN]!r}",
            f"           undisturbed  {self.undisturbed[at : at + _SHOWN]!r}",
        ]

    def _reason(self) -> str:
        join = self._last_join
        if join is None:
            return "before any join, so the model does not repeat itself"
        if join.exact:
            return f"although the join after {join.characters:,} is exact"
        return f"the join after {join.characters:,} is best effort, because white space was at its end"
