"""Two agents at two providers in one app; and providers that change, go, or ignore the background mode."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dev import stack
from tests.e2e.conftest import NewSite
from tests.e2e.site import Site, call, script, wait_until
from tests.support.oracle import TERMINAL

AGENTS = Path(__file__).parent / "two_providers" / "agents"
# A lost response has a grace of a minute.
AFTER_THE_GRACE_SECONDS = 150


@pytest.fixture(scope="module")
def far() -> Iterator[str]:
    """A second emulator."""
    child, base = stack.start_provider("--pace", "0")
    with child:
        yield base


@pytest.fixture
def two(new_site: NewSite, far: str) -> Site:
    made = new_site(AGENTS, FAR_URL=far, FAR_KEY="far-key", FAR_TEAM="blue")
    made.add_host()
    return made


def deploy(site: Site, **changes: str) -> None:
    """Deploy the app again, with other settings."""
    site.changes = {**site.changes, **changes}
    site.crash(0)


def created(base: str) -> int:
    return int(call("GET", f"{base.removesuffix('/v1')}/_emulator/log").body["counters"]["created"])


def seen_by(base: str, response_id: str) -> Any:
    return call("GET", f"{base.removesuffix('/v1')}/_emulator/responses/{response_id}")


def responses_of(site: Site, run_id: str) -> list[str]:
    return [event["response_id"] for event in site.events(run_id) if event["type"] == "turn.started"]


def test_each_agent_runs_at_its_own_provider_and_its_run_is_deleted_there(two: Site, far: str) -> None:
    agents = {agent["name"]: agent for agent in two.api("GET", "agents").body["data"]}
    assert [agents[name]["ready"] for name in ("near", "far", "mover")] == [True, True, True]
    before = created(two.provider), created(far)
    runs = {
        name: two.outcome(two.start(script(turns=[{"text": f"from {name}"}]), agent=name))
        for name in ("near", "far")
    }
    assert {name: run["output_text"] for name, run in runs.items()} == {
        "near": "from near",
        "far": "from far",
    }
    assert (created(two.provider), created(far)) == (before[0] + 1, before[1] + 1)
    [response_id] = responses_of(two, runs["far"]["id"])
    assert (seen_by(far, response_id).status, seen_by(two.provider, response_id).status) == (200, 404)
    assert two.api("DELETE", f"runs/{runs['far']['id']}").status == 204
    wait_until(lambda: seen_by(far, response_id).status == 404, "the response is deleted at its provider")


def test_a_session_that_changes_its_provider_keeps_its_conversation(two: Site, far: str) -> None:
    first = two.outcome(two.start(script(turns=[{"text": "the first answer"}]), agent="mover"))
    deploy(two, MOVED="1")
    session = first["session_id"]
    second = two.outcome(
        two.start(script(turns=[{"text": "the second answer"}]), agent="mover", session_id=session)
    )
    assert second["output_text"] == "the second answer"
    [response_id] = responses_of(two, second["id"])
    seen = seen_by(far, response_id).body
    assert "previous_response_id" not in seen["request"] or seen["request"]["previous_response_id"] is None
    assert "the first answer" in str(seen["request"]["input"])
    third = two.outcome(two.start(script(turns=[{"text": "again"}]), agent="mover", session_id=session))
    [chained] = responses_of(two, third["id"])
    assert seen_by(far, chained).body["request"]["previous_response_id"] == response_id
    # And back.
    deploy(two, MOVED="")
    fourth = two.outcome(two.start(script(turns=[{"text": "back"}]), agent="mover", session_id=session))
    [last] = responses_of(two, fourth["id"])
    request = seen_by(two.provider, last).body["request"]
    assert request.get("previous_response_id") is None
    assert all(text in str(request["input"]) for text in ("the first answer", "the second answer", "again"))


@pytest.mark.timeout(300)
def test_a_run_whose_provider_is_removed_ends_with_a_clear_code(two: Site) -> None:
    run_id = two.start(script(turns=[{"text": "never"}], seconds=600), agent="far")
    wait_until(lambda: two.get(run_id)["status"] == "in_progress", "it is at work")
    deploy(two, FAR_KEY="")
    agents = {agent["name"]: agent for agent in two.api("GET", "agents").body["data"]}
    assert (agents["far"]["ready"], agents["far"]["missing_settings"]) == (False, ["FAR_KEY"])
    assert agents["near"]["ready"]
    refused = two.api("POST", "runs", {"agent": "far", "input": "Go."})
    assert (refused.status, refused.body["code"]) == (409, "agent_not_ready")
    assert "FAR_KEY" in refused.body["detail"]
    # Other providers go on.
    assert two.outcome(two.start(script(turns=[{"text": "here"}]), agent="near"))["status"] == "completed"
    wait_until(
        lambda: (
            (two.get(run_id)["waiting_for"] or {}).get("code") == "provider_gone"
            or two.get(run_id)["status"] in TERMINAL
        ),
        "it waits for its provider",
    )
    wait_until(
        lambda: two.get(run_id)["status"] in TERMINAL, f"{run_id} is terminal", AFTER_THE_GRACE_SECONDS
    )
    ended = two.get(run_id)
    assert (ended["status"], ended["error"]["code"]) == ("failed", "provider_gone")
    assert "far-key" not in str(ended)


def test_a_finished_reply_to_a_create_is_the_answer_when_it_cannot_be_read(two: Site) -> None:
    mark = "foreground-"
    message = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "at once", "annotations": []}],
    }
    finished = {"status": "completed", "output": [message]}
    two.fault(kind="override", operation="create", contains=mark, set=finished)
    two.fault(kind="status", operation="retrieve", status=404, contains=mark)
    run = two.outcome(two.start(mark + script(turns=[{"text": "later"}]), agent="near"))
    assert (run["status"], run["output_text"]) == ("completed", "at once")
    assert two.api("GET", "health").body["background_ignored_on_host"] == 1
    following = two.outcome(
        two.start(script(turns=[{"text": "next"}]), agent="near", session_id=run["session_id"])
    )
    [response_id] = responses_of(two, following["id"])
    assert "at once" in str(two.provider_sees(response_id)["request"]["input"])


def test_a_wrong_setting_of_a_provider_stops_the_start(new_site: NewSite) -> None:
    made = new_site(AGENTS, FAR_URL="far.example", FAR_KEY="far\u00e4key", FAR_TEAM="blue")
    with pytest.raises(Exception) as caught:
        made.add_host()
    text = str(caught.value)
    assert "FAR_URL, as base_url of the provider far, must be an http or https address" in text
    assert "FAR_KEY, as api_key of the provider far, must be" in text
    assert "far\u00e4key" not in text
