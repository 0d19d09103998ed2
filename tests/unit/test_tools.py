"""Agents are found, tools are described to the model, and tool calls end in every possible way."""

import asyncio
import json
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from shared.adapters.agents.calls import MAX_LISTED_CHARACTERS
from shared.adapters.agents.discover import InvalidAgents, discover
from shared.adapters.agents.running import InstalledAgents
from shared.adapters.agents.schema import MAX_ARGUMENT_BYTES, BadArguments, ToolSchema
from shared.adapters.agents.threads import THREADS_OF_A_RUN
from shared.agent import Agent, IdempotencyKey, Tool, ToolError, tool
from shared.core.calls import CallStatus, ToolCall, ToolResult
from shared.ports.agents import Agents, AgentSpec
from tests.support.fakes import Permitted

SOON = timedelta(milliseconds=10)
# Longer than anything here takes. A tool that nothing stops would block the test.
GIVE_UP_SECONDS = 60


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: int
    y: int = 0


@dataclass
class Tree:
    name: str
    children: list["Tree"]


class Open(BaseModel, extra="allow"):
    name: str


def installed(*tools: Tool[..., Any], **settings: str) -> InstalledAgents:
    agent = Agent(name="tester", model="m", instructions="i", tools=tools)
    agents = InstalledAgents({"tester": agent}, settings)
    # Build the schemas before any call is timed.
    agents.spec("tester")
    return agents


def request(name: str, arguments: object = None, *, call_id: str = "c1") -> ToolCall:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {})
    return ToolCall(call_id, name, text, idempotency_key=f"key-{call_id}")


async def results(agents: Agents, *requests: ToolCall) -> list[ToolResult]:
    async with asyncio.timeout(GIVE_UP_SECONDS):
        return [result async for result in agents.run_tools("tester", requests, Permitted())]


def run_one(made: Tool[..., Any], arguments: object = None) -> ToolResult:
    (result,) = asyncio.run(results(installed(made), request(made.name, arguments)))
    return result


def error_of(result: ToolResult) -> tuple[str, str]:
    assert result.status is CallStatus.FAILED
    error = json.loads(result.output)["error"]
    return error["code"], error["message"]


def parameters_of(function: Callable[..., Any]) -> tuple[dict[str, Any], bool]:
    definition = ToolSchema(tool(function)).definition
    return definition["parameters"], definition["strict"]


# What the model gets


