"""Owners take turns, so that a thousand runs of one do not keep another's single run waiting.

A queue is first in, first out. So at each tick one owner puts only a few messages on it. When there are more, each
of them is a bundle: a worker takes the first message out of it and puts the rest at the end of the queue. All messages
of a bundle are for the same queue.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import chain, zip_longest
from typing import TypeVar

from shared.steps.messages import MAX_BUNDLED, bundle_message, queue_of

# How many messages of one owner a tick puts on one queue. With more, other owners would wait longer.
MESSAGES_PER_OWNER = 16

_T = TypeVar("_T")
_K = TypeVar("_K", bound=Hashable)
_NOBODY = object()


def in_turns(things: Iterable[tuple[str, _T]]) -> list[_T]:
    """Return things, given with their owners, so that each owner has one before any owner has another."""
    rounds = zip_longest(*_grouped(things).values(), fillvalue=_NOBODY)
    return [thing for thing in chain.from_iterable(rounds) if thing is not _NOBODY]  # type: ignore[misc]


def fair_messages(messages: Iterable[tuple[str, str]], most: int = MESSAGES_PER_OWNER) -> list[str]:
    """Return messages, given with their owners, in turns.

    On each queue they are at most `most` for an owner. Further ones are bundled.
    """
    of_queues = _grouped(((queue_of(message), owner), message) for owner, message in messages)
    packed = [(owner, _packed(own, most)) for (_, owner), own in of_queues.items()]
    return in_turns((owner, message) for owner, own in packed for message in own)


def bundled(messages: Sequence[str]) -> tuple[str, ...]:
    """Return messages of one owner, few for each queue."""
    return tuple(fair_messages(("", message) for message in messages))


def _grouped(things: Iterable[tuple[_K, _T]]) -> Mapping[_K, list[_T]]:
    found: dict[_K, list[_T]] = defaultdict(list)
    for key, thing in things:
        found[key].append(thing)
    return found


def _packed(messages: Sequence[str], most: int) -> list[str]:
    if len(messages) <= most:
        return list(messages)
    bundles = max(most, -(-len(messages) // MAX_BUNDLED))
    return [bundle_message(messages[first::bundles]) for first in range(bundles)]
