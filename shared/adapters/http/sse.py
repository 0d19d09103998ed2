"""Server-sent events, as a provider streams them: bytes in, the data of whole events out.

Source: the WHATWG's HTML standard, "Server-sent events". What ends in the middle of an event is not told.
"""

import re

# A line ends in CR LF, LF or CR, so an event ends in two of them; a CR before this belongs to its last line's end.
_END_OF_EVENT = re.compile(rb"\n\r?\n|\r\r")
_LONGEST_END = 3
_DATA = re.compile(rb"(?:\A|[\r\n])data: ?([^\r\n]*)")


class EventReader:
    """Puts together events that come in pieces, cut anywhere."""

    def __init__(self) -> None:
        self._rest = bytearray()
        # How much of the rest has been searched: a long event comes in many pieces.
        self._searched = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the data of each event that `piece` completes, without those that have none."""
        self._rest += piece
        data, begin = [], 0
        # A view, since an event may be long: its data is copied out of the rest, and nothing else is.
        with memoryview(self._rest) as rest:
            for end in _END_OF_EVENT.finditer(self._rest, max(0, self._searched + 1 - _LONGEST_END)):
                data.append(b"\n".join(_DATA.findall(rest[begin : end.start()])))
                begin = end.end()
        del self._rest[:begin]
        self._searched = len(self._rest)
        return list(filter(None, data))
