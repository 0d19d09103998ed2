"""Runs at a provider without background mode, in the complete app: workers hold the streams, and die."""

from pathlib import Path

import pytest

from tests.e2e.conftest import NewSite
from tests.e2e.site import Site, script, wait_until

AGENTS = Path(__file__).parent / "chat_agents" / "agents"
TEXT = "".join(
    f"Sentence {n}: the ice sang, \u00e4\u00f6\u00fc \u6f22\u5b57 \U0001f680.\n" for n in range(120)
)


@pytest.fixture
def site(new_site: NewSite) -> Site:
    made = new_site(AGENTS, CHAT_KEY="chat-key")
    made.changes = {**made.changes, "CHAT_URL": made.provider}
    made.add_host()
    return made


def text_of_feed(site: Site, run_id: str) -> str:
    text = ""
    for event in site.events(run_id):
        if event["type"] == "text.delta":
            text += event["text"]
        elif event["type"] == "text.replaced":
            text = event["text"]
    return text


def test_a_run_with_a_tool(site: Site) -> None:
    turns = [{"calls": [{"name": "pay", "arguments": {"mark": "m1"}}]}, {"text": "done"}]
    run = site.outcome(site.start(script(turns=turns), agent="chatting"))
    assert (run["status"], run["output_text"], run["turn"]) == ("completed", "done", 2)
    assert site.traces() == {"m1": 1}
    assert text_of_feed(site, run["id"]) == "done"


@pytest.mark.parametrize("agent", ["chatting", "restarting"])
def test_the_text_is_complete_although_the_host_is_killed(site: Site, agent: str) -> None:
    run_id = site.start(script(turns=[{"text": TEXT, "seconds": 10}]), agent=agent)
    wait_until(lambda: (site.get(run_id)["progress"] or {}).get("characters", 0) > 500, "text is stored")
    site.crash(0)
    run = site.outcome(run_id)
    assert (run["status"], run["output_text"]) == ("completed", TEXT)
    assert text_of_feed(site, run_id) == TEXT
    joined = [event for event in site.events(run_id) if event["type"] == "turn.joined"]
    assert [event["join"] for event in joined] == (["exact"] if agent == "chatting" else [])


def test_a_cancellation_ends_the_stream(site: Site) -> None:
    run_id = site.start(script(turns=[{"text": TEXT, "seconds": 60}]), agent="chatting")
    wait_until(lambda: (site.get(run_id)["progress"] or {}).get("characters", 0) > 0, "text is stored")
    assert site.api("POST", f"runs/{run_id}/cancel").status == 202
    assert site.outcome(run_id)["status"] == "cancelled"


def test_twelve_streams_keep_no_tool_and_no_cancellation_waiting(site: Site) -> None:
    streams = [
        site.start(script(turns=[{"text": TEXT, "seconds": 120}]), agent="chatting") for _ in range(12)
    ]
    for run_id in streams:
        wait_until(lambda run_id=run_id: site.get(run_id)["progress"]["characters"] > 0, f"{run_id} streams")
    turns = [{"calls": [{"name": "pay", "arguments": {"mark": "beside"}}]}, {"text": "done"}]
    run = site.outcome(site.start(script(turns=turns), agent="plain"))
    assert (run["status"], site.traces()) == ("completed", {"beside": 1})
    # All of them still stream: the tool did not wait for any.
    assert [site.get(run_id)["status"] for run_id in streams] == ["in_progress"] * 12
    for run_id in streams:
        site.api("POST", f"runs/{run_id}/cancel")
    for run_id in streams:
        assert site.outcome(run_id)["status"] == "cancelled"
