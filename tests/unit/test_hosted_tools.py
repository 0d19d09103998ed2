"""At the start, the app warns of hosted tools that it would have to carry out itself."""

import json
from typing import Any

import pytest

from shared import app
from shared.adapters.agents.discover import Discovered
from shared.adapters.agents.hosted import warn_of_unanswered_tools
from shared.agent import Agent


def agent(*tools: Any, name: str = "a") -> Agent:
    return Agent(name=name, model="m", instructions="i", tools=tools)


def warnings(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    found = [record for record in caplog.records if record.message.startswith("agent.tool_unanswered ")]
    assert all(record.levelname == "WARNING" for record in found)
    return [json.loads(record.message.partition(" ")[2]) for record in found]


@pytest.mark.parametrize(
    "hosted",
    [
        {"type": "custom", "name": "run_sql"},
        {"type": "computer"},
        {"type": "computer_use_preview", "display_width": 1, "display_height": 1, "environment": "browser"},
        {"type": "local_shell"},
        {"type": "apply_patch"},
        {"type": "shell"},
        {"type": "shell", "environment": None},
        {"type": "shell", "environment": {}},
        {"type": "shell", "environment": {"type": "local"}},
    ],
)
def test_a_tool_that_the_provider_leaves_to_the_app_is_a_warning(
    hosted: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_unanswered_tools([agent(hosted)])
    [warning] = warnings(caplog)
    assert (warning["agent"], warning["tool"], warning["name"]) == ("a", hosted["type"], hosted.get("name"))
    assert "incomplete" in warning["consequence"]
    assert "unanswered_call" in warning["consequence"]


@pytest.mark.parametrize(
    "hosted",
    [
        {"type": "web_search"},
        {"type": "code_interpreter", "container": {"type": "auto"}},
        {"type": "mcp", "server_label": "docs"},
        {"type": "customised"},
        {"type": "shell", "environment": {"type": "container_auto"}},
        {"type": "shell", "environment": {"type": "container_reference", "container_id": "cntr_1"}},
    ],
)
def test_a_tool_that_the_provider_carries_out_is_none(
    hosted: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_unanswered_tools([agent(hosted)])
    assert warnings(caplog) == []


def test_the_app_starts_and_warns_once_for_each_tool(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    agents = {
        "a": agent({"type": "custom", "name": "run_sql"}, {"type": "web_search"}, {"type": "computer"}),
        "b": agent({"type": "custom", "name": "run_sql"}, name="b"),
    }
    settings = {
        "AzureWebJobsStorage": "UseDevelopmentStorage=true",
        "OPENAI_API_KEY": "key",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(app, "discover_all", lambda: Discovered(agents, {}))
    assert app.application.__wrapped__().settings.poll
    assert [(each["agent"], each["tool"]) for each in warnings(caplog)] == [
        ("a", "custom"),
        ("a", "computer"),
        ("b", "custom"),
    ]
