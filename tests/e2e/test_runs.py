"""Complete runs through the real app: Microsoft's worker library, Azurite, the provider emulator over HTTP."""

import json

import pytest

from tests.e2e.site import Site, script, tool_call, wait_until


def test_a_run_with_tools_and_two_turns(site: Site) -> None:
    text = script(turns=[{"calls": [tool_call("look_up", "a"), tool_call("pay", "b")]}, {"text": "The end."}])
    started = site.api("POST", "runs", {"agent": "scripted", "input": text, "metadata": {"for": "me"}})
    assert started.status == 202
    assert started.headers["location"] == f"{site.bases[0]}/api/runs/{started.body['id']}"
    assert int(started.headers["retry-after"]) >= 1
    assert site.api("GET", started.headers["location"]).body["id"] == started.body["id"]
    run = site.outcome(started.body["id"])
    assert (run["status"], run["output_text"], run["turn"]) == ("completed", "The end.", 2)
    assert [(call["name"], call["status"]) for call in run["tool_calls"]] == [
        ("look_up", "completed"),
        ("pay", "completed"),
    ]
    assert run["usage"]["total_tokens"] > 0
    assert run["metadata"] == {"for": "me"}
    assert site.traces() == {"a": 1, "b": 1}


def test_the_next_run_of_a_session_continues_its_conversation(site: Site) -> None:
    first = site.outcome(site.start(script(turns=[{"text": "My name is Ada."}])))
    second = site.outcome(site.start(script(turns=[{"text": "It is Ada."}]), session_id=first["session_id"]))
    assert second["status"] == "completed"
    [response] = [one for one in site.provider_log()["requests"] if one["operation"] == "create"][-1:]
    assert "My name is Ada." in json.dumps(site.provider_sees(response["response_id"])["conversation"])
    session = site.api("GET", f"sessions/{first['session_id']}").body
    assert [run["id"] for run in session["runs"]] == [second["id"], first["id"]]
    answers = [
        part["text"]
        for item in session["transcript"]
        if item.get("role") == "assistant"
        for part in item["content"]
    ]
    assert answers == ["My name is Ada.", "It is Ada."]


@pytest.mark.parametrize("chaining", ["previous_response_id", "replay"])
def test_both_ways_of_chaining_send_the_model_the_complete_conversation(new_site, chaining: str) -> None:
    site = new_site(CHAINING=chaining)
    site.add_host()
    turns = [{"calls": [tool_call("look_up", "a")]}, {"calls": [tool_call("pay", "b")]}, {"text": "done"}]
    run = site.outcome(site.start(script(turns=turns)))
    assert (run["status"], run["turn"]) == ("completed", 3)
    again = site.outcome(site.start(script(turns=[{"text": "and again"}]), session_id=run["session_id"]))
    assert again["output_text"] == "and again"
    last = [one for one in site.provider_log()["requests"] if one["operation"] == "create"][-1]["response_id"]
    seen = site.provider_sees(last)
    assert ("previous_response_id" in seen["request"] and bool(seen["request"]["previous_response_id"])) == (
        chaining == "previous_response_id"
    )
    conversation = json.dumps(seen["conversation"])
    for text in ("found a", "paid b", "done"):
        assert text in conversation


def test_a_refused_chain_is_replayed(site: Site) -> None:
    site.fault(kind="azure_chaining_400", operation="create", contains="azure-quirk")
    text = "azure-quirk " + script(turns=[{"calls": [tool_call("pay", "q")]}, {"text": "done"}])
    run = site.outcome(site.start(text))
    assert (run["status"], run["output_text"]) == ("completed", "done")
    assert site.traces() == {"q": 1}


def test_a_forgotten_previous_response_is_replayed(site: Site) -> None:
    first = site.outcome(site.start(script(turns=[{"text": "Remember the blue door."}])))
    created = [one for one in site.provider_log()["requests"] if one["operation"] == "create"][-1][
        "response_id"
    ]
    site.fault(kind="forget", operation="create", response_id=created)
    run = site.outcome(
        site.start(script(turns=[{"text": "The door was blue."}]), session_id=first["session_id"])
    )
    assert run["output_text"] == "The door was blue."


@pytest.mark.parametrize(
    "text",
    [
        "漢字 かな 한글 \U0001f600\U0001f469‍\U0001f680 \x00 \x1f \u2028 \ufffe",
        "\ud800 lone \udc00",
        "x" * 5_000_000,
    ],
    ids=["odd characters", "lone surrogates", "5 MB"],
)
def test_text_comes_back_unchanged(site: Site, text: str) -> None:
    expected = text.replace("\ud800", "\ufffd").replace("\udc00", "\ufffd")
    if len(text) > 1000:
        body = script(turns=[{"text": "0123456789", "repeat": 500_000}])
        expected = "0123456789" * 500_000
    else:
        # The emulator decodes the script itself, so the text is sent with JSON escapes within a string.
        body = script(turns=[{"text": text}])
    run = site.outcome(site.start(body))
    assert run["status"] == "completed"
    assert run["output_text"] == expected
    assert run["output"][-1]["content"][0]["text"] == expected
    session = site.api("GET", f"sessions/{run['session_id']}").body
    assert session["transcript"][-1]["content"][0]["text"] == expected


def test_cancel_reaches_the_provider(site: Site) -> None:
    run_id = site.start(script(turns=[{"text": "never"}], seconds=60))
    cancelled = site.api("POST", f"runs/{run_id}/cancel")
    assert cancelled.status in {200, 202}
    assert site.outcome(run_id)["status"] == "cancelled"
    assert site.api("POST", f"runs/{run_id}/cancel").status == 200


def test_a_deadline_ends_the_run(site: Site) -> None:
    run_id = site.start(script(turns=[{"text": "never"}], seconds=60), deadline_seconds=10)
    run = site.outcome(run_id)
    assert run["status"] == "expired"
    assert run["output_text"] == ""


def test_delete_leaves_nothing_here_or_at_the_provider(site: Site) -> None:
    run = site.outcome(site.start(script(turns=[{"text": "secret"}])))
    response = [one for one in site.provider_log()["requests"] if one["operation"] == "create"][-1][
        "response_id"
    ]
    assert site.api("DELETE", f"runs/{run['id']}").status == 204
    assert site.api("GET", f"runs/{run['id']}").status == 404
    assert site.api("DELETE", f"runs/{run['id']}").status == 404
    wait_until(
        lambda: any(
            one["operation"] == "delete" and one["response_id"] == response
            for one in site.provider_log()["requests"]
        ),
        "the response is deleted at the provider",
    )


def test_a_run_ends_after_its_most_turns(site: Site) -> None:
    run = site.outcome(site.start(script(turns=[{"calls": [tool_call("look_up", "again")]}], loop=True)))
    assert (run["status"], run["incomplete_details"], run["turn"]) == (
        "incomplete",
        {"reason": "max_turns"},
        4,
    )


def test_an_invalid_tool_call_fails_and_the_run_goes_on(site: Site) -> None:
    calls = [
        {"name": "no_such_tool", "arguments": "{}"},
        {"name": "pay", "arguments": "not json"},
        {"name": "pay", "arguments": {"mark": 1}},
    ]
    run = site.outcome(site.start(script(turns=[{"calls": calls}, {"text": "sorry"}])))
    assert (run["status"], run["output_text"]) == ("completed", "sorry")
    assert {call["status"] for call in run["tool_calls"]} == {"failed"}
    assert site.traces() == {}
