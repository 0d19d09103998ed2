"""What the author of an agent may write, and what is refused."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from shared.agent import MAX_WAIT, MIN_WAIT, WAIT_FOR, Agent, CallerTool, IdempotencyKey, tool
from shared.author_faults import MAX_PARAMETERS_BYTES
from shared.provider import ChatCompletions


@tool
def plain(city: str) -> str:
    """Tell the weather."""
    return f"sunny in {city}"


@tool(timeout=timedelta(seconds=5), idempotent=True)
async def refined(city: str, *, days: int = 3, key: IdempotencyKey) -> str:
    """Tell the weather of the coming days.

    It is often right.

    Args:
        city: Where,
            as people there call it.
        days (int): How many.

    Returns:
        A sentence.
    """
    return f"{city} {days} {key}"


def make(**changes: Any) -> Agent:
    fields: dict[str, Any] = {"name": "a", "model": "m", "instructions": "i"}
    return Agent(**(fields | changes))


def test_a_tool_without_options_is_not_repeated_and_has_a_timeout() -> None:
    assert (plain.name, plain.description) == ("plain", "Tell the weather.")
    assert (plain.timeout, plain.idempotent) == (timedelta(seconds=60), False)


def test_a_tool_can_still_be_called_like_its_function() -> None:
    assert plain("Oslo") == "sunny in Oslo"
    assert asyncio.run(refined("Oslo", days=1, key=IdempotencyKey("k"))) == "Oslo 1 k"


def test_the_docstring_is_split_into_what_the_tool_does_and_what_its_parameters_mean() -> None:
    assert (refined.timeout, refined.idempotent) == (timedelta(seconds=5), True)
    assert refined.description == (
        "Tell the weather of the coming days.\n\nIt is often right.\n\nReturns:\n    A sentence."
    )
    assert refined.parameters == {"city": "Where, as people there call it.", "days": "How many."}


def no_docstring(city: str) -> None: ...
def no_annotation(city) -> None:  # type: ignore[no-untyped-def]
    """Do."""


def starred(*cities: str) -> None:
    """Do."""


def double_starred(**cities: str) -> None:
    """Do."""


def positional(city: str, /) -> None:
    """Do."""


def misdocumented(city: str) -> None:
    """Do.

    Args:
        town: Where.
    """


def much_too_long_a_name_for_a_tool_that_a_model_is_supposed_to_call_() -> None:
    """Do."""


async def generator(city: str) -> AsyncIterator[str]:
    """Do."""
    yield city


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        (no_docstring, "docstring"),
        (no_annotation, "city needs a type annotation"),
        (starred, r"\*cities: str cannot be given by name"),
        (double_starred, r"\*\*cities: str cannot be given by name"),
        (positional, "city: str cannot be given by name"),
        (misdocumented, "explains town"),
        (much_too_long_a_name_for_a_tool_that_a_model_is_supposed_to_call_, "name must be"),
        (lambda: None, "name must be"),
        (generator, "async generator"),
        (partial(plain.function, "Oslo"), "only a function"),
    ],
)
def test_a_function_that_cannot_be_a_tool_is_refused(function: Callable[..., Any], complaint: str) -> None:
    with pytest.raises(TypeError, match=complaint):
        tool(function)


@pytest.mark.parametrize("timeout", [timedelta(), timedelta(minutes=28), 60])
def test_a_timeout_that_cannot_be_kept_is_refused(timeout: Any) -> None:
    with pytest.raises(
        TypeError, match=r"its timeout must be of type timedelta, from 0:00:00\.001000 to 0:27:00"
    ):
        tool(timeout=timeout)(plain.function)


def test_a_tool_needs_an_approval_only_when_it_says_so() -> None:
    assert (plain.approval, plain.wait_for) == (False, WAIT_FOR)
    made = tool(approval=True, wait_for=MAX_WAIT)(plain.function)
    assert (made.approval, made.wait_for) == (True, timedelta(days=30))


def yields(arguments: dict[str, Any]) -> Iterator[bool]:
    yield True


async def yields_in_task(arguments: dict[str, Any]) -> AsyncIterator[bool]:
    yield True


@pytest.mark.parametrize(
    ("approval", "complaint"),
    [
        (None, "approval must be True, False or a function, and is None"),
        (1, "approval must be True, False or a function, and is 1"),
        ("True", "approval must be"),
        (lambda: True, "approval function must take one argument"),
        (lambda a, b: True, "approval function must take one argument"),
        (lambda *, amount: True, "approval function must take one argument"),
        (dict.get, "approval function must take one argument"),
        (yields, "is a generator"),
        (yields_in_task, "is a generator"),
    ],
)
def test_an_approval_that_cannot_be_decided_is_refused(approval: Any, complaint: str) -> None:
    with pytest.raises(TypeError, match=complaint):
        tool(approval=approval)(plain.function)


@pytest.mark.parametrize(
    "approval", [True, False, lambda a: True, lambda *a: True, lambda a, b=1: True, all, bool]
)
def test_a_bool_or_a_function_of_one_argument_is_an_approval(approval: Any) -> None:
    assert tool(approval=approval)(plain.function).approval is approval


@pytest.mark.parametrize("wait_for", [timedelta(), MIN_WAIT / 2, MAX_WAIT + MIN_WAIT, 60, None])
def test_a_wait_that_cannot_be_kept_is_refused(wait_for: Any) -> None:
    complaint = "its wait_for must be of type timedelta, from 0:00:01 to 30 days"
    with pytest.raises(TypeError, match=complaint):
        tool(approval=True, wait_for=wait_for)(plain.function)
    with pytest.raises(ValueError, match=complaint):
        CallerTool("ask", "Ask.", {"type": "object"}, wait_for=wait_for)


def deep() -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(10_000):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"name": "two words"}, "name must be"),
        ({"name": ""}, "name must be"),
        ({"name": 5}, "name must be"),
        ({"description": " "}, "needs a description"),
        ({"description": None}, "needs a description"),
        ({"parameters": None}, "a JSON schema with the type object"),
        ({"parameters": [["type", "object"]]}, "a JSON schema with the type object"),
        ({"parameters": {}}, "a JSON schema with the type object"),
        ({"parameters": {"type": "array"}}, "a JSON schema with the type object"),
        ({"parameters": {"type": ["object", "null"]}}, "a JSON schema with the type object"),
        (
            {"parameters": {"type": "object", "properties": ["text"]}},
            "properties of its parameters must be a dict",
        ),
        ({"parameters": {"type": "object", "default": object()}}, "parameters cannot be written as JSON"),
        ({"parameters": {"type": "object", "default": float("inf")}}, "parameters cannot be written as JSON"),
        ({"parameters": {"type": "object", "properties": deep()}}, "parameters cannot be written as JSON"),
        ({"parameters": {"type": "object", "title": "x" * MAX_PARAMETERS_BYTES}}, "longer than 65536 bytes"),
        (
            {"parameters": {"type": "object", "title": "é" * (MAX_PARAMETERS_BYTES // 2)}},
            "longer than 65536 bytes",
        ),
    ],
)
def test_a_tool_of_the_caller_that_cannot_work_is_refused(changes: dict[str, Any], complaint: str) -> None:
    fields: dict[str, Any] = {"name": "ask", "description": "Ask.", "parameters": {"type": "object"}}
    with pytest.raises(ValueError, match=complaint):
        CallerTool(**(fields | changes))


def test_all_faults_of_a_tool_of_the_caller_are_reported_at_once() -> None:
    with pytest.raises(ValueError, match=r"name must be.*needs a description.*JSON schema.*wait_for must be"):
        CallerTool("", "", {}, wait_for=timedelta())


def test_parameters_as_long_as_the_limit_are_allowed() -> None:
    frame = len('{"type": "object", "title": ""}')
    schema = {"type": "object", "title": "é\ud800" + "x" * (MAX_PARAMETERS_BYTES - frame - 5)}
    assert CallerTool("ask", "Ask.", schema).parameters == schema
    with pytest.raises(ValueError, match="longer"):
        CallerTool("ask", "Ask.", schema | {"title": schema["title"] + "x"})


def test_a_tool_of_the_caller_keeps_its_parameters_when_the_dict_changes() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"text": {"type": "string"}}}
    made = CallerTool("ask", "Ask.", schema)
    schema["properties"]["text"]["default"] = object()
    assert made.parameters == {"type": "object", "properties": {"text": {"type": "string"}}}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"name": "two words"}, "name must be"),
        ({"name": "x" * 65}, "name must be"),
        ({"name": ""}, "name must be"),
        ({"name": "trailing\n"}, "name must be"),
        ({"model": " "}, "needs a model"),
        ({"instructions": ""}, "needs instructions"),
        ({"max_turns": 0}, "max_turns must be of type int, from 1 to 32, and is 0"),
        ({"max_turns": 33}, "max_turns must be"),
        ({"max_turns": "8"}, "max_turns must be"),
        ({"deadline": timedelta(seconds=9)}, "deadline must be"),
        ({"deadline": timedelta(hours=25)}, "deadline must be"),
        ({"deadline": 1800}, "deadline must be of type timedelta"),
        ({"options": {"stream": True, "store": False}}, "cannot set store.*cannot set stream"),
        ({"options": {"reasoning": object()}}, "options cannot be written as JSON"),
        ({"options": {"temperature": float("nan")}}, "options cannot be written as JSON"),
        ({"tools": [plain, plain]}, "two of its tools are called plain"),
        (
            {"tools": [plain, CallerTool("plain", "Do.", {"type": "object"})]},
            "two of its tools are called plain",
        ),
        ({"tools": [CallerTool]}, "CallerTool is not a tool"),
        ({"tools": [plain.function]}, "plain is not a tool; put @tool above it"),
        ({"tools": [{"name": "web_search"}]}, "a dict with a type"),
        ({"tools": [{"type": "function", "name": "f"}]}, "write the function"),
        ({"tools": [{"type": "mcp", "x": object()}]}, "hosted tool mcp cannot be written as JSON"),
    ],
)
def test_an_agent_that_cannot_work_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make(**changes)


def test_all_faults_of_an_agent_are_reported_at_once() -> None:
    with pytest.raises(ValueError, match=r"needs a model; it needs instructions; max_turns.*called plain"):
        make(model="", instructions="", max_turns=0, tools=[plain, plain])


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "x" * 64, "max_turns": 1, "deadline": timedelta(seconds=10)},
        {"max_turns": 32, "deadline": timedelta(hours=24)},
        {"options": {"max_output_tokens": 9, "reasoning": {"effort": "low"}}},
    ],
)
def test_the_limits_themselves_are_allowed(changes: dict[str, Any]) -> None:
    assert make(**changes).max_turns in (1, 8, 32)


def test_an_agent_keeps_its_tools_when_the_list_changes() -> None:
    tools: list[Any] = [{"type": "web_search"}, refined, plain]
    agent = make(tools=tools)
    tools.clear()
    assert len(agent.tools) == 3
    assert agent.function_tools == (refined, plain)


def test_importing_the_agents_that_ship_imports_no_heavy_package() -> None:
    program = """
import sys
from agents.market_analyst import market_analyst
from agents.space_novelist import space_novelist
from shared.adapters.agents.running import InstalledAgents
from shared.agent import Agent
InstalledAgents({each.name: each for each in (market_analyst, space_novelist)}, {}).names()
InstalledAgents({"plain": Agent(name="plain", model="m", instructions="i")}, {}).check()
print(sorted({name.split(".")[0] for name in sys.modules} & {"pydantic", "pydantic_core", "openai", "azure"}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_provider_with_chat_completions_has_no_hosted_tools_and_further_reserved_options():
    chat = ChatCompletions("chat", base_url="https://chat.example.com/v1")
    with pytest.raises(ValueError, match=r"cannot set messages.*no hosted tools, and 'web_search'"):
        Agent(
            name="a",
            model="m",
            instructions="i",
            provider=chat,
            tools=[{"type": "web_search"}],
            options={"messages": []},
        )
    assert Agent(name="a", model="m", instructions="i", provider=chat).provider is chat
