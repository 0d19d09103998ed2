"""Which calls have to wait: what authors declare, what their functions decide, and what happens when these misbehave."""

import asyncio
import functools
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel

from shared.adapters.agents.results import MAX_MESSAGE_CHARACTERS
from shared.adapters.agents.running import InstalledAgents
from shared.adapters.agents.threads import THREADS_OF_A_RUN, TOOL_THREADS
from shared.agent import Agent, CallerTool, IdempotencyKey, Tool, ToolError, tool
from shared.core.calls import CallKind, CallStatus, ToolCall, WaitKind
from shared.ports.agents import WaitNeeded
from tests.support.fakes import Permitted
from tests.support.log_lines import logged

SOON = timedelta(milliseconds=10)
# Longer than anything here takes.
GIVE_UP = timedelta(seconds=60)
WEEK = timedelta(days=7)
APPROVAL = WaitNeeded(WaitKind.APPROVAL, WEEK)
SECRET = "hunter2"

ask = CallerTool("ask", "Ask the user.", {"type": "object", "properties": {"text": {"type": "string"}}})


def installed(*tools: Any, limit: timedelta = GIVE_UP) -> InstalledAgents:
    agent = Agent(name="tester", model="m", instructions="i", tools=tools)
    return InstalledAgents({"tester": agent}, {}, approval_timeout=limit)


def call(name: str, arguments: object = None, *, call_id: str = "c1") -> ToolCall:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {})
    return ToolCall(call_id, name, text, idempotency_key=f"key-{call_id}")


async def waits(agents: InstalledAgents, *calls: ToolCall) -> dict[str, WaitNeeded]:
    async with asyncio.timeout(GIVE_UP.total_seconds()):
        found = await agents.waits("tester", calls)
    return {call_id: each for call_id, each in found.items() if each}


def needed(approval: Any, arguments: object = None, *, limit: timedelta = GIVE_UP) -> bool:
    """Return whether a call of a tool with this approval has to wait."""
    paid = paying(approval)
    found = asyncio.run(waits(installed(paid, limit=limit), call("pay", arguments or {"amount": 5})))
    assert found in ({}, {"c1": APPROVAL})
    return bool(found)


def paying(approval: Any, ran: list[object] | None = None) -> Tool[..., Any]:
    @tool(approval=approval)
    def pay(amount: int, tags: list[str] = []) -> str:  # noqa: B006 - a default that can be changed
        """Pay."""
        (ran if ran is not None else []).append((amount, [*tags]))
        return "paid"

    return pay


def both(function: Callable[[dict[str, Any]], Any]) -> list[Any]:
    """Return the function, and an async function that does the same."""

    async def in_task(arguments: dict[str, Any]) -> Any:
        return function(arguments)

    return [function, in_task]


# What is declared


def test_a_call_waits_as_long_as_its_tool_says() -> None:
    @tool(approval=True, wait_for=timedelta(hours=2))
    def erase() -> str:
        """Erase."""
        return ""

    found = asyncio.run(
        waits(installed(erase, paying(True)), call("erase"), call("pay", {"amount": 1}, call_id="c2"))
    )
    assert found == {"c1": WaitNeeded(WaitKind.APPROVAL, timedelta(hours=2)), "c2": APPROVAL}


def test_the_caller_carries_out_what_the_caller_has() -> None:
    slow = CallerTool("slow", "Wait.", {"type": "object"}, wait_for=timedelta(seconds=1))
    # Nobody here knows whether the arguments fit.
    found = asyncio.run(waits(installed(ask, slow), call("ask", "no JSON"), call("slow", call_id="c2")))
    assert found == {
        "c1": WaitNeeded(WaitKind.OUTPUT, WEEK),
        "c2": WaitNeeded(WaitKind.OUTPUT, timedelta(seconds=1)),
    }


def test_only_what_waits_is_in_the_result() -> None:
    agents = installed(paying(True), ask, free)
    found = asyncio.run(
        waits(agents, call("free"), call("nothing", call_id="c2"), call("pay", {"amount": 1}, call_id="c3"))
    )
    assert [*found] == ["c3"]
    assert asyncio.run(waits(agents)) == {}
    assert asyncio.run(agents.waits("nobody", [call("ask")])) == {"c1": None}


