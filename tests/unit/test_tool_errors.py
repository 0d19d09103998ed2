"""What a tool's exception says reaches the model only if it is a ToolError, and no exception's text reaches the log."""

import asyncio
import gc
import json
import logging
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel, Field, field_serializer
from pydantic_core import PydanticCustomError

from shared.adapters.agents.results import MAX_MESSAGE_CHARACTERS
from shared.adapters.agents.running import InstalledAgents
from shared.agent import Agent, Tool, ToolError, tool
from shared.core.calls import CallStatus, ToolCall, ToolResult
from tests.support.fakes import Permitted
from tests.support.log_lines import Line, logged
from tests.support.runs import an_id

SECRET = "hunter2"
RUN_ID = an_id("run")
# An exception with this message tries to forge a line of the log.
MESSAGE = f"AccountKey={SECRET}\nERROR baton run.failed {{}}\r\x00\x85\u2028\u2029\ud83d"
# A call whose id and whose tool's name do the same.
ID, NAME = "c1\nforged\u2028", "x\nforged\x85"
SOON = timedelta(milliseconds=10)
GIVE_UP_SECONDS = 60


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


async def _run(made: Tool[..., Any], call: ToolCall) -> ToolResult:
    agent = Agent(name="tester", model="m", instructions="i", tools=[made])
    agents = InstalledAgents({"tester": agent}, {})
    # Build the schemas before any call is timed.
    agents.spec("tester")
    async with asyncio.timeout(GIVE_UP_SECONDS):
        return await anext(agents.run_tools("tester", [call], Permitted()))


def run_one(made: Tool[..., Any], **arguments: object) -> ToolResult:
    return asyncio.run(_run(made, ToolCall(ID, made.name, json.dumps(arguments), run_id=RUN_ID)))


def failing(raising: Callable[[], object], *, threaded: bool) -> Tool[..., Any]:
    def in_thread() -> object:
        """Fail."""
        return raising()

    async def in_task() -> object:
        """Fail."""
        return raising()

    return tool(in_thread) if threaded else tool(in_task)


def error_of(result: ToolResult) -> tuple[str, str]:
    assert result.status is CallStatus.FAILED
    error = json.loads(result.output)["error"]
    return error["code"], error["message"]


def fault_in(caplog: pytest.LogCaptureFixture, event: str = "tool.raised") -> Line:
    """Return the line of a fault, when the log has its call, and nothing of its message."""
    assert SECRET not in caplog.text
    assert "AccountKey" not in caplog.text
    [line] = logged(caplog, event)
    assert line.fields["call_id"] == ID
    assert line.fields["run_id"] == RUN_ID
    assert not {"message", "notes"} & line.fields.keys()
    return line


# Exceptions that are not a ToolError.


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError(MESSAGE)

    __repr__ = __str__


class Exits(Exception):
    def __str__(self) -> str:
        raise SystemExit(MESSAGE)


class Beyond(BaseException):
    pass


class Reticent(Exception):
    """Hides or breaks what every exception has."""

    @property
    def broken(self) -> Any:
        raise RuntimeError(MESSAGE)

    __class__ = __traceback__ = __cause__ = __context__ = __suppress_context__ = broken  # type: ignore[assignment]
    __notes__ = args = broken  # type: ignore[assignment]


class Meta(type):
    @property
    def broken(cls) -> Any:
        raise RuntimeError(MESSAGE)

    __name__ = __mro__ = broken  # type: ignore[assignment]


class Nameless(ValueError, metaclass=Meta):
    pass


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return MESSAGE

    def __format__(self, _: str) -> str:
        return MESSAGE

    __repr__ = __str__


def named(name: str) -> BaseException:
    made: BaseException = type("made", (KeyError,), {})(MESSAGE)
    type(made).__name__ = name
    return made


def noted() -> BaseException:
    fault = ValueError("x")
    fault.add_note(MESSAGE)
    return fault


def with_cause() -> BaseException:
    fault = ValueError("x")
    fault.__cause__ = OSError(2, MESSAGE, f"/{SECRET}")
    fault.__cause__.__context__ = KeyError(MESSAGE)
    return fault


