"""What the author of an agent may write, and what is refused."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from shared.agent import Agent, IdempotencyKey, tool


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