@pytest.mark.parametrize("approval", [True, lambda _: False], ids=["always", "a function"])
def test_a_call_does_not_run_when_its_arguments_fit_only_after_the_decision(approval: Any) -> None:
    agents, unfit = installed(paying(approval)), call("pay", {"amount": "much"})
    assert asyncio.run(agents.waits("tester", [unfit])) == {}
    now_fit = replace(unfit, arguments='{"amount": 5}', cleared=False)
    (result,) = asyncio.run(results(agents, now_fit))
    assert (result.status, '"not_run"' in result.output) == (CallStatus.FAILED, True)


def test_a_tool_of_a_hosted_server_is_not_one_of_the_agent_with_the_same_name() -> None:
    hosted = [ToolCall("c1", name, "{}", kind=CallKind.MCP_APPROVAL) for name in ("pay", "ask")]
    assert asyncio.run(waits(installed(paying(True), ask), *hosted)) == {}


@tool
def free() -> str:
    """Do what needs nobody."""
    return ""


def test_the_spec_says_which_tools_may_wait() -> None:
    @tool(approval=lambda _: False)
    def perhaps() -> str:
        """Do."""
        return ""

    spec = installed(free, paying(True), perhaps, ask).spec("tester")
    assert spec is not None
    assert spec.may_wait == {"pay", "perhaps", "ask"}
    assert spec.tool_names == ("free", "pay", "perhaps", "ask")
    assert json.loads(spec.tools)[3] == {
        "type": "function",
        "name": "ask",
        "description": "Ask the user.",
        "parameters": {"type": "object", "properties": {"text": {"type": "string"}}},
        "strict": False,
    }


# What a function decides


@pytest.mark.parametrize("decides", both(lambda arguments: arguments["amount"] > 100))
def test_a_function_decides_for_each_call(decides: Any) -> None:
    calls = [call("pay", {"amount": amount}, call_id=str(amount)) for amount in (99, 100, 101, 102)]
    assert asyncio.run(waits(installed(paying(decides)), *calls)) == {"101": APPROVAL, "102": APPROVAL}


class Decider:
    def __call__(self, arguments: dict[str, Any]) -> bool:
        return bool(arguments["amount"] > 100)

    def method(self, arguments: dict[str, Any]) -> bool:
        return self(arguments)

    async def method_in_task(self, arguments: dict[str, Any]) -> bool:
        return self(arguments)


class AsyncDecider:
    async def __call__(self, arguments: dict[str, Any]) -> bool:
        return bool(arguments["amount"] > 100)


async def over(least: int, arguments: dict[str, Any]) -> bool:
    return bool(arguments["amount"] > least)


@pytest.mark.parametrize(
    "decides",
    [
        Decider(),
        Decider().method,
        Decider().method_in_task,
        AsyncDecider(),
        functools.partial(over, 100),
    ],
)
def test_anything_that_can_be_called_may_decide(decides: Any) -> None:
    assert needed(decides, {"amount": 101})
    assert not needed(decides, {"amount": 99})


class Trip(BaseModel):
    day: date
    nights: int = 2


def test_a_function_gets_what_the_tool_gets_with_defaults_and_without_the_key() -> None:
    seen: list[dict[str, Any]] = []

    def decides(arguments: dict[str, Any]) -> bool:
        seen.append(arguments)
        return False

    @tool(approval=decides)
    def book(
        trip: Trip,
        key: IdempotencyKey,
        guests: int = 1,
        note: str | None = "none",
        tags: tuple[str, ...] = (),
    ) -> str:
        """Book."""
        return ""

    arguments = {"trip": {"day": "2026-01-02"}, "guests": None, "tags": ["a"]}
    assert asyncio.run(waits(installed(book), call("book", arguments))) == {}
    assert seen == [{"trip": Trip(day=date(2026, 1, 2)), "guests": 1, "note": "none", "tags": ("a",)}]


@pytest.mark.parametrize("given", [{"tags": ["a"]}, {}])
@pytest.mark.parametrize("change", [lambda tags: tags.append("changed"), lambda tags: tags.clear()])
def test_a_function_that_changes_the_arguments_does_not_change_those_of_the_tool(
    given: Any, change: Any
) -> None:
    ran: list[object] = []

    def decides(arguments: dict[str, Any]) -> bool:
        change(arguments["tags"])
        arguments["amount"] = 1_000_000
        return False

    agents, once = installed(paying(decides, ran)), call("pay", {"amount": 5, **given})
    for _ in range(2):
        assert asyncio.run(waits(agents, once)) == {}
    (result,) = asyncio.run(results(agents, once))
    assert result.status is CallStatus.COMPLETED
    assert ran == [(5, given.get("tags", []))]