def group() -> BaseException:
    told = ToolError(MESSAGE)
    return BaseExceptionGroup(
        MESSAGE, [ValueError(MESSAGE), ExceptionGroup(MESSAGE, [told]), Beyond(MESSAGE)]
    )


OTHERS: dict[str, tuple[Callable[[], BaseException], str]] = {
    "a message": (lambda: ValueError(MESSAGE), "ValueError"),
    "a key": (lambda: KeyError(MESSAGE), "KeyError"),
    "several arguments": (lambda: ValueError("x", {"password": MESSAGE}), "ValueError"),
    "a file": (lambda: FileNotFoundError(2, MESSAGE, f"/{SECRET}"), "FileNotFoundError"),
    "a line of source": (lambda: SyntaxError(MESSAGE, (f"/{SECRET}.py", 1, 1, MESSAGE, 1, 2)), "SyntaxError"),
    "bytes": (lambda: UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, MESSAGE), "UnicodeDecodeError"),
    "notes": (noted, "ValueError"),
    "a cause": (with_cause, "ValueError"),
    "a group": (group, "BaseExceptionGroup"),
    "no exception": (lambda: Beyond(MESSAGE), "Beyond"),
    "an exit": (lambda: SystemExit(MESSAGE), "SystemExit"),
    "an interruption": (lambda: KeyboardInterrupt(MESSAGE), "KeyboardInterrupt"),
    "an end of an iteration": (lambda: StopIteration(MESSAGE), "StopIteration"),
    "an end of an async iteration": (lambda: StopAsyncIteration(MESSAGE), "StopAsyncIteration"),
    "a message that fails": (Unspeakable, "Unspeakable"),
    "a message that exits": (Exits, "Exits"),
    "broken attributes": (lambda: Reticent(MESSAGE), "Reticent"),
    "a broken class": (lambda: Nameless(MESSAGE), "Nameless"),
    "a long name": (lambda: named(SECRET * 100), "KeyError"),
    "a name of several lines": (lambda: named(MESSAGE.replace("\x00", "").replace("\ud83d", "")), "KeyError"),
    "an empty name": (lambda: named(""), "KeyError"),
    "a name that is written differently": (lambda: named(Text("Plain")), "Plain"),
}


@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize("name", OTHERS)
def test_of_an_exception_the_model_gets_the_type_and_the_log_the_place(
    name: str, threaded: bool, caplog: pytest.LogCaptureFixture
) -> None:
    make, kind = OTHERS[name]

    def where() -> None:
        raise make()

    # Python makes a StopIteration a RuntimeError when it leaves a coroutine.
    changed = kind == "StopIteration" and not threaded
    kind = "RuntimeError" if changed else kind
    result = run_one(failing(where, threaded=threaded))
    assert error_of(result) == (
        "tool_error",
        f"The tool failed with {kind}. It may have taken effect before it failed.",
    )
    line = fault_in(caplog)
    assert (line.level, line.fields["type"]) == ("ERROR", kind)
    places = line.fields["causes"][0]["frames"] if changed else line.fields["frames"]
    assert re.fullmatch(r"test_tool_errors\.py:\d+ where", places[-1])
    assert logged(caplog)[-1].event == "tool.failed"


