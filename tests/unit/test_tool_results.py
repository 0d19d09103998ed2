"""A tool that returned took effect: its call is completed, and the model gets as much of the result as can be shown."""

import asyncio
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel, field_serializer

from shared.adapters.agents import results
from shared.adapters.agents.results import MAX_MESSAGE_CHARACTERS
from shared.adapters.agents.running import InstalledAgents
from shared.agent import Agent, Tool, ToolError, tool
from shared.core.calls import CallStatus, ToolCall, ToolResult
from shared.core.limits import MAX_TOOL_OUTPUT_BYTES
from tests.support.fakes import Permitted

NAN, INFINITY = float("nan"), float("inf")
TEXT = {"type": "input_text", "text": "Chart"}
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}
FILE = {"type": "input_file", "file_id": "file_1", "filename": None}


async def _run(made: Tool[..., Any]) -> ToolResult:
    agent = Agent(name="tester", model="m", instructions="i", tools=[made])
    stream = InstalledAgents({"tester": agent}, {}).run_tools(
        "tester", [ToolCall("c1", made.name, "{}")], Permitted()
    )
    return await anext(stream)


def run_one(made: Tool[..., Any]) -> ToolResult:
    return asyncio.run(_run(made))


def shown(value: object, *, threaded: bool = False) -> ToolResult:
    """Return the result of a call whose tool returns `value`."""

    def in_thread() -> object:
        """Return a value."""
        return value

    async def in_task() -> object:
        """Return a value."""
        return value

    return run_one(tool(in_thread) if threaded else tool(in_task))


# Numbers that JSON does not have.


@dataclass
class Reading:
    mean: float
    exact: Decimal = Decimal("NaN")


class Report(BaseModel):
    mean: float
    readings: list[Reading] = []
    exact: dict[str, Decimal] = {}

    @field_serializer("mean", when_used="json")
    def rounded(self, mean: float) -> float:
        return round(mean, 1) if mean == mean else mean  # noqa: PLR0124 - only NaN is not equal to itself


class Plain(BaseModel, ser_json_inf_nan="strings"):
    mean: float


class Kind(Enum):
    UNKNOWN = NAN
    EXACT = Decimal("Infinity")


class Pair(NamedTuple):
    low: float
    high: Decimal


class Float(float):
    pass


class Scalar:
    """A number as numpy has it."""

    def __init__(self, value: float) -> None:
        self._value = value

    def __float__(self) -> float:
        return self._value


class Array:
    def __init__(self, *values: object) -> None:
        self._values = list(values)

    def tolist(self) -> list[object]:
        return self._values


class LongScalar(Scalar):
    """A number that has no type of Python for all of its digits."""

    def tolist(self) -> "LongScalar":
        return self


@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize(
    ("value", "output"),
    [
        (NAN, "null"),
        (-INFINITY, "null"),
        (Float("nan"), "null"),
        (Decimal("sNaN"), "null"),
        (Decimal("-Infinity"), "null"),
        (Decimal("1.50"), '"1.50"'),
        (
            {"mean": NAN, "of": [1.5, INFINITY, {"deep": (NAN,)}]},
            '{"mean":null,"of":[1.5,null,{"deep":[null]}]}',
        ),
        ([Decimal("NaN"), Decimal("1.5"), "NaN"], '[null,"1.5","NaN"]'),
        (deque([Decimal("NaN")]), "[null]"),
        (Pair(NAN, Decimal("Infinity")), "[null,null]"),
        (Reading(NAN), '{"mean":null,"exact":null}'),
        (Kind.UNKNOWN, "null"),
        ([Kind.EXACT, Kind.UNKNOWN], "[null,null]"),
        (Scalar(NAN), "null"),
        (Scalar(1.5), "1.5"),
        (LongScalar(1.5), "1.5"),
        ([Array(1, NAN, Scalar(INFINITY), Decimal("NaN"))], "[[1,null,null,null]]"),
        ((each for each in (1, NAN, Decimal("NaN"))), "[1,null,null]"),
        ("NaN", "NaN"),
        ({"note": "NaN and Infinity"}, '{"note":"NaN and Infinity"}'),
        (Plain(mean=NAN), '{"mean":null}'),
        # Pydantic warns of a value that is not of the type of its field.
        (Plain.model_construct(mean="NaN"), '{"mean":"NaN"}'),
    ],
)
def test_a_number_that_json_does_not_have_is_null(value: object, output: str, threaded: bool) -> None:
    if isinstance(value, Iterator) and threaded:
        value = iter([1, NAN, Decimal("NaN")])
    assert shown(value, threaded=threaded) == ToolResult("c1", CallStatus.COMPLETED, output)


