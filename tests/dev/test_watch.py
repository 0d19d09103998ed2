"""The terminal client: how it reads a feed, what it writes to a terminal, and how it ends."""

import fcntl
import json
import os
import pty
import random
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dev import watch
from dev.client import Client, Refused
from dev.feed import LONGEST_PAUSE_SECONDS, Changes, Reader, Refresh, follow
from dev.screen import Screen, cells, one_line, visible, wrap
from dev.watch import status_line

Json = dict[str, Any]
ROOT = Path(__file__).parents[2]
RUN_ID = "run_0123"
HOSTILE = (
    "".join(map(chr, range(0xA1))) + "\x1b[31m\x1b]0;title\x07\u061c\u200e\u202e\u2066\u2069\u2028\ud800"
)


def at(seconds: float) -> str:
    return datetime.fromtimestamp(1_800_000_000 + seconds, UTC).isoformat().replace("+00:00", "Z")


def feed(*events: Json) -> list[Json]:
    """Number events and date them a second apart."""
    return [{"id": number, "at": at(number), **event} for number, event in enumerate(events, start=1)]


def delta(text: str, turn: int = 1) -> Json:
    return {"type": "text.delta", "turn": turn, "text": text}


def replaced(text: str) -> Json:
    return {"type": "text.replaced", "turn": 1, "text": text}


def turn(number: int) -> Json:
    return {"type": "turn.started", "turn": number, "response_id": f"resp_{number}"}


def page(events: list[Json], *, done: bool = False, retry_ms: int = 1000) -> Json:
    return {
        "object": "list",
        "data": events,
        "last_id": events[-1]["id"] if events else 0,
        "done": done,
        "retry_ms": retry_ms,
    }


QUEUED, COMPLETED, FAILED = {"type": "run.queued"}, {"type": "run.completed"}, {"type": "run.failed"}
TOOL = {"call_id": "c1", "name": "look_up"}
CALLED = {"type": "tool.started", "arguments": "{}", **TOOL}
ANSWERED = {"type": "tool.completed", "status": "completed", "output": "x", **TOOL}


def reader_of(*events: Json) -> Reader:
    reader = Reader()
    reader.read(page(feed(*events)))
    return reader


def test_the_text_is_that_of_the_deltas() -> None:
    reader = reader_of(QUEUED, turn(1), delta("Once "))
    assert reader.changes() == Changes("Once ")
    reader.read({**page([]), "data": [{"id": 4, "at": at(4), **delta("upon")}], "last_id": 4})
    assert (reader.changes(), reader.text) == (Changes("upon"), "Once upon")
    assert reader.changes() == Changes()


def test_a_repeated_event_is_shown_once() -> None:
    events = feed(QUEUED, turn(1), delta("one"), delta("two"))
    reader = Reader()
    reader.read(page(events))
    reader.read(page(events[2:]))
    assert reader.text == "onetwo"


def test_text_that_was_replaced_before_it_was_shown_is_not_shown() -> None:
    assert reader_of(turn(1), delta("draft"), turn(2), delta("end")).changes() == Changes("end")
    assert reader_of(turn(1), delta("draft"), replaced("end")).changes() == Changes("end")


def test_a_replacement_that_begins_with_the_shown_text_only_adds_the_rest() -> None:
    reader = reader_of(turn(1), delta("Once "))
    reader.changes()
    reader.read(page([{"id": 3, "at": at(3), **replaced("Once upon")}]))
    assert reader.changes() == Changes("upon")


@pytest.mark.parametrize(
    ("event", "why"),
    [(replaced("Twice"), "the provider's answer differs"), (turn(2), "turn 2: the text starts again")],
    ids=["replaced", "next turn"],
)
def test_text_that_was_shown_and_replaced_is_noted(event: Json, why: str) -> None:
    reader = reader_of(turn(1), delta("Once"))
    reader.changes()
    reader.read(page([{"id": 3, "at": at(3), **event}]))
    changes = reader.changes()
    assert (changes.replaces, changes.text) == (True, event.get("text", ""))
    assert why in changes.notes[-1]


