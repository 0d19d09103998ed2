"""Server-sent events are read however they are written and wherever they are cut."""

import json
import time

import pytest

from shared.adapters.http.sse import EventReader
from tests.support.stream_samples import REFERENCES

READ = {
    "LF": (b"event: a\ndata: 1\n\nevent: b\ndata: 2\n\n", [b"1", b"2"]),
    "CR LF": (b"event: a\r\ndata: 1\r\n\r\nevent: b\r\ndata: 2\r\n\r\n", [b"1", b"2"]),
    "CR": (b"event: a\rdata: 1\r\revent: b\rdata: 2\r\r", [b"1", b"2"]),
    "mixed": (b"data: 1\r\n\ndata: 2\n\r\ndata: 3\n\n", [b"1", b"2", b"3"]),
    "no space": (b"data:1\n\n", [b"1"]),
    "two spaces": (b"data:  1\n\n", [b" 1"]),
    "several lines": (b"data: 1\ndata:2\ndata:  3\n\n", [b"1\n2\n 3"]),
    "data before its type": (b"data: 1\nevent: a\n\n", [b"1"]),
    "comments": (b": ping\n\n:\n\n: data: 0\ndata: 1\n\n", [b"1"]),
    "other fields": (b"id: 7\nretry: 10\nnonsense\ndatum: 0\nDATA: 0\n data: 0\ndata: 1\n\n", [b"1"]),
    "no data": (b"event: ping\n\ndata\n\ndata:\n\ndata: \n\ndata: 1\n\n", [b"1"]),
    "blank lines": (b"\n\n\n\ndata: 1\n\n\n\n\ndata: 2\n\n\n", [b"1", b"2"]),
    "bytes that are no text": (b"data: \xff\xc3\x00\n\n", [b"\xff\xc3\x00"]),
    "not ended": (b"data: 1\n\ndata: 2\n", [b"1"]),
    "broken off": (b"data: 1\n\nda", [b"1"]),
    "nothing": (b"", []),
}


@pytest.mark.parametrize(("written", "data"), READ.values(), ids=READ)
def test_events_are_parsed_as_the_standard_says(written, data):
    assert EventReader().feed(written) == data


@pytest.mark.parametrize("written", [written for written, _ in READ.values()], ids=READ)
def test_events_are_the_same_wherever_the_bytes_are_cut(written):
    complete = EventReader().feed(written)
    for first in range(len(written) + 1):
        for second in range(first, len(written) + 1):
            reader = EventReader()
            parts = (written[:first], written[first:second], written[second:])
            assert [data for part in parts for data in reader.feed(part)] == complete


@pytest.mark.parametrize("name", REFERENCES)
def test_a_reference_stream_is_complete_wherever_it_is_cut(name):
    stream = REFERENCES[name]
    written = stream.write(stream.events)
    complete = EventReader().feed(written)
    assert [json.loads(data) for data in complete] == list(stream.events)
    for cut in range(len(written) + 1):
        reader = EventReader()
        before, after = reader.feed(written[:cut]), reader.feed(written[cut:])
        assert before + after == complete
    reader = EventReader()
    assert [data for at in range(len(written)) for data in reader.feed(written[at : at + 1])] == complete


def test_a_long_event_is_read_in_linear_time():
    text = b'data: {"delta": "' + b"a" * 20_000_000 + b'"}'
    written = b"data: 1\n\n" + text + b"\n\ndata: 2\n\n"
    reader, size = EventReader(), 16 * 1024
    began = time.process_time()
    data = [data for at in range(0, len(written), size) for data in reader.feed(written[at : at + size])]
    assert data == [b"1", text.removeprefix(b"data: "), b"2"]
    # A reader that searches all of it again for each part takes minutes.
    assert time.process_time() - began < 5