def test_a_model_is_written_by_its_own_rules_and_its_nan_is_null() -> None:
    readings = [Reading(1.0, Decimal(2)), Reading(NAN)]
    exact = {"a": Decimal("NaN"), "b": Decimal(1)}
    report = Report.model_construct(mean=2.25, readings=readings, exact=exact)
    assert json.loads(shown(report).output) == {
        "mean": 2.2,
        "readings": [{"mean": 1.0, "exact": "2"}, {"mean": None, "exact": None}],
        "exact": {"a": None, "b": "1"},
    }
    assert json.loads(shown([Report(mean=NAN)]).output) == [{"mean": None, "readings": [], "exact": {}}]


def test_in_a_set_only_what_is_not_a_number_is_null() -> None:
    numbers = {Decimal("NaN"), *map(Decimal, range(100))}
    output = json.loads(shown(numbers).output)
    assert output.count(None) == 1
    assert {each for each in output if each} == set(map(str, range(100)))


def test_keys_are_texts() -> None:
    value = {NAN: 1, 2: NAN, None: 3, True: 4, Decimal("NaN"): Decimal("NaN"), (1, 2): 5}
    result = shown(value)
    assert result.status is CallStatus.COMPLETED
    found = json.loads(result.output)
    assert list(found.values()) == [1, None, 3, 4, None, 5]
    assert "2" in found


# Results that cannot be shown.


class Circular(BaseModel):
    inner: list[Any]


class Unreadable:
    def tolist(self) -> object:
        raise RuntimeError("not now")


class Exits:
    def tolist(self) -> object:
        raise SystemExit(3)


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class Hopeless:
    def tolist(self) -> object:
        raise Unspeakable


