"""Finds where an HTTP/1.1 request ends, for the stub and the operation counter."""

import re

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_LAST_CHUNK = b"\r\n0\r\n\r\n"


def end_of_request(buffer: bytes) -> int | None:
    """Return where the first request in `buffer` ends, or None while part of it is missing."""
    head_end = buffer.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    if _CHUNKED.search(buffer, 0, head_end):
        last_chunk = buffer.find(_LAST_CHUNK, head_end)
        return None if last_chunk < 0 else last_chunk + len(_LAST_CHUNK)
    length = _LENGTH.search(buffer, 0, head_end)
    end = head_end + 4 + (int(length[1]) if length else 0)
    return end if end <= len(buffer) else None
