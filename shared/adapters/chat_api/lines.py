"""Reads the events of a stream that may last for many minutes, line by line.

Source: the WHATWG's HTML standard, "Server-sent events". Beyond it, servers are understood that leave out the empty line
after an event, and the line end after the last one. So are those that write `error:` in the place of `data:`.
"""

import codecs
import re

# All lines of one event, and of what has come of the next one.
MAX_EVENT_BYTES = 8 * 1024 * 1024

DONE = b"[DONE]"
_LINE_END = re.compile(rb"\r\n|\r|\n")
# A sign of life, such as [HEARTBEAT].
_MARK = re.compile(rb"\[[A-Z_ -]*[A-Z]\]")
# Older servers of llama.cpp have the second one.
_DATA = re.compile(rb"(?:data|error): ?")


class LineReader:
    """Puts together events from chunks, which may end anywhere. Keeps one event at most."""

    def __init__(self) -> None:
        # Whether an event was longer than its limit. Nothing after it can be read.
        self.too_long = False
        self._rest = bytearray()
        # How much of the rest has been searched, so that each byte of a long line is searched once.
        self._searched = 0
        # Whether the last chunk ended in CR. A LF after it belongs to the same line end.
        self._ended_in_cr = False
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data of each event that `chunk` completes. Events without data are left out."""
        if self._ended_in_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            self._ended_in_cr = False
        if chunk:
            self._ended_in_cr = chunk.endswith(b"\r")
        self._rest += chunk
        events: list[bytes] = []
        begin = 0
        for end in _LINE_END.finditer(self._rest, self._searched):
            self._take(bytes(self._rest[begin : end.start()]), events)
            begin = end.end()
        del self._rest[:begin]
        self._searched = len(self._rest)
        self.too_long = self.too_long or self._size + self._searched > MAX_EVENT_BYTES
        return events

    def end(self) -> list[bytes]:
        """Return the data of what has come of an event that the stream does not complete."""
        events: list[bytes] = []
        if self._data and self._data[-1].rstrip().endswith(b"}"):
            # It is probably complete, and the next line is not.
            self._dispatch(events)
        self._take(bytes(self._rest), events)
        self._rest.clear()
        self._searched = 0
        self._dispatch(events)
        return events

    def _take(self, line: bytes, events: list[bytes]) -> None:
        line = line.removeprefix(codecs.BOM_UTF8)
        if not line:
            self._dispatch(events)
        elif field := _DATA.match(line):
            data = line[field.end() :]
            if self._data and _is_another(self._data, data):
                self._dispatch(events)
            self._data.append(data)
            self._size += len(line)
            self.too_long = self.too_long or self._size > MAX_EVENT_BYTES

    def _dispatch(self, events: list[bytes]) -> None:
        data = b"\n".join(self._data)
        if data.strip():
            events.append(data)
        self._data, self._size = [], 0


def _is_another(before: list[bytes], data: bytes) -> bool:
    """Return whether a line of data begins another event. No JSON text has such a line after such lines."""
    begins = data.lstrip().startswith(b"{") or data.strip() == DONE
    return begins and (before[-1].rstrip().endswith(b"}") or not _may_be_json(before))


def _may_be_json(lines: list[bytes]) -> bool:
    first = next((line.strip() for line in lines if line.strip()), b"")
    return first.startswith(b"{") or (first.startswith(b"[") and not _MARK.fullmatch(first))