def test_a_tool_is_described_in_the_strict_dialect() -> None:
    def book(city: str, nights: int = 2, note: str | None = None) -> str:
        """Book a room.

        Args:
            city: Where.
            nights: How long.
        """
        return f"{city} {nights} {note}"

    assert ToolSchema(tool(book)).definition == {
        "type": "function",
        "name": "book",
        "description": "Book a room.",
        "strict": True,
        "parameters": {
            "type": "object",
            "additionalProperties": False,
            "required": ["city", "nights", "note"],
            "properties": {
                "city": {"type": "string", "description": "Where."},
                "nights": {
                    "anyOf": [{"type": "integer"}, {"type": "null"}],
                    "description": "How long. Null means 2.",
                },
                "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            },
        },
    }


def test_nested_types_are_closed_and_complete_too() -> None:
    def draw(at: Point, colours: list[Colour], tree: Tree) -> None:
        """Draw.

        Args:
            at: Where.
        """

    schema, strict = parameters_of(draw)
    assert strict
    assert schema["properties"]["at"] == {"anyOf": [{"$ref": "#/$defs/Point"}], "description": "Where."}
    assert schema["properties"]["colours"] == {"type": "array", "items": {"$ref": "#/$defs/Colour"}}
    assert schema["$defs"]["Colour"] == {"type": "string", "enum": ["red", "blue"]}
    assert schema["$defs"]["Point"] == {
        "type": "object",
        "additionalProperties": False,
        "required": ["x", "y"],
        "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}},
    }
    assert schema["$defs"]["Tree"]["required"] == ["name", "children"]


def test_a_tool_without_parameters_is_strict() -> None:
    def now() -> str:
        """Tell the time."""
        return "noon"

    schema, strict = parameters_of(now)
    assert strict
    assert schema == {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


@pytest.mark.parametrize(
    "kind", [str, int, float, bool, date, Decimal, list[str], Literal["a", "b"], int | str]
)
def test_a_type_of_the_strict_dialect_stays_strict(kind: Any) -> None:
    def act(value: Any) -> None:
        """Act."""

    act.__annotations__["value"] = kind
    assert parameters_of(act)[1]


@pytest.mark.parametrize(
    "kind",
    [
        *(
            dict[str, int],
            dict,
            list,
            list[Any],
            tuple[int, str],
            set[int],
            bytes,
            Open,
            Any,
            Literal["a", 1],
        ),
        *(Annotated[str, Field(max_length=9)], Annotated[str, Field(pattern="(?i)a")]),
    ],
)
def test_a_type_outside_the_strict_dialect_is_described_loosely(kind: Any) -> None:
    def act(value: Any, extra: int = 3) -> None:
        """Act."""

    act.__annotations__["value"] = kind
    schema, strict = parameters_of(act)
    assert not strict
    assert schema["required"] == ["value"]


def test_a_type_that_cannot_come_as_json_is_named() -> None:
    def lock(what: threading.Event) -> None:
        """Lock."""

    def miss(what: "Nowhere") -> None:  # type: ignore[name-defined]  # noqa: F821
        """Miss."""

    for function in (lock, miss):
        with pytest.raises(
            TypeError,
            match=f"Tool {function.__name__}: its parameter what has a type that cannot be described",
        ):
            parameters_of(function)


def test_an_author_gets_advice_that_fits_a_tool() -> None:
    def lock(what: threading.Event) -> None:
        """Lock."""

    with pytest.raises(TypeError) as caught:
        parameters_of(lock)
    assert "make the object of it in the tool" in str(caught.value)
    assert "arbitrary_types_allowed" not in str(caught.value)


# The arguments


def echo(
    count: int, ratio: float = 0.5, point: Point | None = None, *, schema: str = "s", copy: bool = False
) -> list[object]:
    """Echo."""
    return [count, ratio, point, schema, copy]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"count": 2}', {"count": 2}),
        ('{"count": 2, "ratio": null, "point": null, "schema": null, "copy": null}', {"count": 2}),
        ('{"count": 2, "copy": true, "point": {"x": 1}}', {"count": 2, "copy": True, "point": Point(1)}),
        (' {"count": 2}\n', {"count": 2}),
    ],
)
def test_null_and_a_missing_argument_both_mean_the_default(text: str, expected: dict[str, Any]) -> None:
    assert ToolSchema(tool(echo)).arguments(text, "k") == expected


@pytest.mark.parametrize("text", ["", " ", "null", " null\n", "{}"])
def test_a_model_that_gives_no_arguments_calls_a_tool_that_needs_none(text: str) -> None:
    @tool
    async def ping(times: int = 1) -> str:
        """Answer."""
        return f"pong {times}"

    assert run_one(ping, text) == ToolResult("c1", CallStatus.COMPLETED, "pong 1")


