"""A call that logs makes one line: an event name and a JSON object, whatever the fields and exceptions contain."""

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from shared import log
from shared.errors import StorageUnavailable, UnreadableRow
from shared.faults import MAX_FAULTS, MAX_FRAMES, MAX_MESSAGE_CHARACTERS, MAX_PLACE_CHARACTERS
from shared.log import MAX_FIELD_CHARACTERS, log_event, log_fault, log_skipped
from tests.support.log_lines import Line, logged

# Each of these begins a line somewhere, or ends a text.
BREAKS = "\n\r\x00\x0b\x0c\x1b\x1c\x1d\x1e\x7f\x85\u2028\u2029"
FORGED = f"x{BREAKS}ERROR run.failed {{}}"
KEY = "sk-abcdefghijklmnop"


def raised(raising: Callable[[], Any]) -> Exception:
    try:
        raising()
    except Exception as fault:  # noqa: BLE001 - any fault is logged
        return fault
    raise AssertionError


def raising(fault: BaseException, cause: BaseException | None = None) -> Callable[[], None]:
    def here() -> None:
        raise fault from cause

    return here


def the_fault(caplog: pytest.LogCaptureFixture, fault: BaseException) -> Line:
    log_fault("poll.failed", fault, id=FORGED)
    [line] = logged(caplog)
    assert (line.level, line.event, line.fields["id"]) == ("ERROR", "poll.failed", FORGED)
    return line


@pytest.mark.parametrize("value", [FORGED, "half \ud83d", "宇宙 \U0001f680", '"}\n{"'])
def test_a_field_cannot_begin_another_line(value: str, caplog: pytest.LogCaptureFixture) -> None:
    log_event("tool.failed", level=logging.WARNING, tool=value, items={value: [value]})
    assert logged(caplog) == [Line("WARNING", "tool.failed", {"tool": value, "items": {value: [value]}})]


def test_a_field_has_a_limit(caplog: pytest.LogCaptureFixture) -> None:
    log_event("step.deferred", level=logging.WARNING, reason="x" * 10_000, turn=10**30)
    [line] = logged(caplog)
    assert line.fields == {"reason": "x" * (MAX_FIELD_CHARACTERS - 1) + "…", "turn": 10**30}


def test_a_level_that_is_off_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    log_event("run.advanced", status="queued")
    log_fault("poll.failed", ValueError("x"))
    assert logged(caplog) == []


def test_a_fault_has_its_type_its_message_and_its_places(caplog: pytest.LogCaptureFixture) -> None:
    line = the_fault(caplog, raised(raising(StorageUnavailable(FORGED))))
    assert line.fields["type"] == "StorageUnavailable"
    assert line.fields["message"] == FORGED
    places = line.fields["frames"]
    assert [place.partition(":")[0] for place in places] == ["test_log_lines.py"] * 2
    assert [place.partition(" ")[2] for place in places] == ["raised", "here"]
    assert "causes" not in line.fields
    assert not any("/" in place for place in places)


def test_the_message_of_a_fault_is_clipped_and_has_no_key(caplog: pytest.LogCaptureFixture) -> None:
    line = the_fault(caplog, ValueError(f"{KEY} {'y ' * 100_000}"))
    assert line.fields["message"].startswith("[secret] y y")
    assert len(line.fields["message"]) == MAX_MESSAGE_CHARACTERS


def test_the_causes_of_a_fault_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    line = the_fault(caplog, raised(raising(StorageUnavailable("no answer"), OSError(f"{KEY} refused"))))
    [cause] = line.fields["causes"]
    assert (cause["type"], cause["message"], cause["frames"]) == ("OSError", "[secret] refused", [])


def test_a_fault_that_was_raised_while_another_was_handled_has_it_as_a_cause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def here() -> None:
        try:
            raising(KeyError("first"))()
        except KeyError:
            raise ValueError("second")  # noqa: B904 - the context is tested

    def hidden() -> None:
        try:
            here()
        except ValueError:
            raise TypeError("third") from None

    log_fault("poll.failed", raised(here))
    log_fault("poll.failed", raised(hidden))
    first, second = logged(caplog)
    assert [each["type"] for each in first.fields["causes"]] == ["KeyError"]
    assert "causes" not in second.fields


def test_causes_have_a_limit_and_may_be_circular(caplog: pytest.LogCaptureFixture) -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert len(the_fault(caplog, first).fields["causes"]) == MAX_FAULTS - 1
    caplog.clear()
    group = ExceptionGroup("many", [KeyError(str(number)) for number in range(1000)])
    assert [each["type"] for each in the_fault(caplog, group).fields["causes"]] == ["KeyError"] * (
        MAX_FAULTS - 1
    )


def test_of_a_long_traceback_both_ends_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    def deep(left: int) -> None:
        if left:
            deep(left - 1)
        raise ValueError

    frames = the_fault(caplog, raised(lambda: deep(200))).fields["frames"]
    assert len(frames) == MAX_FRAMES + 1
    assert frames[0].endswith(" raised")
    assert frames[MAX_FRAMES // 2] == "…"
    assert frames[-1].endswith(" deep")


@pytest.mark.parametrize("folder", ["/srv/secret/", "C:\\secret\\", ""])
def test_a_place_has_no_folder_and_a_limit(folder: str, caplog: pytest.LogCaptureFixture) -> None:
    # A path cannot contain NUL.
    name = FORGED.replace("\x00", "")
    code = compile("raise ValueError", f"{folder}{name}{'y' * 1000}.py", "exec")
    place = the_fault(caplog, raised(lambda: exec(code))).fields["frames"][-1]
    assert place.startswith(f"{name}yyy")
    assert len(place) <= 2 * MAX_PLACE_CHARACTERS
    assert "secret" not in place


def test_a_message_that_cannot_be_read_is_empty(caplog: pytest.LogCaptureFixture) -> None:
    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise SystemExit(3)

    line = the_fault(caplog, Unspeakable())
    assert (line.fields["type"], line.fields["message"]) == ("Unspeakable", "")


def test_a_row_that_was_left_out_has_its_key_and_the_cause(caplog: pytest.LogCaptureFixture) -> None:
    fault = UnreadableRow(f"run|{FORGED}")
    fault.__cause__ = ValueError(f"{FORGED} {KEY}" + "y " * 1000)
    log_skipped(fault)
    [line] = logged(caplog)
    assert (line.level, line.event) == ("ERROR", "row.skipped")
    assert line.fields["row"] == f"run|{FORGED}"
    assert line.fields["cause"].startswith(f"ValueError: {FORGED} [secret]")
    assert len(line.fields["cause"]) < 2 * log._CAUSE_CHARACTERS


def test_a_line_of_many_fields_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    log_event("some.event", level=logging.ERROR, items={str(n): n for n in range(100_000)})
    [line] = caplog.messages
    assert len(line) < 25_000
    assert json.loads(line.partition(" ")[2])["cut"].startswith('{"items"')
