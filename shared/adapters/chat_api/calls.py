"""Says which pieces belong to the same call, whatever of index, id and name a provider sends or repeats. Pure."""

import json
from dataclasses import dataclass, field

from shared.adapters.chat_api.decode import CallPiece
from shared.ports.chat import ChatCall

# Where a piece could be the begin of another call, the arguments before it are parsed. More or longer ones are not.
MAX_PARSED_CHARACTERS = 64 * 1024
MAX_PARSES = 1_000
# More than a run may have. An answer with more is refused.
MAX_CALLS = 1_000


@dataclass(slots=True)
class _Call:
    number: int
    call_id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    length: int = 0
    # Whether any of its arguments says something.
    written: bool = False


class Calls:
    """The calls of one answer, numbered from 0 in the order in which they begin."""

    def __init__(self) -> None:
        self._all: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}
        self._last: _Call | None = None
        self._parses = 0

    @property
    def count(self) -> int:
        return len(self._all)

    @property
    def unwritten(self) -> bool:
        """Whether a call has a name, and no arguments yet."""
        return any(call.name and not call.written for call in self._all)

    def place(self, piece: CallPiece) -> ChatCall:
        """Return a piece with the number of its call. Its id is given once, and so is each part of its name."""
        call = self._call_of(piece)
        new_id = piece.call_id if not call.call_id else ""
        new_name = _rest_of_name(call, piece.name)
        call.call_id, call.name = call.call_id or new_id, call.name + new_name
        if piece.index is not None:
            self._by_index[piece.index] = call
        if new_id:
            self._by_id.setdefault(new_id, call)
        self._last = call
        call.written = call.written or bool(piece.arguments.strip())
        if call.length <= MAX_PARSED_CHARACTERS:
            call.arguments.append(piece.arguments)
            call.length += len(piece.arguments)
        return ChatCall(call.number, new_id, new_name, piece.arguments)

    def _call_of(self, piece: CallPiece) -> _Call:
        if piece.index is not None:
            current = self._by_index.get(piece.index)
        else:
            current = self._by_id.get(piece.call_id) or self._last
        return self._new() if current is None or self._begins(piece, current) else current

    def _begins(self, piece: CallPiece, current: _Call) -> bool:
        """Return whether a piece that could belong to `current` begins another call."""
        if not piece.name:
            # There are providers that send another id with each piece.
            return False
        if piece.beside and not piece.call_id:
            return True
        if piece.call_id and current.call_id:
            if piece.call_id == current.call_id:
                return False
            # With the same index, each piece of one call may have an id of its own.
            return (
                piece.index is None
                or piece.name != current.name
                or self._complete(current, empty=True, unknown=False)
            )
        if piece.index is not None:
            # Some number every call 0, and send each of them in one piece.
            return bool(piece.arguments.strip()) and self._complete(current, empty=False, unknown=False)
        return bool(current.name) and (
            piece.name != current.name or self._complete(current, empty=bool(piece.call_id))
        )

    def _complete(self, call: _Call, *, empty: bool, unknown: bool = True) -> bool:
        """Return whether the arguments of a call are complete.

        `empty`: what to return when there are none. `unknown`: what to return when to parse them would take too long.
        """
        if not call.written:
            return empty
        if call.length > MAX_PARSED_CHARACTERS or self._parses >= MAX_PARSES:
            return unknown
        self._parses += 1
        try:
            json.loads("".join(call.arguments))
        except (ValueError, RecursionError):
            return False
        return True

    def _new(self) -> _Call:
        self._all.append(_Call(len(self._all)))
        return self._all[-1]


def _rest_of_name(call: _Call, name: str) -> str:
    """Return what a piece adds to the name of its call. A name may come in pieces, or again and again."""
    if name.startswith(call.name):
        return name.removeprefix(call.name)
    return "" if call.length else name