def test_null_is_a_value_where_there_is_no_default() -> None:
    def pick(choice: str | None) -> None:
        """Pick."""

    assert ToolSchema(tool(pick)).arguments('{"choice": null}', "k") == {"choice": None}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "count: Field required"),
        ("not json", "not valid JSON"),
        ("[1]", "must be a JSON object"),
        (" null\n", "count: Field required"),
        ('"null"', "must be a JSON object"),
        ("[]", "must be a JSON object"),
        ("nothing", "not valid JSON"),
        ('{"count": "many"}', "count: Input should be a valid integer"),
        ('{"count": null}', "count: Input should be a valid integer"),
        ('{"count": 1.5}', "count: "),
        ('{"count": 1, "colour": "red"}', "colour: Extra inputs are not permitted"),
        ('{"count": 1, "count": 2}', "occurs twice"),
        ('{"count": 1, "point": {"x": 1, "x": 2}}', "occurs twice"),
        ('{"count": 1, "point": {"x": "left"}}', r"point\.x: "),
        ('{"count": 1, "ratio": NaN}', "not valid JSON: a number is not finite"),
        ('{"count": 1, "ratio": 1e999}', "not valid JSON: a number is not finite"),
        ('{"count": 1, "ratio": "1e999"}', "ratio: Input should be a finite number"),
        ('{"count": ' + "9" * 5000 + "}", "not valid JSON"),
        ('{"count": ' + "[" * 100_000, "nested too deeply"),
        ('{"count": 1, "schema": "\ud800"}', "not valid JSON"),
        ('{"count": 1, "schema": "' + "x" * MAX_ARGUMENT_BYTES + '"}', "longer than 1048576 bytes"),
        ('{"count": [' + "[]," * 300_000 + "0]}", "more than 20000 brackets and commas"),
    ],
)
def test_bad_arguments_are_explained_to_the_model(text: str, complaint: str) -> None:
    with pytest.raises(BadArguments, match=complaint):
        ToolSchema(tool(echo)).arguments(text, "k")


@pytest.mark.parametrize("number", ["1e999", "-1E+400", "1" + "0" * 400 + ".0"])
def test_a_number_that_would_be_infinite_reaches_no_tool(number: str) -> None:
    @tool
    def keep(value: Any, values: dict[str, Any]) -> None:
        """Keep."""

    for text in (
        f'{{"value": {number}, "values": {{}}}}',
        f'{{"value": 1, "values": {{"deep": [{number}]}}}}',
    ):
        with pytest.raises(BadArguments, match="a number is not finite"):
            ToolSchema(keep).arguments(text, "k")


def test_bad_arguments_fail_the_call_before_the_tool_runs() -> None:
    called = []

    @tool
    async def act(count: int) -> None:
        """Act."""
        called.append(count)

    code, message = error_of(run_one(act, {"count": "many"}))
    assert (code, called) == ("invalid_arguments", [])
    assert message.startswith("count: ")


def test_a_tool_gets_its_idempotency_key_and_the_model_does_not_see_it() -> None:
    @tool
    async def pay(amount: int, key: IdempotencyKey) -> str:
        """Pay."""
        return f"{amount} {key}"

    schema = ToolSchema(pay)
    assert list(schema.definition["parameters"]["properties"]) == ["amount"]
    assert schema.definition["strict"]
    assert run_one(pay, {"amount": 3}).output == "3 key-c1"
    assert error_of(run_one(pay, {"amount": 3, "key": "mine"}))[0] == "invalid_arguments"


# The results


def returning(value: object, *, threaded: bool = False) -> Tool[..., Any]:
    def in_thread() -> object:
        """Return a value."""
        return value

    async def in_task() -> object:
        """Return a value."""
        return value

    return tool(in_thread) if threaded else tool(in_task)


@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize(
    ("value", "output"),
    [
        ("plain \x00 text, 宇宙 \U0001f680", "plain \x00 text, 宇宙 \U0001f680"),
        ("", ""),
        (Colour.RED, "red"),
        ("half \ud83d", "half \ufffd"),
        (["half \ud83d"], '["half \ufffd"]'),
        (None, "null"),
        ({"a": [1, True, None], "ü": "宇"}, '{"a":[1,true,null],"ü":"宇"}'),
        (Point(1, 2), '{"x":1,"y":2}'),
        (date(2026, 1, 2), '"2026-01-02"'),
    ],
)
def test_the_model_gets_what_a_tool_returns(value: object, output: str, threaded: bool) -> None:
    result = run_one(returning(value, threaded=threaded))
    assert result == ToolResult("c1", CallStatus.COMPLETED, output)
    assert type(result.output) is str


