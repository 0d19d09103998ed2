"""Reads server-sent events: takes the bytes of a stream, returns the data of complete events.

Source: the WHATWG's HTML standard, "Server-sent events". An event that the stream does not complete is dropped.
"""

import re
from itertools import islice

# A line ends in CR LF, LF or CR, and an event in two line ends. A CR before this match belongs to the first of the two.
_END_OF_EVENT = re.compile(rb"\n\r?\n|\r\r")
_LONGEST_END = 3
_DATA = re.compile(rb"(?:\A|[\r\n])data: ?([^\r\n]*)")


# More events than any stream has that somebody reads at once.
MAX_EVENTS = 50_000
# More lines than any event has.
MAX_LINES = 1_000


def _data(event: memoryview) -> bytes:
    """Return the data of an event. One of too many lines counts as one without data."""
    lines = list(islice((found[1] for found in _DATA.finditer(event)), MAX_LINES + 1))
    return b"\n".join(lines) if len(lines) <= MAX_LINES else b""


class EventReader:
    """Puts together events from chunks, which may end anywhere."""

    def __init__(self) -> None:
        # How many events were completed, also those without data.
        self.count = 0
        self._rest = bytearray()
        # How much of the rest has been searched. A long event comes in many chunks, and each byte is searched once.
        self._searched = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data of each event that `chunk` completes. Events without data are left out."""
        self._rest += chunk
        data, begin = [], 0
        # An event may be long. A view copies its data out of the rest, and nothing else.
        with memoryview(self._rest) as rest:
            for end in _END_OF_EVENT.finditer(self._rest, max(0, self._searched + 1 - _LONGEST_END)):
                self.count += 1
                data.append(_data(rest[begin : end.start()]))
                begin = end.end()
                if self.count >= MAX_EVENTS:
                    break
        del self._rest[:begin]
        self._searched = len(self._rest)
        return list(filter(None, data))