async def results(agents: InstalledAgents, *calls: ToolCall) -> list[Any]:
    async with asyncio.timeout(GIVE_UP.total_seconds()):
        return [each async for each in agents.run_tools("tester", calls, Permitted())]


def test_a_function_that_blocks_does_not_block_the_app() -> None:
    went_on = threading.Event()

    async def work() -> dict[str, WaitNeeded]:
        loop = asyncio.get_running_loop()

        def decides(_: dict[str, Any]) -> bool:
            loop.call_soon_threadsafe(went_on.set)
            # True when the app was blocked.
            return not went_on.wait(GIVE_UP.total_seconds() / 2)

        return await waits(installed(paying(decides)), call("pay", {"amount": 5}))

    assert asyncio.run(work()) == {}


# Without a clear "no" an approval is needed


class Odd:
    """Equals everything, and does not say whether it is true."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True

    def __bool__(self) -> bool:
        raise SystemExit


async def late() -> bool:
    return False


@pytest.mark.parametrize(
    "value",
    [
        lambda: None,
        lambda: 0,
        lambda: 1,
        lambda: "",
        lambda: "False",
        list,
        Odd,
        lambda: type,
        late,
        lambda: (each for each in [False]),
    ],
)
@pytest.mark.parametrize("way", [0, 1])
def test_what_is_no_bool_is_no_decision(value: Callable[[], Any], way: int, caplog: Any) -> None:
    assert needed(both(lambda _: value())[way])
    (line,) = logged(caplog, "approval.undecided")
    assert (line.level, line.fields["tool"]) == ("WARNING", "pay")
    assert "no bool" in line.fields["reason"]


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise SystemExit

    __repr__ = __str__


class Beyond(BaseException):
    pass


FAULTS = [
    ValueError(SECRET),
    ToolError(SECRET),
    SystemExit(SECRET),
    KeyboardInterrupt(SECRET),
    StopIteration(SECRET),
    TimeoutError(SECRET),
    Beyond(SECRET),
    Unspeakable(SECRET),
    ExceptionGroup(SECRET, [ValueError(SECRET)]),
]


def raising(fault: BaseException) -> Callable[[dict[str, Any]], Any]:
    def decides(_: dict[str, Any]) -> bool:
        raise fault

    return decides


@pytest.mark.parametrize("fault", FAULTS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("way", [0, 1])
def test_a_function_that_raises_has_not_decided(fault: BaseException, way: int, caplog: Any) -> None:
    assert needed(both(raising(fault))[way])
    (line,) = logged(caplog, "approval.raised")
    assert (line.level, line.fields["tool"], line.fields["call_id"]) == ("ERROR", "pay", "c1")
    # Python makes it a RuntimeError when a coroutine raises it.
    wrapped = way == 1 and isinstance(fault, StopIteration)
    assert line.fields["type"] == ("RuntimeError" if wrapped else type(fault).__name__)
    assert "test_approvals.py:" in json.dumps(line.fields)
    assert SECRET not in caplog.text


@pytest.mark.parametrize("fault", [asyncio.CancelledError(), GeneratorExit()])
@pytest.mark.parametrize("way", [0, 1])
def test_a_function_that_stops_itself_has_not_decided(fault: BaseException, way: int, caplog: Any) -> None:
    assert needed(both(raising(fault))[way])
    assert len(logged(caplog, "approval.undecided", "approval.raised")) == 1


def test_a_fault_of_one_call_is_none_of_the_others() -> None:
    def decides(arguments: dict[str, Any]) -> bool:
        if arguments["amount"] == 1:
            raise SystemExit
        return bool(arguments["amount"] == 2)

    calls = [call("pay", {"amount": amount}, call_id=str(amount)) for amount in range(4)]
    assert [*asyncio.run(waits(installed(paying(decides)), *calls))] == ["1", "2"]


def test_a_thread_that_takes_too_long_has_not_decided(caplog: Any) -> None:
    go_on = threading.Event()

    def decides(_: dict[str, Any]) -> bool:
        go_on.wait(GIVE_UP.total_seconds())
        return False

    async def work() -> dict[str, WaitNeeded]:
        try:
            return await waits(installed(paying(decides), limit=SOON), call("pay", {"amount": 5}))
        finally:
            go_on.set()

    assert asyncio.run(work()) == {"c1": APPROVAL}
    (line,) = logged(caplog, "approval.undecided")
    assert line.fields["reason"] == "it took too long"


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_task_that_takes_too_long_has_not_decided(stubborn: bool, caplog: Any) -> None:
    stopped: list[str] = []

    async def decides(_: dict[str, Any]) -> bool:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.append("stopped")
            if not stubborn:
                raise
        return False

    async def work() -> tuple[dict[str, WaitNeeded], list[str]]:
        found = await waits(installed(paying(decides), limit=SOON), call("pay", {"amount": 5}))
        return found, [*stopped]

    assert asyncio.run(work()) == ({"c1": APPROVAL}, ["stopped"])
    assert [line.event for line in logged(caplog)] == ["approval.undecided"]


def test_functions_that_never_return_take_no_threads_from_tools() -> None:
    go_on = threading.Event()

    def decides(_: dict[str, Any]) -> bool:
        return go_on.wait(GIVE_UP.total_seconds())

    async def work() -> tuple[dict[str, WaitNeeded], list[Any]]:
        agents = installed(paying(decides), free, limit=SOON)
        calls = [call("pay", {"amount": each}, call_id=str(each)) for each in range(TOOL_THREADS + 1)]
        try:
            found = [await waits(agents, each) for each in calls]
            return {name: wait for each in found for name, wait in each.items()}, await results(
                agents, call("free")
            )
        finally:
            go_on.set()

    found, (result,) = asyncio.run(work())
    assert len(found) == TOOL_THREADS + 1
    assert result.status is CallStatus.COMPLETED


def test_without_a_free_thread_nothing_is_decided(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    go_on = threading.Event()

    async def work() -> dict[str, WaitNeeded]:
        loop, all_began, began = asyncio.get_running_loop(), asyncio.Event(), []

        def count() -> None:
            began.append(1)
            if len(began) == TOOL_THREADS:
                all_began.set()

        def decides(_: dict[str, Any]) -> bool:
            loop.call_soon_threadsafe(count)
            return not go_on.wait(GIVE_UP.total_seconds())

        agents = installed(paying(decides))
        calls = [call("pay", {"amount": 5}, call_id=str(each)) for each in range(THREADS_OF_A_RUN)]
        runs = [asyncio.create_task(waits(agents, *calls)) for _ in range(TOOL_THREADS // THREADS_OF_A_RUN)]
        async with asyncio.timeout(GIVE_UP.total_seconds()):
            await all_began.wait()
        monkeypatch.setattr("shared.adapters.agents.threads.PATIENCE", SOON)
        try:
            return await waits(agents, call("pay", {"amount": 5}))
        finally:
            go_on.set()
            assert await asyncio.gather(*runs) == [{}] * len(runs)

    assert asyncio.run(work()) == {"c1": APPROVAL}
    (line,) = logged(caplog, "approval.undecided")
    assert line.fields["reason"] == "no thread was free"


def test_whoever_stops_asking_stops_the_function() -> None:
    ended: list[str] = []

    async def work() -> None:
        began = asyncio.Event()

        async def decides(_: dict[str, Any]) -> bool:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("ended")
            return False

        waiting = asyncio.create_task(waits(installed(paying(decides)), call("pay", {"amount": 5})))
        async with asyncio.timeout(GIVE_UP.total_seconds()):
            await began.wait()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    asyncio.run(work())
    assert ended == ["ended"]


class Uncopied(str):
    __slots__ = ()

    def __deepcopy__(self, _: object) -> "Uncopied":
        raise OSError(SECRET)


def test_a_default_that_cannot_be_copied_is_shown_to_nobody(caplog: Any) -> None:
    @tool(approval=lambda _: False)
    def greet(name: str = Uncopied("x")) -> str:
        """Greet."""
        return name

    assert asyncio.run(waits(installed(greet), call("greet"))) == {"c1": APPROVAL}
    assert [line.fields["type"] for line in logged(caplog, "approval.raised")] == ["OSError"]


# Arguments


@pytest.mark.parametrize("approval", [True, lambda _: True, raising(ValueError())])
@pytest.mark.parametrize(
    "arguments",
    ["{", "[]", '{"amount": "many"}', '{"amount": 1, "extra": 2}', "{}", '{"amount": 1, "amount": 2}'],
)
def test_a_call_whose_arguments_do_not_fit_fails_without_an_approval(approval: Any, arguments: str) -> None:
    ran: list[object] = []
    agents, bad = installed(paying(approval, ran)), call("pay", arguments)
    assert asyncio.run(waits(agents, bad)) == {}
    (result,) = asyncio.run(results(agents, bad))
    assert json.loads(result.output)["error"]["code"] == "invalid_arguments"
    assert ran == []


def refuse(value: str) -> str:
    match value:
        case "value":
            raise ValueError(SECRET)
        case "tool":
            raise ToolError("Use another one.")
        case "exit":
            raise SystemExit(SECRET)
        case "other":
            raise OSError(SECRET)
    return value


@tool(approval=lambda _: False)
def checked(word: Annotated[str, AfterValidator(refuse)], key: IdempotencyKey) -> str:
    """Check."""
    return word


@pytest.mark.parametrize(
    ("word", "expected"), [("value", {}), ("exit", {"c1": APPROVAL}), ("other", {"c1": APPROVAL})]
)
def test_a_check_of_arguments_that_breaks_has_not_decided(word: str, expected: Any, caplog: Any) -> None:
    assert asyncio.run(waits(installed(checked), call("checked", {"word": word}))) == expected
    assert len(logged(caplog, "approval.raised")) == len(expected)
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("fine", None),
        (
            "value",
            "The arguments do not fit the tool checked: word: a check of this value raised ValueError.",
        ),
        ("tool", "The arguments do not fit the tool checked: Use another one."),
        ("exit", "A check of the arguments of checked failed with SystemExit."),
        ("other", "A check of the arguments of checked failed with OSError."),
    ],
)
def test_changed_arguments_are_checked_as_those_of_the_model(
    word: str, sentence: str | None, caplog: Any
) -> None:
    caplog.set_level(logging.INFO)
    text = json.dumps({"word": word})
    assert asyncio.run(installed(checked).fault_of_arguments("tester", "checked", text)) == sentence
    assert SECRET not in caplog.text
    raised = [line.fields["type"] for line in logged(caplog, "tool.raised")]
    assert raised == {"exit": ["SystemExit"], "other": ["OSError"]}.get(word, [])


@pytest.mark.parametrize("arguments", ["{", "[]", "{}", '{"amount": NaN}', '{"amount": 1, "key": "mine"}'])
def test_changed_arguments_that_do_not_fit_are_explained(arguments: str) -> None:
    fault = asyncio.run(installed(paying(True)).fault_of_arguments("tester", "pay", arguments))
    assert fault is not None
    assert fault.startswith("The arguments do not fit the tool pay: ")


@pytest.mark.parametrize("name", ["ask", "nothing", "x" * 10_000, "\ud800"])
def test_arguments_of_what_does_not_run_here_cannot_be_changed(name: str) -> None:
    agents = installed(paying(True), ask)
    for agent in ("tester", "nobody"):
        fault = asyncio.run(agents.fault_of_arguments(agent, name, "{}"))
        assert fault is not None
        assert fault.startswith("There is no tool called ")
        assert len(fault.encode()) <= MAX_MESSAGE_CHARACTERS + 10


def test_a_tool_of_the_caller_never_runs_here() -> None:
    (result,) = asyncio.run(results(installed(ask, free), call("ask")))
    assert result.status is CallStatus.FAILED
    assert json.loads(result.output)["error"]["code"] == "not_run"
    (result,) = asyncio.run(results(installed(ask, free), call("nothing")))
    assert "The tools are: ask, free." in result.output


def test_who_needs_no_approval_does_not_load_what_decides_it() -> None:
    program = """
import asyncio
import sys
from shared.adapters.agents.running import InstalledAgents
from shared.agent import Agent, CallerTool, tool
from shared.core.calls import ToolCall

@tool
def free() -> str:
    "Do."
    return ""

ask = CallerTool("ask", "Ask.", {"type": "object", "properties": {}})
made = {name: Agent(name=name, model="m", instructions="i", tools=tools) for name, tools in
    {"plain": [], "caller": [ask], "free": [free, ask]}.items()}
agents = InstalledAgents(made, {})
for name in ("plain", "caller"):
    agents.spec(name)
for name in made:
    asyncio.run(agents.waits(name, [ToolCall("1", "ask", "{}"), ToolCall("2", "free", "{}")]))
names = {each.split(".")[0] for each in sys.modules} | {each for each in sys.modules}
print(sorted(names & {"pydantic", "openai", "shared.adapters.agents.approvals"}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