# The failures
# What a tool's exception says is in test_tool_errors.py.


def test_a_tool_that_cancels_itself_fails() -> None:
    @tool
    async def give_up() -> None:
        """Give up."""
        raise asyncio.CancelledError

    assert error_of(run_one(give_up))[0] == "cancelled"


def test_an_unknown_tool_fails_and_the_others_run() -> None:
    agents = installed(returning("here"))
    requests = request("in_task", call_id="known"), request("elsewhere", call_id="unknown")
    found = {result.call_id: result for result in asyncio.run(results(agents, *requests))}
    assert found["known"].output == "here"
    assert error_of(found["unknown"]) == (
        "unknown_tool",
        "There is no tool called elsewhere. The tools are: in_task.",
    )


def test_the_list_of_tools_for_a_model_that_called_another_one_has_whole_names_and_a_limit() -> None:
    def named(name: str) -> Tool[..., Any]:
        async def act() -> None:
            """Act."""

        act.__name__ = name
        return tool(act)

    names = [f"tool_{number:02d}_{'x' * 56}" for number in range(40)]
    agents = installed(*map(named, names))
    (result,) = asyncio.run(results(agents, request("multi_tool_use.parallel")))
    message = error_of(result)[1]
    start, _, listed = message.partition("The tools are: ")
    assert start == "There is no tool called multi_tool_use.parallel. "
    *whole, cut = listed.removesuffix(".").split(", ")
    assert cut == "…"
    assert whole == names[: len(whole)]
    assert MAX_LISTED_CHARACTERS - 64 <= len(listed) <= MAX_LISTED_CHARACTERS + len(", ….")


def test_an_agent_that_is_gone_fails_the_calls() -> None:
    (result,) = asyncio.run(results(InstalledAgents({}, {}), request("anything")))
    assert error_of(result) == ("unknown_tool", "There is no tool called anything. There are no tools.")


# Time


def test_an_async_tool_is_stopped_at_its_timeout_and_cleans_up_before_its_result() -> None:
    cleaned = []

    @tool(timeout=SOON)
    async def wait() -> None:
        """Wait."""
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(10):
                await asyncio.sleep(0)
            cleaned.append(True)

    async def scenario() -> tuple[str, str]:
        (result,) = await results(installed(wait), request("wait"))
        assert cleaned
        return error_of(result)

    assert asyncio.run(scenario()) == (
        "timeout",
        "The tool did not finish within 0.01 seconds and was stopped.",
    )


def test_a_sync_tool_that_is_late_fails_and_goes_on_in_its_thread() -> None:
    release, finished = threading.Event(), threading.Event()

    @tool(timeout=SOON)
    def wait() -> None:
        """Wait."""
        release.wait(GIVE_UP_SECONDS)
        finished.set()

    code, message = error_of(run_one(wait))
    assert code == "timeout"
    assert "cannot be stopped" in message
    assert not finished.is_set()
    release.set()
    assert finished.wait(GIVE_UP_SECONDS)


def test_a_tool_that_ignores_its_cancellation_delays_no_other_call() -> None:
    async def scenario() -> tuple[str, str]:
        release = asyncio.Event()

        @tool(timeout=SOON)
        async def stubborn() -> None:
            """Stay."""
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

        (result,) = await results(installed(stubborn), request("stubborn"))
        release.set()
        return error_of(result)

    assert asyncio.run(scenario())[0] == "timeout"


def test_calls_run_concurrently_and_give_results_as_they_finish() -> None:
    async def scenario() -> list[str]:
        second_is_read, both_run = asyncio.Event(), asyncio.Barrier(2)

        @tool
        async def meet(first: bool) -> None:
            """Meet."""
            await both_run.wait()
            if first:
                await second_is_read.wait()

        requests = [
            request("meet", {"first": True}, call_id="first"),
            request("meet", {"first": False}, call_id="second"),
        ]
        order = []
        async with asyncio.timeout(GIVE_UP_SECONDS):
            async for result in installed(meet).run_tools("tester", requests, Permitted()):
                order.append(result.call_id)
                second_is_read.set()
        return order

    assert asyncio.run(scenario()) == ["second", "first"]


