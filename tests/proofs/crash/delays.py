"""What takes longer than usual in a scenario. Only the first process of a trial is slow."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """Responses are numbered from 1, in the order of their creates."""

    # The responses that never finish.
    endless: frozenset[int] = frozenset()
    # The responses whose create is answered after another worker has taken over: no run adopts them.
    late: frozenset[int] = frozenset()
    # The responses whose create takes so long that the lease is renewed meanwhile.
    slow: frozenset[int] = frozenset()
    # The ids of the calls whose tool takes so long.
    slow_calls: frozenset[str] = frozenset()