def test_events_of_unknown_types_only_count() -> None:
    reader = reader_of(QUEUED, {"type": "run.danced"}, {"type": "moon.rose"})
    assert (reader.last_id, reader.status, reader.changes()) == (3, "queued", Changes())


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([QUEUED], ("queued", "waiting")),
        ([QUEUED, turn(1)], ("queued", "thinking")),
        ([QUEUED, turn(1), {"type": "run.in_progress"}], ("in_progress", "thinking")),
        ([QUEUED, turn(1), delta("x")], ("in_progress", "writing")),
        (
            [QUEUED, turn(1), {"type": "turn.completed", "turn": 1, "tool_calls": 1}],
            ("in_progress", "calling tools"),
        ),
        ([turn(1), {"type": "run.in_progress"}, CALLED], ("in_progress", "running look_up")),
        ([CALLED, ANSWERED], ("queued", "sending the tool outputs")),
        ([turn(1), delta("x"), {"type": "run.cancelling"}], ("cancelling", "cancelling")),
        ([turn(1), CALLED, {"type": "run.cancelled"}], ("cancelled", "cancelled")),
        ([turn(1), COMPLETED], ("completed", "completed")),
    ],
)
def test_status_and_activity(events: list[Json], expected: tuple[str, str]) -> None:
    reader = reader_of(*events)
    assert (reader.status, reader.activity) == expected


def test_a_finished_call_is_noted_with_its_time() -> None:
    reader = reader_of(turn(1), CALLED, ANSWERED)
    assert reader.changes().notes == ("look_up: completed after 1.0 s",)
    assert reader.changes().notes == ()


def test_the_status_line() -> None:
    reader = reader_of(QUEUED, turn(1), delta("x" * 1234))
    now = datetime.fromisoformat(at(66))
    assert status_line(reader, now) == "in_progress  turn 1  writing  1,234 characters  1:05"
    assert "the host does not answer" in status_line(reader, now, unreachable=True)
    reader.read(page([{"id": 4, "at": at(31), **COMPLETED}]))
    assert status_line(reader, now) == "completed  turn 1  1,234 characters  0:30"


def scripted(*answers: Json | Exception) -> tuple[Callable[[int], Json], list[int]]:
    """Return a function that answers requests for pages one after another, and a list of the requested ids."""
    left, requested = list(answers), []

    def fetch(after: int) -> Json:
        requested.append(after)
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return fetch, requested


def test_requests_without_an_answer_are_repeated_with_growing_pauses() -> None:
    events = feed(QUEUED, turn(1), delta("a"), delta("b"), COMPLETED)
    away = [
        ConnectionRefusedError(),
        Refused(503, "soon"),
        TimeoutError(),
        Refused(429, "x"),
        *[OSError()] * 4,
    ]
    fetch, requested = scripted(
        page(events[:3]), *away, page(events[2:4]), OSError(), page(events[4:], done=True)
    )
    refreshes = list(follow(Reader(), fetch))
    assert "".join(refresh.changes.text for refresh in refreshes) == "ab"
    assert requested == [0, *[3] * 9, 4, 4]
    pauses = [refresh.pause for refresh in refreshes if refresh.unreachable]
    assert pauses == [0.25, 0.5, 1, 2, 4, *[LONGEST_PAUSE_SECONDS] * 3, 0.25]


def test_past_pages_are_shown_together() -> None:
    events = feed(turn(1), delta("draft"), turn(2), delta("end", 2), COMPLETED)
    fetch, requested = scripted(
        page(events[:2], retry_ms=0), page(events[2:4], retry_ms=0), page(events[4:], done=True)
    )
    assert list(follow(Reader(), fetch)) == [Refresh(Changes("end"), 0)]
    assert requested == [0, 2, 4]


def test_a_permanent_refusal_ends_it() -> None:
    fetch, _ = scripted(Refused(404, "gone"))
    with pytest.raises(Refused):
        next(follow(Reader(), fetch))