def test_sync_tools_run_concurrently_too() -> None:
    both_run = threading.Barrier(2, timeout=GIVE_UP_SECONDS)

    @tool
    def meet() -> int:
        """Meet."""
        return min(both_run.wait(), 0)

    requests = [request("meet", call_id=call_id) for call_id in ("a", "b")]
    assert [each.output for each in asyncio.run(results(installed(meet), *requests))] == ["0", "0"]


@pytest.mark.parametrize("sync", [True, False])
def test_without_a_permit_no_tool_begins(sync: bool) -> None:
    permit, ran = Permitted(), []

    def called(number: int) -> int:
        """Call."""
        ran.append(number)
        permit.permitted = False
        return number

    async def awaited(number: int) -> int:
        """Call."""
        return called(number)

    made = tool(called) if sync else tool(awaited)

    async def scenario() -> list[ToolResult]:
        calls = [request(made.name, {"number": number}, call_id=str(number)) for number in range(3)]
        first = [each async for each in installed(made).run_tools("tester", calls[:1], permit)]
        return first + [each async for each in installed(made).run_tools("tester", calls[1:], permit)]

    assert [each.call_id for each in asyncio.run(scenario())] == ["0"]
    assert ran == [0]


def test_calls_that_wait_for_a_thread_ask_for_the_permit_when_they_have_it() -> None:
    permit, ran = Permitted(), []
    everybody = threading.Barrier(THREADS_OF_A_RUN, timeout=GIVE_UP_SECONDS)

    @tool
    def meet(number: int) -> int:
        """Meet."""
        ran.append(number)
        everybody.wait()
        permit.permitted = False
        return number

    async def scenario() -> list[ToolResult]:
        calls = [
            request("meet", {"number": number}, call_id=str(number)) for number in range(2 * THREADS_OF_A_RUN)
        ]
        return [each async for each in installed(meet).run_tools("tester", calls, permit)]

    assert len(asyncio.run(scenario())) == len(ran) == THREADS_OF_A_RUN


def test_a_permit_that_is_lost_stops_what_can_be_stopped() -> None:
    async def scenario() -> tuple[list[str], list[str]]:
        permit, running, ended = Permitted(), asyncio.Event(), []

        @tool
        async def wait(forever: bool) -> str:
            """Wait."""
            if not forever:
                await running.wait()
                return "done"
            running.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("stopped")

        calls = [request("wait", {"forever": forever}, call_id=str(forever)) for forever in (True, False)]
        results = []
        async with asyncio.timeout(GIVE_UP_SECONDS):
            async for result in installed(wait).run_tools("tester", calls, permit):
                results.append(result.call_id)
                permit.lose()
        return results, ended

    assert asyncio.run(scenario()) == (["False"], ["stopped"])


def test_what_has_returned_before_the_permit_is_lost_has_its_result() -> None:
    async def scenario() -> list[str]:
        permit, second = Permitted(), asyncio.Event()

        @tool
        async def wait(number: int) -> None:
            """Wait."""
            if number == 2:
                await second.wait()
            elif number == 3:
                await asyncio.Event().wait()

        calls = [request("wait", {"number": number}, call_id=str(number)) for number in (1, 2, 3)]
        results = []
        async with asyncio.timeout(GIVE_UP_SECONDS):
            async for result in installed(wait).run_tools("tester", calls, permit):
                results.append(result.call_id)
                if result.call_id == "1":
                    # While this result is saved, another tool returns, and then the lease is lost.
                    second.set()
                    for _ in range(20):
                        await asyncio.sleep(0)
                    permit.lose()
                    await asyncio.sleep(0)
        return results

    assert asyncio.run(scenario()) == ["1", "2"]


