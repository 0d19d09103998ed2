"""Runs at a real provider that keeps nothing: llama.cpp's own server, with a small model on this machine."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dev import stack
from dev.provider.model import ModelMissingError, model_file
from shared.adapters.chat_api.body import Resume
from shared.adapters.chat_api.provider import ChatCompletionsProvider, Dialect
from shared.adapters.http.access import Connection
from shared.ports.chat import ChatEnd, ChatRequest, ChatText
from tests.e2e.conftest import NewSite
from tests.e2e.site import Site, wait_until
from tests.support.oracle import TERMINAL

AGENTS = Path(__file__).parent / "llamacpp_agents" / "agents"
NOVEL = "Write a novel about astronauts exploring an unknown galaxy, in three chapters."
# As long as the context, for machines on which the model has written the other one before its host was killed twice.
LONG_NOVEL = "Write a novel about astronauts exploring an unknown galaxy, in ten chapters."
# The model needs seconds on a machine of its own, and minutes on one that other work keeps busy.
PATIENCE_SECONDS = 300

# One server is enough for the machine.
pytestmark = [pytest.mark.xdist_group("llamacpp"), pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The base address of llama.cpp's server. Tests that need it are skipped where it is not installed."""
    try:
        model_file()
    except ModelMissingError as missing:
        pytest.skip(f"not installed, so nothing was run at llama.cpp: {missing}")
    child, base = stack.start_model()
    with child:
        yield base


def deploy(new_site: NewSite, server: str, **settings: str) -> Site:
    site = new_site(AGENTS, LLAMACPP_URL=server, **settings)
    site.add_host()
    return site


def outcome(site: Site, run_id: str) -> Any:
    """Return a run once it is terminal."""
    wait_until(lambda: has_ended(site, run_id), f"{run_id} is terminal", PATIENCE_SECONDS)
    return site.get(run_id)


def has_ended(site: Site, run_id: str) -> bool:
    return site.get(run_id)["status"] in TERMINAL


def characters(site: Site, run_id: str) -> int:
    """Return how much of the text is stored while it is written."""
    return int((site.get(run_id)["progress"] or {}).get("characters", 0))


def started_and_killed(site: Site, text: str, kills: int = 2) -> str | None:
    """Start a run, and kill the host each time that more of its text is stored. None: the run was too fast for that."""
    run_id, stored = site.start(text, agent="chatting"), 0
    for _ in range(kills):
        before = stored
        wait_until(
            lambda before=before: has_ended(site, run_id) or characters(site, run_id) > before,
            "more is stored",
            PATIENCE_SECONDS,
        )
        site.crash(0)
        if has_ended(site, run_id):
            return None
        stored = characters(site, run_id)
    return run_id


def text_of_feed(site: Site, run_id: str) -> str:
    events = site.events(run_id)
    assert "text.replaced" not in {event["type"] for event in events}
    return "".join(event["text"] for event in events if event["type"] == "text.delta")


def test_a_run_that_is_killed_twice_has_the_undisturbed_text(new_site: NewSite, server: str) -> None:
    site = deploy(new_site, server)
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


async def test_it_continues_a_text_after_any_word(server: str) -> None:
    provider = ChatCompletionsProvider(
        Connection(base_url=server, open=True), Dialect(resume=Resume.TRAILING)
    )

    async def pieces(prefix: str = "", *, tokens: int) -> list[str]:
        request = ChatRequest(
            run_id="run_1",
            turn=1,
            model="small",
            messages=json.dumps([{"role": "user", "content": NOVEL}]),
            tools="[]",
            options={"temperature": 0, "max_tokens": tokens},
            prefix=prefix,
        )
        events = [event async for event in provider.generate(request)]
        assert isinstance(events[-1], ChatEnd), events[-1]
        return [event.text for event in events if isinstance(event, ChatText)]

    try:
        written = await pieces(tokens=90)
        ends = [n for n in range(5, 75, 6) if not written[n - 1][-1].isspace()]
        assert len(ends) > 6
        for end in ends:
            continued = "".join(await pieces("".join(written[:end]), tokens=10))
            assert continued
            assert "".join(written[end:]).startswith(continued)
    finally:
        await provider.close()


def test_a_short_answer_of_its_responses_api_is_kept(new_site: NewSite, server: str) -> None:
    site = deploy(new_site, server, PROVIDER_CREATE_TIMEOUT_SECONDS="100")
    run = outcome(site, site.start("Describe a cold moon.", agent="short"))
    assert (run["status"], run["error"]) == ("completed", None)
    assert run["output_text"].strip()
    assert text_of_feed(site, run["id"]) == run["output_text"]
    assert run["usage"]["output_tokens"] == 24
    assert site.api("GET", "health").body["background_ignored_on_host"] == 1
    # It refuses `previous_response_id`, and gets the complete conversation.
    following = outcome(site, site.start("Go on.", agent="short", session_id=run["session_id"]))
    assert (following["status"], following["error"]) == ("completed", None)
    assert following["usage"]["input_tokens"] > run["usage"]["input_tokens"] + 24
    assert site.api("DELETE", f"runs/{run['id']}").status == 204


def test_a_stream_of_its_responses_api_cannot_be_left(new_site: NewSite, server: str) -> None:
    site = deploy(new_site, server, PROVIDER_CREATE_TIMEOUT_SECONDS="100")
    run = outcome(site, site.start("Describe a cold moon.", agent="long", stream=True))
    assert (run["status"], run["error"]["code"]) == ("failed", "background_unsupported")
    assert "declare it as ChatCompletions" in run["error"]["message"]


def test_a_long_answer_of_its_responses_api_ends_with_what_to_declare(new_site: NewSite, server: str) -> None:
    site = deploy(new_site, server, PROVIDER_CREATE_TIMEOUT_SECONDS="1")
    run = outcome(site, site.start(NOVEL, agent="long"))
    assert (run["status"], run["error"]["code"]) == ("failed", "background_unsupported")
    assert "did not name the response within the time limit, 2 times" in run["error"]["message"]
