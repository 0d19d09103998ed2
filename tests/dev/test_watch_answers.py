"""Calls that wait for an answer, in the terminal client: what it asks, what it sends, and what it says elsewhere."""

import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import pytest

from dev.client import Client
from dev.watch_answers import Answers
from tests.dev.test_watch import (
    ANSWERED,
    CALLED,
    COMPLETED,
    QUEUED,
    ROOT,
    RUN_ID,
    Host,
    delta,
    host,
    page,
    piped,
    reader_of,
    turn,
)

Json = dict[str, Any]
CALL = "call_02_" + "a" * 32
ARGUMENTS = '{"order": "A-1002", "euros": 120}'
WAITING = {
    "type": "call.waiting",
    "turn": 2,
    "call": CALL,
    "call_id": "c1",
    "name": "refund",
    "wait": "approval",
    "expires_at": "2027-01-15T08:00:00Z",
    "arguments": ARGUMENTS,
}
PAUSED = {"type": "run.requires_action"}


def done(answer: str = "approved", **fields: str) -> Json:
    return {"type": "call.answered", "turn": 2, "call": CALL, "name": "refund", "answer": answer, **fields}


def test_a_run_waits_from_the_call_to_its_answer() -> None:
    reader = reader_of(QUEUED, turn(1), WAITING, PAUSED)
    assert (reader.status, reader.activity) == ("requires_action", "waiting for an answer: refund")
    [call] = reader.waits
    assert (call.id, call.name, call.wait, call.arguments) == (CALL, "refund", "approval", ARGUMENTS)
    answered = done("refused", by="key:anna", by_name="Anna", reason="No.")
    reader.read(page([{"id": 5, "at": "2027-01-15T08:00:09Z", **answered}]))
    assert (reader.status, reader.waits) == ("in_progress", ())
    assert reader.changes().notes == ("refund: refused by Anna: No.",)


@pytest.mark.parametrize("end", [{"type": "run.cancelling"}, {"type": "run.expired"}])
def test_nobody_is_asked_about_a_run_that_ends(end: Json) -> None:
    assert reader_of(turn(1), WAITING, PAUSED, end).waits == ()


class Script:
    """Answers prompts one after another, and keeps what is said."""

    def __init__(self, *typed: str) -> None:
        self.left, self.prompts, self.said = list(typed), list[str](), list[str]()

    def ask(self, prompt: str) -> str:
        self.prompts.append(prompt)
        if not self.left:
            raise EOFError
        return self.left.pop(0)


@contextmanager
def asking(
    script: Script, wait: str = "approval", *replies: int
) -> Iterator[tuple[Host, Callable[[], None]]]:
    """Yield a host with one waiting call, and a function that looks at the run."""
    reader = reader_of(turn(1), {**WAITING, "wait": wait}, PAUSED)
    with host() as server:
        server.replies = list(replies)
        client = Client(f"http://127.0.0.1:{server.server_port}", "key")
        answers = Answers(client, RUN_ID, ask=script.ask, say=script.said.append)
        yield server, lambda: answers.look_at(reader)


@pytest.mark.parametrize(
    ("wait", "typed", "body"),
    [
        ("approval", ["a"], {"approve": True}),
        ("approval", ["Approve"], {"approve": True}),
        ("approval", ["r", " Too late. "], {"approve": False, "reason": "Too late."}),
        ("approval", ["r", ""], {"approve": False}),
        ("approval", ["c", '{"euros": 80}'], {"approve": True, "arguments": {"euros": 80}}),
        ("approval", ["?", "o", "", "c", "{", "a"], {"approve": True}),
        ("approval", ["abort", "an", "all wrong", "r", ""], {"approve": False}),
        ("approval", ["c", "null", "c", "[]", "c", '{"n": 1, "n": 2}', "r", ""], {"approve": False}),
        ("output", ["o", "21 degrees"], {"output": "21 degrees"}),
        ("output", ["a", "e", "It is broken."], {"error": "It is broken."}),
    ],
)
def test_what_is_typed_is_sent(wait: str, typed: list[str], body: Json) -> None:
    script = Script(*typed)
    with asking(script, wait) as (server, look):
        look()
        look()
    assert server.answers == [(f"/api/runs/{RUN_ID}/calls/{CALL}", body)]
    assert script.said[0] == f"refund waits for an {wait}: {ARGUMENTS}"
    assert script.left == []


def test_what_does_not_fit_is_asked_again() -> None:
    script = Script("c", '{"euros": "all"}', "c", '{"euros": 1}')
    with asking(script, "approval", 422, 200) as (server, look):
        look()
    assert [body["arguments"]["euros"] for _, body in server.answers] == ["all", 1]
    assert "HTTP 422: Because." in script.said