@pytest.mark.parametrize("way", ["close", "cancel"])
def test_closing_or_cancelling_stops_what_still_runs(way: str) -> None:
    async def scenario() -> list[str]:
        running, ended = asyncio.Event(), []

        @tool
        async def wait(forever: bool) -> None:
            """Wait."""
            try:
                if forever:
                    running.set()
                    await asyncio.Event().wait()
                await running.wait()
            except asyncio.CancelledError:
                ended.append("stopped")
                raise

        requests = [request("wait", {"forever": forever}, call_id=str(forever)) for forever in (True, False)]
        stream = installed(wait).run_tools("tester", requests, Permitted())
        assert (await anext(stream)).call_id == "False"
        if way == "close":
            await stream.aclose()
        else:
            rest = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            rest.cancel()
            with pytest.raises(asyncio.CancelledError):
                await rest
        # A copy, because the end of the loop stops everything, which proves nothing.
        return [*ended]

    async def bounded() -> list[str]:
        async with asyncio.timeout(GIVE_UP_SECONDS):
            return await scenario()

    assert asyncio.run(bounded()) == ["stopped"]


# The agents


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Return a function that writes a package of agents and returns its name."""
    name = f"agents_{tmp_path.name}"
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / name
    folder.mkdir()

    def write(**modules: str) -> str:
        for module, source in ({"__init__": ""} | modules).items():
            text = f"from shared.agent import Agent\n{source}\n"
            (folder / f"{module}.py").write_text(text, encoding="utf-8")
        return name

    yield write
    for module in [each for each in sys.modules if each.split(".")[0] == name]:
        del sys.modules[module]


def source(name: str, model: str = "m") -> str:
    return f"{name} = Agent(name={name!r}, model={model!r}, instructions='i')"


def test_every_agent_of_every_module_is_found_once(package: Callable[..., str]) -> None:
    name = package(two=f"{source('b')}\n{source('a')}\nalias = a", __init__=source("c"))
    package(one=f"from {name}.two import a as borrowed", two=f"{source('b')}\n{source('a')}\nalias = a")
    package(__init__=source("c"))
    assert list(discover(name)) == ["a", "b", "c"]


def test_all_faults_of_a_package_are_reported_at_once(package: Callable[..., str]) -> None:
    name = package(
        one=source("same"), two=source("same"), three="import nowhere_at_all", four=source("x", "")
    )
    with pytest.raises(InvalidAgents) as caught:
        discover(name)
    assert caught.value.faults == (
        f"{name}/four.py, line 2: ValueError: Agent x: it needs a model",
        f"{name}/three.py, line 2: ModuleNotFoundError: No module named 'nowhere_at_all'",
        f"two agents are called same: in {name}.one and in {name}.two",
    )
    assert isinstance(caught.value.__cause__, ExceptionGroup)


BROKEN = """\
from datetime import timedelta
from shared.agent import tool

@tool
def fine(name: str) -> str:
    \"\"\"Be fine.\"\"\"

@tool
def misspelt(name: str, count: imt) -> str:
    \"\"\"Be misspelt.\"\"\"

@tool
def strange(name: str, lock: timedelta.__class__.mro) -> str:
    \"\"\"Be strange.\"\"\"