def test_what_a_group_contains_is_found_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def fetch() -> None:
        raise LookupError(MESSAGE)

    @tool
    async def gather() -> None:
        """Fail in a task of its own."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fetch())

    assert "failed with ExceptionGroup." in error_of(run_one(gather))[1]
    [cause] = fault_in(caplog).fields["causes"]
    assert cause["type"] == "LookupError"
    assert cause["frames"][-1].endswith(" fetch")


@pytest.mark.parametrize("stop", [asyncio.CancelledError, GeneratorExit])
def test_a_tool_that_stops_itself_says_nothing(
    stop: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def where() -> None:
        raise stop(MESSAGE)

    assert error_of(run_one(failing(where, threaded=False))) == ("cancelled", "The tool cancelled itself.")
    assert SECRET not in caplog.text
    result = run_one(failing(where, threaded=True))
    assert result.status is CallStatus.FAILED
    assert SECRET not in result.output
    assert fault_in(caplog).fields["type"] == stop.__name__


@pytest.mark.parametrize("stubborn", [False, True])
def test_what_a_tool_raises_after_its_timeout_is_not_shown(
    stubborn: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> ToolResult:
        release = asyncio.Event()

        @tool(timeout=SOON)
        async def wait() -> None:
            """Wait, and then fail."""
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    if not stubborn:
                        break
            raise ValueError(MESSAGE)

        result = await _run(wait, ToolCall(ID, "wait", "{}", run_id=RUN_ID))
        release.set()
        if late := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(late)
        return result

    assert error_of(asyncio.run(scenario()))[0] == "timeout"
    # Asyncio logs an exception that nobody has read when its task is collected.
    gc.collect()
    assert fault_in(caplog).fields["type"] == "ValueError"


def test_a_call_of_no_tool_cannot_forge_a_line(caplog: pytest.LogCaptureFixture) -> None:
    made = failing(lambda: None, threaded=False)
    result = asyncio.run(_run(made, ToolCall(ID, NAME, "{}", run_id=RUN_ID)))
    assert error_of(result)[0] == "unknown_tool"
    fields = {"run_id": RUN_ID, "call_id": ID, "tool": NAME, "code": "unknown_tool"}
    assert logged(caplog) == [Line("WARNING", "tool.failed", fields)]


# ToolError.


class NoSuchCity(ToolError):
    pass


class Mute(ToolError):
    def __str__(self) -> str:
        raise SystemExit(MESSAGE)


class Talking(ToolError):
    def __str__(self) -> str:
        return Text("as it is")


@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (ToolError("There is no city Köln\nin this list."), "There is no city Köln\nin this list."),
        (NoSuchCity("Ask for another one."), "Ask for another one."),
        (ToolError("half \ud83d"), "half \ufffd"),
        (ToolError(404), "404"),
        (Talking(), "as it is"),
    ],
)
def test_the_message_of_a_tool_error_reaches_the_model_and_not_the_log(
    fault: ToolError, message: str, threaded: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def where() -> None:
        raise fault from KeyError(MESSAGE)

    fault.add_note(MESSAGE)
    result = run_one(failing(where, threaded=threaded))
    assert error_of(result) == ("tool_error", message)
    assert message[:20] not in caplog.text
    line = fault_in(caplog, "tool.declined")
    assert (line.level, line.fields["type"]) == ("INFO", type(fault).__name__)
    assert not logged(caplog, "tool.raised", "tool.failed")
    assert line.fields["frames"][-1].endswith(" where")
    assert [each["type"] for each in line.fields["causes"]] == ["KeyError"]


def test_the_message_of_a_tool_error_is_clipped() -> None:
    def where() -> None:
        raise ToolError("x" * 10_000)

    message = error_of(run_one(failing(where, threaded=False)))[1]
    assert len(message) == MAX_MESSAGE_CHARACTERS
    assert message.endswith("…")


@pytest.mark.parametrize("fault", [ToolError(), ToolError(""), Mute(MESSAGE)])
def test_of_a_tool_error_without_a_message_the_model_gets_the_type(
    fault: ToolError, caplog: pytest.LogCaptureFixture
) -> None:
    def where() -> None:
        raise fault

    kind = type(fault).__name__
    assert f"failed with {kind}." in error_of(run_one(failing(where, threaded=False)))[1]
    fault_in(caplog, "tool.declined")


# Results that raise when they are written as JSON.


class Listed:
    def __init__(self, fault: BaseException) -> None:
        self._fault = fault

    def tolist(self) -> object:
        raise self._fault


class Model(BaseModel):
    mean: int = 1
    told: bool = False

    @field_serializer("mean")
    def fails(self, mean: int) -> int:
        raise ToolError(f"mean is {mean}") if self.told else KeyError(MESSAGE)


def lines(fault: BaseException) -> Iterator[int]:
    yield 1
    raise fault


RESULTS: dict[str, tuple[Callable[[], object], str, str]] = {
    "a method": (lambda: Listed(ValueError(MESSAGE)), "ValueError", "ValueError"),
    "a method that exits": (lambda: Listed(SystemExit(MESSAGE)), "SystemExit", "SystemExit"),
    "a message that fails": (lambda: Listed(Unspeakable()), "Unspeakable", "Unspeakable"),
    "a hostile name": (lambda: Listed(named(MESSAGE[:20] * 10)), "KeyError", "KeyError"),
    "a group": (lambda: Listed(group()), "BaseExceptionGroup", "BaseExceptionGroup"),
    "an iteration": (lambda: lines(noted()), "ValueError", "ValueError"),
    "a model": (Model, "KeyError", "PydanticSerializationError"),
    "a class with a hostile name": (
        type(f"x\n{SECRET}", (), {}),
        "of the type object cannot",
        "ToolError",
    ),
    "a method that tells": (lambda: Listed(ToolError("only ten rows")), "only ten rows", "ToolError"),
    "an iteration that tells": (lambda: lines(NoSuchCity("no such")), "no such", "NoSuchCity"),
    "a model that tells": (lambda: Model(told=True), "mean is 1", "PydanticSerializationError"),
}


@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize("name", RESULTS)
def test_why_a_result_cannot_be_shown_is_a_type_or_the_message_of_a_tool_error(
    name: str, threaded: bool, caplog: pytest.LogCaptureFixture
) -> None:
    make, reason, kind = RESULTS[name]
    result = run_one(failing(make, threaded=threaded))
    assert result.status is CallStatus.COMPLETED
    assert SECRET not in result.output
    note = json.loads(result.output)["result_not_shown"]
    assert note["code"] == "invalid_result"
    assert reason in note["message"]
    line = fault_in(caplog, "tool.result_not_shown")
    assert line.fields["type"] == kind
    assert reason not in caplog.text or reason.isidentifier()


# Arguments that a validator of the author refuses.


def checking(make: Callable[[], BaseException]) -> Tool[..., Any]:
    def check(value: int) -> int:
        raise make()

    @tool
    async def act(even: Annotated[int, Field(gt=0), AfterValidator(check)] = 2) -> None:
        """Act."""
        raise AssertionError

    return act


# Pydantic cannot read a message with a lone surrogate.
WHOLE = MESSAGE.replace("\ud83d", "")
BOTH = type("Both", (ToolError, ValueError), {})


@pytest.mark.parametrize(
    ("make", "code", "message"),
    [
        (lambda: ValueError(WHOLE), "invalid_arguments", "even: a check of this value raised ValueError"),
        (
            lambda: AssertionError(WHOLE),
            "invalid_arguments",
            "even: a check of this value raised AssertionError",
        ),
        (lambda: ToolError("must be even"), "invalid_arguments", "must be even"),
        (lambda: BOTH("must be even"), "invalid_arguments", "even: must be even"),
        (lambda: PydanticCustomError("odd", "must be even"), "invalid_arguments", "even: must be even"),
        (lambda: ValueError(MESSAGE), "tool_error", "The tool failed with UnicodeEncodeError."),
        (lambda: KeyError(MESSAGE), "tool_error", "The tool failed with KeyError."),
        (lambda: SystemExit(MESSAGE), "tool_error", "The tool failed with SystemExit."),
        (ToolError, "invalid_arguments", "a check of the arguments failed"),
        (type("Odd", (ValueError, Unspeakable), {}), "tool_error", "The tool failed with "),
    ],
)
def test_what_a_validator_says_follows_the_same_rule(
    make: Callable[[], BaseException], code: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    result = run_one(checking(make), even=3)
    found = error_of(result)
    assert found[0] == code
    assert message in found[1]
    assert SECRET not in result.output
    assert SECRET not in caplog.text
    assert logged(caplog)[-1].fields["code"] == code


def test_what_pydantic_says_of_arguments_reaches_the_model() -> None:
    assert error_of(run_one(checking(ValueError), even=-1)) == (
        "invalid_arguments",
        "even: Input should be greater than 0",
    )