@pytest.mark.parametrize(
    "unseen", ["\u200b", "\u200d", "\u202e", "\u061c", "\u034f", "\u3164", "\ufe0f", "\u00a0"]
)
def test_who_decides_sees_what_is_not_visible(unseen: str) -> None:
    script = Script()
    reader = reader_of(turn(1), {**WAITING, "arguments": f'{{"order": "Ä-1{unseen}"}}'}, PAUSED)
    with host() as server:
        client = Client(f"http://127.0.0.1:{server.server_port}", "key")
        Answers(client, RUN_ID, ask=None, say=script.said.append).look_at(reader)
    assert script.said[0] == f'refund waits for an approval: {{"order": "Ä-1\\u{ord(unseen):04x}"}}'


def test_who_decides_sees_whose_tool_it_is() -> None:
    script, reader = Script("a"), reader_of(turn(1), WAITING, PAUSED)
    required = [
        {"id": "call_01_" + "b" * 32, "server_label": "mail"},
        {"id": CALL, "server_label": "w\u202eiki"},
    ]
    with host(run={"required_action": required}, faults=[503]) as server:
        client = Client(f"http://127.0.0.1:{server.server_port}", "key")
        answers = Answers(client, RUN_ID, ask=script.ask, say=script.said.append)
        answers.look_at(reader)
        assert (script.said, server.answers) == ([], [])
        answers.look_at(reader)
    assert script.said == [f"refund of w\\u202eiki waits for an approval: {ARGUMENTS}"]
    assert [body for _, body in server.answers] == [{"approve": True}]


def test_an_answer_of_somebody_else_is_said_and_not_repeated() -> None:
    script = Script("a")
    with asking(script, "approval", 409) as (server, look):
        look()
        look()
    assert len(server.answers) == 1
    assert script.said[1:] == ["HTTP 409: Because."]


@pytest.mark.parametrize("typed", [["l"], []], ids=["later", "end of the input"])
def test_later_it_says_how_to_answer(typed: list[str]) -> None:
    script = Script(*typed)
    with asking(script) as (server, look):
        look()
        look()
    assert server.answers == []
    [_, command] = script.said
    assert command.startswith("Answer it with: curl -s http://127.0.0.1:")
    assert f"/api/runs/{RUN_ID}/calls/{CALL} " in command
    assert command.endswith("""-d '{"approve": true}'""")


def test_a_pipe_is_told_how_to_answer_and_asked_nothing() -> None:
    with host(
        QUEUED, turn(1), WAITING, PAUSED, done(), CALLED, ANSWERED, delta("Done."), COMPLETED
    ) as server:
        shown = piped(server)
    assert (shown.returncode, shown.stdout) == (0, b"Done.")
    noted = shown.stderr.decode().splitlines()
    assert noted[0] == f"refund waits for an approval: {ARGUMENTS}"
    assert noted[1].startswith("Answer it with: curl ")
    assert noted[2:] == ["refund: approved", "look_up: completed after 1.0 s"]
    assert server.answers == []


def test_on_a_terminal_it_asks_and_goes_on() -> None:
    waiting = {**WAITING, "arguments": "\x1b[2J" + ARGUMENTS + " " * 40}
    with host(QUEUED, turn(1), waiting, PAUSED) as server:
        server.after_answer = [done(by="key:me"), delta("Done."), COMPLETED]
        status, shown = typed_on_a_terminal(server, {"[l]ater: ": "r\n", "no reason: ": "Too late.\n"})
    assert status == 0
    assert server.answers[0][1] == {"approve": False, "reason": "Too late."}
    assert "\u241b[2J" + ARGUMENTS in shown
    assert "Done." in shown.rpartition("no reason: ")[2]
    assert "completed  turn 1" in shown


def test_what_was_typed_before_a_question_does_not_answer_it() -> None:
    with host(QUEUED, turn(1), WAITING, PAUSED) as server:
        server.after_answer = [done("refused", by="key:me"), COMPLETED]
        typed = {"[l]ater: ": "r\n", "no reason: ": "\n"}
        typed_on_a_terminal(server, typed, before="a\na\n")
    assert [body for _, body in server.answers] == [{"approve": False}]


def typed_on_a_terminal(server: Host, typed: dict[str, str], before: str = "") -> tuple[int, str]:
    """Return the exit status and everything that is shown, while each prompt is answered once."""
    ours, theirs = pty.openpty()
    os.write(ours, before.encode())
    environment = {
        **os.environ,
        "BATON_URL": f"http://127.0.0.1:{server.server_port}",
        "BATON_KEY": "key",
        "TERM": "xterm",
    }
    child = subprocess.Popen(
        [sys.executable, "-m", "dev", "watch", RUN_ID],
        cwd=ROOT,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    received = b""

    def read() -> None:
        nonlocal received
        left = dict(typed)
        while True:
            try:
                received += os.read(ours, 65536)
            except OSError:
                return
            for prompt in [prompt for prompt in left if prompt.encode() in received]:
                os.write(ours, left.pop(prompt).encode())

    reading = Thread(target=read)
    reading.start()
    status = child.wait(60)
    reading.join()
    os.close(ours)
    return status, received.decode()
