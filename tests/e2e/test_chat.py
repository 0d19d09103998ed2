"""Runs at a provider without background mode, in the complete app: workers hold the streams, and die."""

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import NewSite
from tests.e2e.readers import PROSE, Readers
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


@pytest.mark.timeout(240)
@pytest.mark.parametrize("agent", ["chatting", "restarting"])
def test_ten_readers_that_lose_connections_get_the_complete_text_although_the_host_is_killed(
    site: Site, agent: str
) -> None:
    turn = {"text": PROSE, "repeat": 300, "seconds": 8, "deltas": 400}
    run_id = site.start(script(turns=[turn]), agent=agent)
    with Readers(site, run_id) as readers:
        for _ in range(2):
            wait_until(
                lambda: (site.get(run_id)["progress"] or {}).get("characters", 0) > 500, "text is stored"
            )
            site.crash(0)
    run = site.outcome(run_id)
    assert (run["status"], run["output_text"]) == ("completed", PROSE * 300)
    readers.check(run)


def test_a_session_that_changes_to_chat_completions_and_back_keeps_its_conversation(site: Site) -> None:
    image = "data:image/png;base64,iVBORw0KGgo="

    def turns(mark: str) -> list[Any]:
        call = {"name": "pay", "arguments": {"mark": mark}, "call_id": f"call_{mark}"}
        content = [
            {"type": "input_text", "text": script(turns=[{"calls": [call]}, {"text": f"answer {mark}"}])},
            {"type": "input_image", "image_url": image},
        ]
        return [{"role": "user", "content": content}]

    first = site.outcome(site.start(turns("moved-1"), agent="mover"))
    session = first["session_id"]
    site.changes = {**site.changes, "MOVED": "1"}
    site.crash(0)
    second = site.outcome(site.start(turns("moved-2"), agent="mover", session_id=session))
    assert [run["output_text"] for run in (first, second)] == ["answer moved-1", "answer moved-2"]
    calling, answering = site.chats("moved-2")
    assert roles(calling) == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert roles(answering) == [*roles(calling), "assistant", "tool"]
    for message in (calling["messages"][1], calling["messages"][5]):
        assert message["content"][1] == {"type": "image_url", "image_url": {"url": image}}
    assert calling["messages"][2]["tool_calls"][0]["function"]["name"] == "pay"
    assert calling["messages"][3]["content"] == "paid moved-1"
    assert calling["messages"][4]["content"] == "answer moved-1"
    assert answering["messages"][7]["content"] == "paid moved-2"
    # And back.
    site.changes = {**site.changes, "MOVED": ""}
    site.crash(0)
    third = site.outcome(site.start(turns("moved-3"), agent="mover", session_id=session))
    assert third["output_text"] == "answer moved-3"
    begun = [event for event in site.events(third["id"]) if event["type"] == "turn.started"]
    request = site.provider_sees(begun[0]["response_id"])["request"]
    assert request.get("previous_response_id") is None
    sent = request["input"]
    texts = str(sent)
    assert all(f"{what} moved-{n}" in texts for what in ("answer", "paid") for n in (1, 2))
    assert texts.count(image) == 3
    assert [item["type"] for item in sent if "call_id" in item] == [
        "function_call",
        "function_call_output",
    ] * 2
    assert site.traces() == {"moved-1": 1, "moved-2": 1, "moved-3": 1}


def roles(request: Any) -> list[str]:
    return [message["role"] for message in request["messages"]]


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "stream_cut"},
        {"kind": "stream_cut", "inside": "character"},
        {"kind": "chat_no_end"},
        {"kind": "chat_error"},
        {"kind": "chat_error", "inside": "choices"},
        {"kind": "status", "status": 503, "after": 0},
    ],
    ids=lambda fault: "-".join(str(value) for value in fault.values()),
)
def test_a_stream_that_breaks_is_taken_up_again(site: Site, fault: dict[str, Any]) -> None:
    mark = "-".join(map(str, fault.values()))
    site.fault(**{"operation": "chat", "times": 2, "after": 30} | fault | {"contains": mark})
    run_id = site.start(script(turns=[{"text": f"{mark} {TEXT}", "deltas": 120}]), agent="chatting")
    run = site.outcome(run_id)
    assert (run["status"], run["output_text"]) == ("completed", f"{mark} {TEXT}")
    assert text_of_feed(site, run_id) == run["output_text"]
    assert len(site.chats(mark)) == 3 - 2 * (fault["kind"] == "status")


@pytest.mark.parametrize("ends", ["expired", "cancelled"])
def test_a_stream_that_brings_nothing_holds_up_no_end(site: Site, ends: str) -> None:
    mark = f"stalled-{ends}"
    site.fault(kind="stream_stalls", operation="chat", times=0, after=30, contains=mark)
    text = script(turns=[{"text": f"{mark} {TEXT}", "deltas": 120}])
    run_id = site.start(text, agent="chatting", deadline_seconds=8 if ends == "expired" else 200)
    wait_until(lambda: site.get(run_id)["status"] == "in_progress", "it is at work")
    if ends == "cancelled":
        assert site.api("POST", f"runs/{run_id}/cancel").status == 202
    assert site.outcome(run_id)["status"] == ends


def test_a_file_is_refused_by_its_name(site: Site) -> None:
    file = {"type": "input_file", "filename": "plan.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}
    run = site.outcome(site.start([{"role": "user", "content": [file]}], agent="chatting"))
    assert (run["status"], run["error"]["code"]) == ("failed", "input_not_sendable")
    assert "The file (input_file) in the user's message at position 0" in run["error"]["message"]
    assert not site.chats("plan.pdf")


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
