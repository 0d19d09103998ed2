"""A choice that forces the model to call a tool applies to the first turn of a run, unless the agent wants it in each."""

import pytest

from shared.core.run import Chaining, RunStatus
from shared.core.tool_choice import after_outputs
from tests.support.fakes import FakeAgents, answer, asks
from tests.support.world import World

TOOLS = [{"type": "function", "name": "look_up"}, {"type": "web_search"}]


def allowed(mode: str) -> dict[str, object]:
    return {"type": "allowed_tools", "mode": mode, "tools": TOOLS}


def nested(mode: str) -> dict[str, object]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": TOOLS}}


@pytest.mark.parametrize(
    ("choice", "later"),
    [
        ("required", "auto"),
        ("any", "auto"),
        ("look_up", "auto"),
        ({"type": "function", "name": "look_up"}, "auto"),
        ({"type": "function", "function": {"name": "look_up"}}, "auto"),
        ({"type": "web_search"}, "auto"),
        ({"type": "mcp", "server_label": "docs", "name": "search"}, "auto"),
        ({"type": "custom", "name": "run_sql"}, "auto"),
        (allowed("required"), allowed("auto")),
        (nested("required"), nested("auto")),
        *(
            (free, free)
            for free in (
                *("auto", "none", None, {"type": "auto"}, {"type": "none"}),
                *(allowed("auto"), nested("auto"), {"type": "allowed_tools", "tools": TOOLS}),
            )
        ),
    ],
)
def test_after_outputs_no_tool_is_forced_and_the_same_tools_are_allowed(choice, later):
    options = {"temperature": 1, "tool_choice": choice}
    assert after_outputs(options) == {"temperature": 1, "tool_choice": later}
    assert options["tool_choice"] is choice


@pytest.mark.parametrize("make", [allowed, nested])
def test_the_options_of_the_agent_are_not_changed(make):
    options = {"tool_choice": make("required")}
    after_outputs(options)
    assert options == {"tool_choice": make("required")}


def test_options_without_a_choice_stay_as_they_are():
    assert after_outputs({"temperature": 1}) == {"temperature": 1}


async def choices(changes: dict[str, object], **world_changes: object) -> list[object]:
    """Return the choice of each create: of a run with two turns of tools, and of the next run of its session."""
    options = {"tool_choice": "required"}
    world = World(agents=FakeAgents(changes={"options": options, **changes}), **world_changes)
    run = await world.start()
    world.provider.state = {
        "resp_1": asks("resp_1", "pay"),
        "resp_2": asks("resp_2", "look_up"),
        "resp_3": answer("resp_3"),
    }
    assert (await world.until_terminal(run.id)).status is RunStatus.COMPLETED
    await world.start(session_id=run.session_id)
    return [request.options["tool_choice"] for request in world.provider.creates]


@pytest.mark.parametrize("chaining", Chaining)
async def test_a_forced_choice_applies_to_the_first_turn_of_each_run(chaining):
    assert await choices({}, chaining=chaining) == ["required", "auto", "auto", "required"]


async def test_an_agent_can_force_a_choice_in_every_turn():
    assert await choices({"tool_choice_every_turn": True}) == ["required"] * 4
