"""Runs that write as a small model does, at llama.cpp's own server or behind a gateway, and hosts killed meanwhile."""

from typing import Any

from tests.e2e.site import Site, wait_until
from tests.support.oracle import TERMINAL

NOVEL = "Write a novel about astronauts exploring an unknown galaxy, in three chapters."
# As long as the context, for machines on which the model has written the other one before its host was killed twice.
LONG_NOVEL = "Write a novel about astronauts exploring an unknown galaxy, in ten chapters."
SHORT = "Describe a cold moon."
# The model needs seconds on a machine of its own, and minutes on one that other work keeps busy.
PATIENCE_SECONDS = 300


def outcome(site: Site, run_id: str) -> Any:
    """Return a run once it is terminal."""
    wait_until(lambda: has_ended(site, run_id), f"{run_id} is terminal", PATIENCE_SECONDS)
    return site.get(run_id)


def has_ended(site: Site, run_id: str) -> bool:
    return site.get(run_id)["status"] in TERMINAL


def characters(site: Site, run_id: str) -> int:
    """Return how much of the text is stored while it is written."""
    return int((site.get(run_id)["progress"] or {}).get("characters", 0))


def wait_for_more(site: Site, run_id: str, stored: int) -> int | None:
    """Wait until more of a text is stored, and return how much. None: the run ended before that."""
    wait_until(
        lambda: has_ended(site, run_id) or characters(site, run_id) > stored,
        "more is stored",
        PATIENCE_SECONDS,
    )
    return None if has_ended(site, run_id) else characters(site, run_id)


def started_and_killed(site: Site, text: str, kills: int = 2) -> str | None:
    """Start a run, and kill the host each time that more of its text is stored. None: the run was too fast for that."""
    run_id, stored = site.start(text, agent="chatting"), 0
    for _ in range(kills):
        wait_for_more(site, run_id, stored)
        site.crash(0)
        if has_ended(site, run_id):
            return None
        stored = characters(site, run_id)
    return run_id


def text_of_feed(site: Site, run_id: str) -> str:
    events = site.events(run_id)
    assert "text.replaced" not in {event["type"] for event in events}
    return "".join(event["text"] for event in events if event["type"] == "text.delta")


def check_two_kills(site: Site) -> None:
    """A run that is killed twice has the undisturbed text."""
    text = NOVEL
    if (run_id := started_and_killed(site, text)) is None:
        text = LONG_NOVEL
        run_id = started_and_killed(site, text)
    assert run_id
    run = outcome(site, run_id)
    undisturbed = outcome(site, site.start(text, agent="chatting"))
    assert undisturbed["joins"] == {"exact": 0, "best_effort": 0}
    assert run["status"] == undisturbed["status"]
    joined = [event for event in site.events(run_id) if event["type"] == "turn.joined"]
    assert [event["join"] for event in joined] == ["exact", "exact"]
    assert run["joins"] == {"exact": 2, "best_effort": 0}
    assert run["output_text"] == undisturbed["output_text"]
    assert text_of_feed(site, run_id) == run["output_text"]


def check_kept_answer(site: Site, agent: str, status: str = "completed") -> None:
    """An answer of 24 tokens that comes with the reply to a create is kept, and so is its conversation."""
    run = outcome(site, site.start(SHORT, agent=agent))
    assert (run["status"], run["error"]) == (status, None)
    assert run["output_text"].strip()
    assert text_of_feed(site, run["id"]) == run["output_text"]
    assert run["usage"]["output_tokens"] == 24
    assert site.api("GET", "health").body["background_ignored_on_host"] == 1
    # Such a service continues no response, and gets the complete conversation.
    following = outcome(site, site.start("Go on.", agent=agent, session_id=run["session_id"]))
    assert (following["status"], following["error"]) == (status, None)
    assert following["usage"]["input_tokens"] > run["usage"]["input_tokens"] + 24
    assert site.api("DELETE", f"runs/{run['id']}").status == 204


def check_streams_that_cannot_be_left(site: Site, *agents: str) -> None:
    """They end together, after a minute in which their responses might still be found."""
    for run_id in [site.start(SHORT, agent=agent, stream=True) for agent in agents]:
        run = outcome(site, run_id)
        assert (run["status"], run["error"]["code"]) == ("failed", "background_unsupported")
        assert "declare it as ChatCompletions" in run["error"]["message"]


def check_too_long(site: Site, agent: str) -> None:
    """An answer that lasts longer than the time limit of a create ends with what to declare. The limit is a second."""
    run = outcome(site, site.start(NOVEL, agent=agent))
    assert (run["status"], run["error"]["code"]) == ("failed", "background_unsupported")
    assert "did not name the response within the time limit, 2 times" in run["error"]["message"]