broken = Agent(name="broken", model="m", instructions="i", tools=[fine, misspelt, strange])
"""


def test_every_tool_is_described_when_the_app_starts(package: Callable[..., str]) -> None:
    name = package(fine=source("fine"), broken=BROKEN)
    with pytest.raises(InvalidAgents) as caught:
        discover(name)
    assert caught.value.faults == (f"{name}/broken.py, line 10: NameError: name 'imt' is not defined",)


def test_each_parameter_that_cannot_be_described_is_named_with_its_place(package: Callable[..., str]) -> None:
    name = package(
        fine=source("fine"),
        broken=BROKEN.replace(": imt", ': "imt"').replace("timedelta.__class__.mro", '"timedelta.nothing"'),
    )
    with pytest.raises(InvalidAgents) as caught:
        InstalledAgents(discover(name), {}).check()
    misspelt, strange = caught.value.faults
    assert misspelt.startswith(f"{name}/broken.py, line 9: Tool misspelt: its parameter count has a type")
    assert misspelt.endswith("name 'imt' is not defined")
    assert strange.startswith(f"{name}/broken.py, line 13: Tool strange: its parameter lock has a type")


def test_a_syntax_error_is_shown_with_its_place(package: Callable[..., str]) -> None:
    name = package(fine=source("fine"), broken="number = = 1")
    with pytest.raises(InvalidAgents) as caught:
        discover(name)
    assert caught.value.faults == (f"{name}/broken.py, line 2: SyntaxError: invalid syntax",)


def test_a_package_without_agents_is_an_error(package: Callable[..., str]) -> None:
    with pytest.raises(InvalidAgents, match="there is none"):
        discover(package(one="number = 1"))
    with pytest.raises(InvalidAgents, match="No module named 'not_there'"):
        discover("not_there")


def test_settings_stand_for_the_model_and_an_agent_without_one_is_not_ready(
    package: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    name = package(
        one=source("a", "%FIRST%"), two=source("b", "x-%SECOND%-%THIRD%"), three=source("c", "gpt-100%")
    )
    agents = InstalledAgents(discover(name), {"SECOND": "y", "THIRD": ""})
    agents.check()
    specs = {each: agents.spec(each) for each in agents.names()}
    assert {each: spec.missing_settings for each, spec in specs.items() if spec} == {
        "a": ("FIRST",),
        "b": ("THIRD",),
        "c": (),
    }
    assert "needs the setting THIRD" in str(specs["b"] and specs["b"].not_ready)
    assert "local.settings.json" in str(specs["b"] and specs["b"].not_ready)
    assert specs["c"] is not None
    assert specs["c"].not_ready is None
    assert [line for line in caplog.messages if "agent.not_ready" in line and '"THIRD"' in line]
    complete = InstalledAgents(discover(name), {"SECOND": "y", "THIRD": "%SECOND%"})
    models = [getattr(complete.spec(name), "model", None) for name in ("b", "c", "nobody")]
    assert models == ["x-y-%SECOND%", "gpt-100%", None]


def test_a_spec_has_what_the_use_cases_need() -> None:
    quick = tool(timeout=timedelta(seconds=1), idempotent=True)(returning("q").function)
    slow = tool(timeout=timedelta(seconds=90))(returning("s", threaded=True).function)
    agent = Agent(
        name="a",
        model="m",
        instructions="i",
        description="d",
        tools=[{"type": "web_search"}, quick, slow],
        max_turns=3,
        deadline=timedelta(minutes=1),
        options={"max_output_tokens": 5},
        tool_choice_every_turn=True,
    )
    spec = InstalledAgents({"a": agent}, {}).spec("a")
    assert spec is not None
    assert [each["type"] for each in json.loads(spec.tools)] == ["web_search", "function", "function"]
    assert spec == AgentSpec(
        name="a",
        description="d",
        model="m",
        instructions="i",
        tools=spec.tools,
        tool_names=("in_task", "in_thread"),
        repeatable=frozenset({"in_task"}),
        longest_tool=timedelta(seconds=90),
        max_turns=3,
        deadline=timedelta(minutes=1),
        options={"max_output_tokens": 5},
        tool_choice_every_turn=True,
    )


def test_the_agents_that_ship_are_complete() -> None:
    from agents.space_novelist import best_matches, generate_character_profiles  # noqa: PLC0415

    found, ship = discover(), ("space_novelist", "market_analyst")
    agents = InstalledAgents(
        {name: found[name] for name in ship}, {"NOVELIST_MODEL": "n", "ANALYST_MODEL": "a"}
    )
    agents.check()
    novelist, analyst = agents.spec("space_novelist"), agents.spec("market_analyst")
    assert novelist is not None
    assert analyst is not None
    assert novelist.tool_names == ("research_space_facts", "generate_character_profiles")
    assert all(definition["strict"] for definition in json.loads(novelist.tools))
    assert (novelist.model, analyst.model, analyst.tools) == ("n", "a", "[]")
    assert "black hole" in best_matches("space_facts.json", "Black holes")[0]["fact"]
    assert len({each["name"] for each in best_matches("characters.json", "hope")}) == 12
    with pytest.raises(ToolError, match="from 1 to 12"):
        asyncio.run(generate_character_profiles(13))


# What a model can cost


class Corner(BaseModel):
    a: int
    b: int
    c: int
    d: int
    e: int
    f: int
    g: int
    h: int


@tool
async def draw(points: list[Corner]) -> str:
    """Draw."""
    return str(len(points))


async def results_of(agent: Agent, calls: list[ToolCall]) -> list[ToolResult]:
    return [each async for each in InstalledAgents({"a": agent}, {}).run_tools("a", calls, Permitted())]


MANY_FAULTS = '{"points": [' + "{}," * 6_000 + "{}]}"


def test_arguments_with_thousands_of_faults_cost_little_and_keep_nothing() -> None:
    agent = Agent(name="a", model="m", instructions="i", tools=[draw])
    many = "{" + ",".join(f'"k{n}": 1' for n in range(15_000)) + "}"
    calls = [ToolCall(str(n), "draw", text) for n, text in enumerate([MANY_FAULTS, many] * 10)]
    tracemalloc.start()
    began = time.process_time()
    found = asyncio.run(results_of(agent, calls))
    seconds = time.process_time() - began
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert {each.status for each in found} == {CallStatus.FAILED}
    texts = {json.loads(each.output)["error"]["message"] for each in found}
    assert texts == {
        "48008 values do not fit the parameters",
        "there are no parameters with 15000 of these names",
    }
    assert peak < 60 * 2**20
    assert seconds < 20


def test_checks_of_arguments_take_turns_with_the_rest_of_the_process() -> None:
    agent = Agent(name="a", model="m", instructions="i", tools=[draw])

    async def both() -> int:
        turns, working = 0, True

        async def other() -> None:
            nonlocal turns
            while working:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        await results_of(agent, [ToolCall(str(n), "draw", MANY_FAULTS) for n in range(10)])
        working = False
        await task
        return turns

    assert asyncio.run(both()) > 10


def test_a_call_whose_thread_is_not_free_has_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.adapters.agents.threads.PATIENCE", timedelta(milliseconds=50))
    begun: list[str] = []
    leave = threading.Event()

    @tool(timeout=timedelta(seconds=20))
    def wait(name: str) -> str:
        """Wait."""
        begun.append(name)
        if name != "other":
            leave.wait(20)
        return name

    agent = Agent(name="a", model="m", instructions="i", tools=[wait])

    async def run() -> tuple[list[ToolResult], list[ToolResult]]:
        agents = InstalledAgents({"a": agent}, {})
        calls = [ToolCall(str(n), "wait", json.dumps({"name": str(n)})) for n in range(12)]
        first: list[ToolResult] = []
        second: list[ToolResult] = []
        async for each in agents.run_tools("a", calls, Permitted()):
            first.append(each)
            if len(first) == 12 - THREADS_OF_A_RUN:
                # One run uses some of the threads only, so another run finds one.
                other = [ToolCall("other", "wait", '{"name": "other"}')]
                second += [result async for result in agents.run_tools("a", other, Permitted())]
                leave.set()
        return first, second

    first, second = asyncio.run(run())
    not_run = [each for each in first if each.status is CallStatus.FAILED]
    assert {json.loads(each.output)["error"]["code"] for each in not_run} == {"not_run"}
    assert len(not_run) == 12 - THREADS_OF_A_RUN
    assert [each.status for each in second] == [CallStatus.COMPLETED]
    assert len(begun) == THREADS_OF_A_RUN + 1