def test_control_characters_are_made_visible() -> None:
    shown = visible(HOSTILE)
    assert len(shown) == len(HOSTILE)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]", shown)
    assert "\u241b[31m" in shown
    shown.encode()
    assert visible("tab\tline\nGrüße 👩\u200d🚀 漢字") == "tab\tline\nGrüße 👩\u200d🚀 漢字"
    assert one_line("a\nb\tc\x1b") == "a\u240ab c\u241b"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("one two three", ["one two", "three"]),
        ("exactly ten", ["exactly", "ten"]),
        ("0123456789 b", ["0123456789", "b"]),
        ("01234567890123", ["0123456789", "0123"]),
        ("a 0123456789b", ["a", "0123456789", "b"]),
        ("漢字漢字漢字", ["漢字漢字漢", "字"]),
        ("é" * 12, ["é" * 10, "éé"]),
        (" 漢字漢字a漢", ["", "漢字漢字a", "漢"]),
    ],
)
def test_lines_are_broken_at_spaces(text: str, lines: list[str]) -> None:
    assert wrap(text, 10) == lines


def test_text_can_be_wrapped_in_parts() -> None:
    rng = random.Random(4)
    for _ in range(500):
        text = "".join(rng.choices("ab 漢é\u0301", weights=[8, 8, 3, 3, 1, 1], k=rng.randrange(80)))
        cut = rng.randrange(len(text) + 1)
        first = wrap(text[:cut], 12)
        assert first[:-1] + wrap(first[-1] + text[cut:], 12) == wrap(text, 12)
        assert all(sum(map(cells, line)) <= 12 for line in wrap(text, 12))