class Proxy:
    """Pretends to be another object, which is not there."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise RuntimeError("nothing there")


class Silent:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Broken(BaseModel):
    mean: float = 1

    @field_serializer("mean")
    def fails(self, mean: float) -> float:
        raise ValueError(f"cannot write {mean}")


class Endless:
    def tolist(self) -> object:
        return [Endless()]


def failing() -> Iterator[int]:
    yield 1
    raise ValueError("lost the connection")


def exiting() -> Iterator[int]:
    yield 1
    raise SystemExit(3)


def itself() -> list[Any]:
    endless: list[Any] = []
    endless.append(endless)
    return endless


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


UNSHOWABLE: dict[str, Any] = {
    "no form": (object, "type object cannot be written"),
    "no form inside": (lambda: {"a": [1, {2: object()}]}, "type object cannot be written"),
    "a key without a form": (lambda: {frozenset({1}): 1}, "raised TypeError"),
    "bytes": (lambda: b"\xff", "raised UnicodeDecodeError"),
    "a lone surrogate in a key": (lambda: {"\ud800": 1}, "raised UnicodeEncodeError"),
    "itself": (itself, "raised ValueError"),
    "itself in a model": (lambda: Circular.model_construct(inner=itself()), "raised ValueError"),
    "too deep": (lambda: nested(100_000), "raised ValueError"),
    "deeper and deeper": (Endless, "raised ValueError"),
    "a long number": (lambda: 10**5000, "raised ValueError"),
    "an iteration that fails": (failing, "raised ValueError"),
    "an iteration that exits": (exiting, "raised SystemExit"),
    "a model that fails": (Broken, "raised ValueError"),
    "a method that fails": (Unreadable, "raised RuntimeError"),
    "a method that exits": (Exits, "raised SystemExit"),
    "a message that fails": (Hopeless, "raised Unspeakable"),
    "a type that fails": (Proxy, "raised RuntimeError"),
    "a text that fails": (Silent, "type Silent cannot be written"),
    "a type": (lambda: Scalar, "raised TypeError"),
}


@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize("name", UNSHOWABLE)
def test_a_result_that_cannot_be_shown_does_not_fail_the_call(
    name: str, threaded: bool, caplog: pytest.LogCaptureFixture
) -> None:
    make, reason = UNSHOWABLE[name]
    result = shown(make(), threaded=threaded)
    assert (result.status, result.parts) == (CallStatus.COMPLETED, False)
    note = json.loads(result.output)["result_not_shown"]
    assert note["code"] == "invalid_result"
    assert note["message"].startswith("The tool took effect, but its result cannot be shown: ")
    assert reason in note["message"]
    assert any("tool.result_not_shown" in record.message for record in caplog.records)


def test_a_result_may_be_as_long_as_the_limit_and_no_longer() -> None:
    longest = "ü" * (MAX_TOOL_OUTPUT_BYTES // 2)
    assert shown(longest).output == longest
    for value in (longest + "x", [longest], [{"type": "input_text", "text": longest}]):
        result = shown(value)
        assert (result.status, result.parts) == (CallStatus.COMPLETED, False)
        note = json.loads(result.output)["result_not_shown"]
        assert note["code"] == "result_too_large"
        assert note["message"].startswith("The tool took effect, but its result cannot be shown: ")
        assert "1048576 bytes" in note["message"]


def test_a_long_reason_is_clipped() -> None:
    class Talkative:
        def tolist(self) -> object:
            raise ToolError("x" * 10_000)

    message = json.loads(shown(Talkative()).output)["result_not_shown"]["message"]
    assert len(message) == MAX_MESSAGE_CHARACTERS
    assert message.endswith("…")


# A tool that did not run to its end.


def test_an_error_in_a_generator_that_is_the_tool_itself_fails_the_call() -> None:
    @tool
    def rows(broken: bool = False) -> Iterator[int]:
        """Yield rows."""
        yield 1
        raise ValueError("lost the connection")

    result = run_one(rows)
    assert result.status is CallStatus.FAILED
    assert json.loads(result.output)["error"] == {
        "code": "tool_error",
        "message": "The tool failed with ValueError. It may have taken effect before it failed.",
    }


def test_a_generator_is_a_list() -> None:
    @tool
    def rows() -> Iterator[float]:
        """Yield rows."""
        yield from (1, NAN)

    assert run_one(rows) == ToolResult("c1", CallStatus.COMPLETED, "[1,null]")


def test_a_coroutine_that_nobody_ran_fails_the_call() -> None:
    async def work() -> None:
        raise AssertionError

    @tool
    def start() -> object:
        """Start."""
        return work()

    result = run_one(start)
    assert result.status is CallStatus.FAILED
    assert "did not run" in json.loads(result.output)["error"]["message"]


# Content parts.


class Part(BaseModel):
    type: str = "input_text"
    text: str


@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ([TEXT, IMAGE, FILE], [TEXT, IMAGE, FILE]),
        ((IMAGE,), [IMAGE]),
        (IMAGE, [IMAGE]),
        ([{"type": "input_text", "text": ""}], [{"type": "input_text", "text": ""}]),
        ([{**IMAGE, "file_id": None}], [{**IMAGE, "file_id": None}]),
        ([{"type": "input_file", "file_url": "https://example.com/a.pdf"}],) * 2,
        ([{"type": "input_file", "file_data": "data:...", "filename": "a.pdf"}],) * 2,
        ([{**TEXT, "score": NAN}], [{**TEXT, "score": None}]),
        ([{**IMAGE, "detail": NAN}], [{**IMAGE, "detail": None}]),
        ([Part(text="a")], [{"type": "input_text", "text": "a"}]),
        ([{**TEXT, "text": "half \ud83d"}], [{**TEXT, "text": "half \ufffd"}]),
    ],
)
def test_content_parts_are_given_as_parts(value: object, parts: list[Any], threaded: bool) -> None:
    result = shown(value, threaded=threaded)
    assert (result.status, result.parts) == (CallStatus.COMPLETED, True)
    assert json.loads(result.output) == parts


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        [[TEXT]],
        [TEXT, "and a text"],
        [TEXT, {"type": "output_text", "text": "x"}],
        [TEXT, {"text": "x"}],
        [{"type": ["input_text"], "text": "x"}],
        [{"type": "input_text"}],
        [{"type": "input_text", "text": None}],
        [{"type": "input_text", "text": NAN}],
        [{"type": "input_text", "text": 7}],
        [{"type": "input_image", "detail": "low"}],
        [{"type": "input_image", "image_url": ""}],
        [{"type": "input_image", "image_url": None, "file_id": None}],
        [{"type": "input_image", "image_url": {"url": "https://example.com/a.png"}}],
        [{"type": "input_image", "image_url": "https://example.com/a.png", "file_id": 7}],
        [{"type": "input_file", "filename": "a.pdf"}],
        [{"type": "input_audio", "data": "x"}],
        {"parts": [TEXT]},
    ],
)
def test_what_is_not_only_content_parts_is_a_json_text(value: object) -> None:
    result = shown(value)
    assert (result.status, result.parts) == (CallStatus.COMPLETED, False)
    text = json.dumps(value, separators=(",", ":")).replace("NaN", "null")
    assert result.output == text


def test_a_text_stays_a_text_even_if_it_is_written_like_parts() -> None:
    text = json.dumps([TEXT])
    assert shown(text) == ToolResult("c1", CallStatus.COMPLETED, text)


def test_a_result_without_strange_numbers_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(results, "_native")
    assert shown({"a": [1.5, Decimal(1)]}).output == '{"a":[1.5,"1"]}'
