"""The agent of the README, started and answered as the README does. The agent of docs/agents.md, pasted as it stands.

So is the test of docs/agents.md, which needs the second agent.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from shared.adapters.agents.discover import discover
from tests.e2e.conftest import NewSite
from tests.e2e.site import ROOT, Site, wait_until

README = (ROOT / "README.md").read_text()
CLERK = README.split("## One complete agent")[1].split("\n## ")[0]
[CLERK_FILE] = re.findall(r"```python\n(.*?)```", CLERK, re.DOTALL)
ASK, LOOK, APPROVE = re.findall(r"```sh\n(.*?)```", CLERK, re.DOTALL)
PAGE = (ROOT / "docs/agents.md").read_text()
SECTION = PAGE.split("## Another complete agent")[1].split("\n## ")[0]
[AGENT] = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
[TEST] = re.findall(r"```python\n(.*?)```", PAGE.split("## Testing an agent")[1], re.DOTALL)
START, READ = re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL)


@pytest.fixture
def site(new_site: NewSite, tmp_path: Path) -> Site:
    """The app after the third of the four steps."""
    [file] = re.findall(r"as\s+`agents/(\w+\.py)`", README)
    [setting] = re.findall(r"add\s+`\"(\w+)\": \"([\w.-]+)\"`\s+to its\s+`Values`", README)
    agents = tmp_path / "agents"
    shutil.copytree(ROOT / "agents", agents, ignore=shutil.ignore_patterns("__pycache__"))
    (agents / file).write_text(AGENT)
    made = new_site(agents, REFUNDS_FOLDER=str(tmp_path / "refunds"), **dict([setting]))
    made.add_host()
    return made


def run(site: Site, command: str) -> Any:
    """Carry out a command of the README in a shell, and return the JSON that it prints."""
    settings = os.environ | {"BATON_URL": site.bases[0], "BATON_KEY": site.keys.host}
    done = subprocess.run(["sh", "-c", command], env=settings, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_the_agent_of_the_readme_ships() -> None:
    assert (ROOT / "agents/refund_clerk.py").read_text().endswith(CLERK_FILE)


def test_the_agent_of_the_readme_waits_and_goes_on(site: Site) -> None:
    run_id = run(site, ASK)["id"]
    wait_until(lambda: site.get(run_id)["status"] == "requires_action", "it waits")
    look = LOOK.replace("run_...", run_id)
    [action] = run(site, look)["required_action"]
    assert (action["name"], json.loads(action["arguments"])) == ("refund", {"order": "A-1002", "euros": 120})
    answered = run(site, APPROVE.replace("run_...", run_id).replace("call_...", action["id"]))
    assert answered["answer"]["type"] == "approved"
    site.outcome(run_id)
    # What the README says.
    assert f"`output_text` is `{run(site, look)['output_text']}`" in " ".join(CLERK.split())


def test_the_other_agent_runs_with_both_of_its_tools(site: Site) -> None:
    agents = {each["name"]: each for each in site.api("GET", "agents").body["data"]}
    assert agents["log_reviewer"]["ready"]
    assert agents["log_reviewer"]["missing_settings"] == []
    started = run(site, START)
    assert started["status"] in {"queued", "in_progress"}
    site.outcome(started["id"])
    ended = run(site, READ.replace("run_...", started["id"]))
    assert (ended["status"], ended["error"]) == ("completed", None)
    assert [(call["name"], call["status"]) for call in ended["tool_calls"]] == [
        ("read_log", "failed"),
        ("find_incidents", "completed"),
        ("read_log", "completed"),
    ]
    # What the page says.
    assert f"`output_parsed` is `{json.dumps(ended['output_parsed'])}`" in " ".join(SECTION.split())


def test_the_model_sees_what_its_tools_returned(site: Site) -> None:
    run_id = run(site, START)["id"]
    site.outcome(run_id)
    outputs = [event["output"] for event in site.events(run_id) if event["type"] == "tool.completed"]
    [refusal] = [output for output in outputs if "error" in output]
    assert json.loads(refusal)["error"] == {
        "code": "tool_error",
        "message": "There is no log 'shp'; there are: mail, shop.",
    }
    [log] = [output for output in outputs if output.startswith("1: ")]
    answer = json.loads(site.get(run_id)["output_text"])
    assert f"\n{answer['line']}: 2026-03-02T09:02:10Z ERROR disk   /var is 100% full\n" in log
    [incidents] = [output for output in outputs if output.startswith("[")]
    assert [each["date"] for each in json.loads(incidents)] == ["2025-11-14"]


def test_the_test_of_the_page_on_agents_passes(site: Site) -> None:
    names: dict[str, Any] = {}
    exec(TEST, names)
    [name] = [name for name in names if name.startswith("test_")]
    names[name](own_site=site)


def test_the_site_of_that_test_has_the_agents_of_this_app(own_site: Site) -> None:
    agents = {each["name"]: each["ready"] for each in own_site.api("GET", "agents").body["data"]}
    assert agents.keys() == discover().keys()
    assert all(agents.values())