class Terminal:
    """A terminal with those control sequences that the screen uses. Any other fails."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.rows = [""]
        self.row = self.column = 0

    def write(self, text: str) -> None:
        for token in re.findall(r"\x1b\[[0-9;]*[A-Za-z]|[^\x1b]", text):
            match token:
                case "\r":
                    self.column = 0
                case "\n":
                    self.row, self.column = self.row + 1, 0
                    self.rows += [""] * (self.row + 1 - len(self.rows))
                case "\x1b[J":
                    self.rows[self.row :] = [self.rows[self.row][: self.column]]
                case "\x1b[2m" | "\x1b[0m":
                    pass
                case _ if token.endswith("A"):
                    self.row -= int(token[2:-1])
                    assert self.row >= 0
                case _:
                    assert token.isprintable(), repr(token)
                    row = self.rows[self.row].ljust(self.column)
                    self.rows[self.row] = row[: self.column] + token + row[self.column + 1 :]
                    self.column += 1
                    assert self.column < self.columns, "the last column must stay free"


def test_the_text_stays_and_the_status_line_is_removed() -> None:
    rng = random.Random(1)
    words = rng.choices(["space", "novel", "a", "\n", "\n\n", "tab\there", "x" * 50], k=200)
    complete = text = " ".join(words) + "end"
    screen, terminal = Screen(), Terminal(31)
    while text:
        part, text = text[: (cut := rng.randrange(1, 40))], text[cut:]
        screen.write(part, 30)
        terminal.write(screen.paint("in_progress " + "long " * 20, 30))
        assert terminal.rows[-1].startswith("in_progress")
    terminal.write(screen.finish())
    lines = complete.replace("\t", "    ").split("\n")
    expected = [part for line in lines for part in wrap(line, 30)]
    assert terminal.rows == [*expected, ""]


def test_a_last_status_stays_under_the_text() -> None:
    screen, terminal = Screen(), Terminal(31)
    screen.write("Once", 30)
    terminal.write(screen.paint("status", 30))
    terminal.write(screen.leave("completed " + "x" * 50, 30))
    assert terminal.rows == ["Once", "completed " + "x" * 20, ""]


def test_notes_are_on_lines_of_their_own() -> None:
    screen, terminal = Screen(), Terminal(31)
    screen.write("Once", 30)
    terminal.write(screen.paint("status", 30))
    screen.note("look_up: \x1b[31mfailed " + "x" * 50, 30)
    screen.start_new_text()
    screen.write("Twice", 30)
    terminal.write(screen.paint("status", 30))
    assert terminal.rows == ["Once", "look_up: \u241b[31mfailed xxxxxxxxx", "Twice", "status"]


def test_a_window_shows_the_last_lines_only() -> None:
    screen, terminal = Screen(window=2), Terminal(31)
    for number in range(9):
        screen.write(f"line {number}\n", 30)
        terminal.write(screen.paint("status", 30))
    screen.note("host killed", 30)
    screen.write("half", 30)
    terminal.write(screen.paint("status", 30))
    assert terminal.rows == ["host killed", "line 7", "line 8", "half", "status"]
    terminal.write(screen.finish())
    assert terminal.rows == ["host killed", ""]


class Host(ThreadingHTTPServer):
    """Serves the feed of one run, two events at a time. The first requests get the `faults`."""

    def __init__(self, events: list[Json], run: Json, faults: list[int | str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.events, self.run, self.faults = events, run, faults
        self.queries: list[str] = []
        # The answers to calls that came, the statuses of the replies to them, and what happens after an answer.
        self.answers: list[tuple[str, Json]] = []
        self.replies: list[int] = []
        self.after_answer: list[Json] = []


class _Handler(BaseHTTPRequestHandler):
    server: Host

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        self.server.queries.append(query)
        fault = self.server.faults.pop(0) if self.server.faults else None
        if self.headers["x-functions-key"] != "key":
            self._answer(401, b"")
        elif isinstance(fault, int):
            self._answer(fault, b"{}")
        elif fault == "gone":
            self.close_connection = True
        elif path == f"/api/runs/{RUN_ID}":
            self._answer(200, json.dumps(self.server.run).encode())
        elif path == f"/api/runs/{RUN_ID}/events":
            body = json.dumps(self._page(int(query.split("&")[0].removeprefix("after=")))).encode()
            self._answer(200, body if fault is None else body[: len(body) // 2], length=len(body))
        else:
            self._answer(404, b'{"detail": "No such run."}')

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.answers.append((self.path, body))
        status = self.server.replies.pop(0) if self.server.replies else 200
        if status == 200 and self.server.after_answer:
            # A host that has such events does not end the feed before.
            self.server.events = feed(*self.server.events, *self.server.after_answer)
            self.server.after_answer = []
        self._answer(status, b'{"detail": "Because."}')

    def _page(self, after: int) -> Json:
        events = [event for event in self.server.events if event["id"] > after][:2]
        last_id = events[-1]["id"] if events else after
        done = last_id == len(self.server.events) and not self.server.after_answer
        return page(events, done=done, retry_ms=10) | {"last_id": last_id}

    def _answer(self, status: int, body: bytes, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        pass


@contextmanager
def host(*events: Json, run: Json | None = None, faults: list[int | str] | None = None) -> Iterator[Host]:
    with Host(feed(*events), run or {}, faults or []) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def watching(server: Host, run_id: str = RUN_ID, key: str = "key", **options: Any) -> Any:
    url = f"http://127.0.0.1:{server.server_port}"
    command = [sys.executable, "-m", "dev", "watch", run_id]
    environment = {**os.environ, "BATON_URL": url, "BATON_KEY": key, "TERM": "xterm", "COLUMNS": ""}
    return subprocess.run(
        command, cwd=ROOT, env=environment, timeout=60, check=False, stdin=subprocess.DEVNULL, **options
    )


def piped(server: Host, **options: Any) -> Any:
    return watching(server, capture_output=True, **options)


def on_a_terminal(server: Host) -> tuple[int, str]:
    """Return the exit status, and all that is written to a terminal of 60 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    received = b""

    def read() -> None:
        nonlocal received
        while True:
            try:
                chunk = os.read(ours, 65536)
            except OSError:
                return
            received += chunk

    reading = threading.Thread(target=read)
    reading.start()
    try:
        status = watching(server, stdout=theirs, stderr=theirs).returncode
    finally:
        os.close(theirs)
        reading.join()
        os.close(ours)
    return status, received.decode()


def test_a_pipe_gets_the_bytes_of_the_text_unchanged() -> None:
    texts = ["Grüße\r\n", HOSTILE, "", "\U0001f680" * 3, "no line end"]
    with host(QUEUED, turn(1), *map(delta, texts), CALLED, ANSWERED, COMPLETED) as server:
        done = piped(server)
    assert done.stdout == "".join(texts).encode("utf-8", "surrogatepass")
    assert done.stderr.decode() == "look_up: completed after 1.0 s\n"
    assert done.returncode == 0


def test_it_shows_the_text_after_any_fault_of_the_host() -> None:
    faults: list[int | str] = ["gone", 503, "cut", 500, "gone"]
    with host(turn(1), delta("one "), delta("two "), delta("three"), COMPLETED, faults=faults) as server:
        done = piped(server)
        requested = [query.split("&")[0] for query in server.queries]
    assert (done.returncode, done.stdout) == (0, b"one two three")
    assert done.stderr.decode() == "the host does not answer; trying again\n"
    assert requested == ["after=0"] * 6 + ["after=2", "after=4"]


