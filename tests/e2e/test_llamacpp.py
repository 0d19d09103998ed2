"""Runs at a real provider that keeps nothing: llama.cpp's own server, with a small model on this machine."""

import json
from pathlib import Path

import pytest

from shared.adapters.chat_api.body import Resume
from shared.adapters.chat_api.provider import ChatCompletionsProvider, Dialect
from shared.adapters.http.access import Connection
from shared.ports.chat import ChatEnd, ChatRequest, ChatText
from tests.e2e import novels
from tests.e2e.conftest import NewSite
from tests.e2e.site import Site

AGENTS = Path(__file__).parent / "llamacpp_agents" / "agents"

# One server is enough for the machine.
pytestmark = [pytest.mark.xdist_group("llamacpp"), pytest.mark.timeout(900)]


def deploy(new_site: NewSite, llamacpp: str, **settings: str) -> Site:
    site = new_site(AGENTS, LLAMACPP_URL=llamacpp, **settings)
    site.add_host()
    return site


def test_a_run_that_is_killed_twice_has_the_undisturbed_text(new_site: NewSite, llamacpp: str) -> None:
    novels.check_two_kills(deploy(new_site, llamacpp))


async def test_it_continues_a_text_after_any_word(llamacpp: str) -> None:
    provider = ChatCompletionsProvider(
        Connection(base_url=llamacpp, open=True), Dialect(resume=Resume.TRAILING)
    )

    async def pieces(prefix: str = "", *, tokens: int) -> list[str]:
        request = ChatRequest(
            run_id="run_1",
            turn=1,
            model="small",
            messages=json.dumps([{"role": "user", "content": novels.NOVEL}]),
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


def test_a_short_answer_of_its_responses_api_is_kept(new_site: NewSite, llamacpp: str) -> None:
    novels.check_kept_answer(deploy(new_site, llamacpp, PROVIDER_CREATE_TIMEOUT_SECONDS="100"), "short")


def test_a_stream_of_its_responses_api_cannot_be_left(new_site: NewSite, llamacpp: str) -> None:
    site = deploy(new_site, llamacpp, PROVIDER_CREATE_TIMEOUT_SECONDS="100")
    novels.check_streams_that_cannot_be_left(site, "long")


def test_a_long_answer_of_its_responses_api_ends_with_what_to_declare(
    new_site: NewSite, llamacpp: str
) -> None:
    novels.check_too_long(deploy(new_site, llamacpp, PROVIDER_CREATE_TIMEOUT_SECONDS="1"), "long")