def test_replaced_text_is_noted_on_stderr() -> None:
    with host(turn(1), delta("Once"), replaced("Twice"), COMPLETED) as server:
        done = piped(server)
    assert done.stdout == b"OnceTwice"
    assert "not part of the run's text" in done.stderr.decode()


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (
            {"error": {"code": "server_error", "message": "It \x1b[31mbroke.\n"}},
            "server_error: It \u241b[31mbroke.\u240a",
        ),
        ({"error": None, "incomplete_details": {"reason": "max_turns"}}, "failed: max_turns."),
        ({}, "The run is failed."),
    ],
)
def test_a_run_that_did_not_complete_is_explained_and_shown_in_the_exit_status(
    run: Json, message: str
) -> None:
    with host(turn(1), delta("half"), FAILED, run=run) as server:
        done = piped(server)
    assert (done.returncode, done.stdout) == (1, b"half")
    assert message in done.stderr.decode()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"run_id": "run_9\x1b"}, "There is no run run_9\u241b at "), ({"key": "x"}, "BATON_KEY")],
    ids=["no such run", "wrong key"],
)
def test_an_unknown_run_or_key_is_explained(options: Json, message: str) -> None:
    with host(COMPLETED) as server:
        done = piped(server, **options)
    assert (done.returncode, done.stdout) == (2, b"")
    assert message in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def test_it_ends_when_its_output_is_closed() -> None:
    with host(turn(1), *[delta("line\n" * 50_000)] * 4, COMPLETED) as server:
        ours, theirs = os.pipe()
        os.close(ours)
        try:
            done = watching(server, stdout=theirs, stderr=subprocess.PIPE)
        finally:
            os.close(theirs)
    assert (done.returncode, done.stderr) == (1, b"")


def test_on_a_terminal_the_text_and_the_last_status_stay() -> None:
    events = [QUEUED, turn(1), delta("word " * 30), delta("\x1b[2J\x9b31m\u202ehidden\n"), delta("end")]
    with host(*events, COMPLETED) as server:
        status, shown = on_a_terminal(server)
    terminal = Terminal(60)
    terminal.write(shown.replace("\r\n", "\n"))
    text = "word " * 30 + "\u241b[2J\ufffd31m\ufffdhidden\nend"
    *rows, last, end = terminal.rows
    assert rows == [line for part in text.split("\n") for line in wrap(part, 59)]
    assert re.fullmatch(r"completed  turn 1  \d+ characters  \d+:\d\d", last)
    assert (end, status) == ("", 0)
    assert "writing" in shown


def test_on_a_terminal_a_replaced_text_is_printed_again() -> None:
    with host(turn(1), delta("Once"), replaced("Twice"), FAILED, run={"error": None}) as server:
        status, shown = on_a_terminal(server)
    terminal = Terminal(60)
    terminal.write(shown.replace("\r\n", "\n"))
    assert terminal.rows[0] == "Once"
    assert terminal.rows[1].startswith("the provider's answer differs")
    assert terminal.rows[2] == "Twice"
    assert terminal.rows[3].startswith("failed  turn 1")
    assert terminal.rows[4:] == ["The run is failed.", ""]
    assert status == 1


def test_an_address_may_end_in_api() -> None:
    assert Client("http://127.0.0.1:7071/api/", "key").base == "http://127.0.0.1:7071"


@pytest.mark.parametrize("url", ["127.0.0.1:7071", "ftp://127.0.0.1", "http://["])
def test_what_is_no_address_is_refused(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        watch.main(["--url", url, RUN_ID])
    assert refused.value.code == 2
    assert f"--url: '{url}' " in capsys.readouterr().err


def test_it_says_at_once_that_nothing_listens() -> None:
    with host() as server:
        pass
    server.server_close()
    done = piped(server)
    assert (done.returncode, done.stdout) == (2, b"")
    url = f"http://127.0.0.1:{server.server_port}"
    assert done.stderr.decode() == f"Nothing listens at {url}: run `make up`, or set BATON_URL to the host.\n"
