"""Runs at a real gateway: LiteLLM's proxy, in front of llama.cpp's own server and of the emulator."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.litellm_proxy import KEY, LiteLLMMissingError, Proxy, Route, program
from tests.e2e import novels
from tests.e2e.conftest import NewSite
from tests.e2e.site import Site, script, wait_until

AGENTS = Path(__file__).parent / "litellm_agents" / "agents"

# One model is enough for the machine.
pytestmark = [pytest.mark.xdist_group("llamacpp"), pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def installed() -> None:
    try:
        program()
    except LiteLLMMissingError as missing:
        pytest.skip(f"not installed, so nothing was run at LiteLLM: {missing}")


@pytest.fixture(scope="module")
def proxy(
    installed: None, llamacpp: str, provider: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    routes = [
        Route("small", llamacpp),
        Route("bridged", llamacpp, bridged=True),
        Route("emulated", provider, key="local"),
    ]
    running = Proxy(tmp_path_factory.mktemp("litellm"), routes)
    yield running
    running.stop()


def deploy(new_site: NewSite, proxy: Proxy, **settings: str) -> Site:
    site = new_site(AGENTS, **{"LITELLM_URL": proxy.base, "LITELLM_KEY": KEY, **settings})
    site.add_host()
    return site


def test_a_chat_that_is_killed_twice_has_the_undisturbed_text(new_site: NewSite, proxy: Proxy) -> None:
    novels.check_two_kills(deploy(new_site, proxy))


def test_a_chat_goes_on_when_the_proxy_was_killed(new_site: NewSite, proxy: Proxy) -> None:
    site = deploy(new_site, proxy)
    for text in (novels.NOVEL, novels.LONG_NOVEL):
        run_id = site.start(text, agent="chatting")
        if novels.wait_for_more(site, run_id, 0) is not None:
            break
    proxy.kill()
    proxy.restart()
    run = novels.outcome(site, run_id)
    undisturbed = novels.outcome(site, site.start(text, agent="chatting"))
    assert run["joins"] == {"exact": 1, "best_effort": 0}
    assert (run["status"], run["error"]) == (undisturbed["status"], None)
    assert run["output_text"] == undisturbed["output_text"]
    assert novels.text_of_feed(site, run_id) == run["output_text"]


def test_a_chat_calls_a_tool(new_site: NewSite, proxy: Proxy) -> None:
    site = deploy(new_site, proxy)
    run = site.outcome(site.start(calls_and_writes("m1"), agent="calling"))
    assert (run["status"], run["output_text"], run["turn"]) == ("completed", "done", 2)
    assert site.traces() == {"m1": 1}
    assert run["usage"]["output_tokens"] > 0


@pytest.mark.parametrize(("agent", "status"), [("short", "completed"), ("short_bridged", "incomplete")])
def test_a_short_answer_of_its_responses_api_is_kept(
    new_site: NewSite, proxy: Proxy, agent: str, status: str
) -> None:
    site = deploy(new_site, proxy, PROVIDER_CREATE_TIMEOUT_SECONDS="100")
    novels.check_kept_answer(site, agent, status)


def test_streams_of_its_responses_api_cannot_be_left(new_site: NewSite, proxy: Proxy) -> None:
    site = deploy(new_site, proxy, PROVIDER_CREATE_TIMEOUT_SECONDS="100")
    novels.check_streams_that_cannot_be_left(site, "long", "long_bridged")


@pytest.mark.parametrize("agent", ["long", "long_bridged"])
def test_a_long_answer_of_its_responses_api_ends_with_what_to_declare(
    new_site: NewSite, proxy: Proxy, agent: str
) -> None:
    novels.check_too_long(deploy(new_site, proxy, PROVIDER_CREATE_TIMEOUT_SECONDS="1"), agent)


@pytest.mark.parametrize("stream", [False, True])
def test_the_background_mode_of_a_service_behind_it_works(
    new_site: NewSite, proxy: Proxy, stream: bool
) -> None:
    site = deploy(new_site, proxy, PROVIDER_CREATE_TIMEOUT_SECONDS="30")
    run_id = site.start(calls_and_writes("m1", seconds=3), agent="polled", stream=stream)
    run = site.outcome(run_id)
    assert (run["status"], run["output_text"], run["turn"]) == ("completed", "done", 2)
    assert site.traces() == {"m1": 1}
    assert site.api("GET", "health").body["background_ignored_on_host"] == 0
    following = site.outcome(site.start("Go on.", agent="polled", session_id=run["session_id"]))
    assert following["status"] == "completed"


def test_a_cancellation_and_a_deletion_reach_the_service_behind_it(new_site: NewSite, proxy: Proxy) -> None:
    site = deploy(new_site, proxy, PROVIDER_CREATE_TIMEOUT_SECONDS="30")
    before = succeeded(site)
    run_id = site.start(script(turns=[{"text": "too late", "seconds": 60}]), agent="polled")
    wait_until(lambda: site.get(run_id)["status"] == "in_progress", "its response is read")
    assert site.api("POST", f"runs/{run_id}/cancel").status in {200, 202}
    assert site.outcome(run_id)["status"] == "cancelled"
    assert (succeeded(site) - before)["cancel"] == 1
    assert site.api("DELETE", f"runs/{run_id}").status == 204
    wait_until(lambda: (succeeded(site) - before)["delete"] == 1, "its response is deleted")


@pytest.mark.parametrize("agent", ["chatting", "short"])
def test_a_wrong_key_ends_the_run_and_is_shown_nowhere(new_site: NewSite, proxy: Proxy, agent: str) -> None:
    wrong = "sk-that-the-proxy-does-not-know"
    site = deploy(new_site, proxy, LITELLM_KEY=wrong, PROVIDER_CREATE_TIMEOUT_SECONDS="30")
    run_id = site.start(novels.SHORT, agent=agent)
    run = site.outcome(run_id)
    assert (run["status"], run["error"]["code"]) == ("failed", "provider_denied")
    for shown in (json.dumps(run), json.dumps(site.events(run_id)), site.hosts[0].output, proxy.log):
        assert wrong not in shown


def test_it_fetches_nothing(proxy: Proxy) -> None:
    lines = proxy.log.splitlines()
    assert [line for line in lines if "fetch" in line.lower()] == []


def succeeded(site: Site) -> Counter[str]:
    """Return how many requests of each kind the emulator has carried out."""
    return Counter(each["operation"] for each in site.provider_log()["requests"] if each["status"] == 200)


def calls_and_writes(mark: str, seconds: float = 0) -> str:
    """Return the input of a run that calls a tool and then writes."""
    call = {"name": "pay", "arguments": {"mark": mark}}
    return script(turns=[{"calls": [call]}, {"text": "done", "seconds": seconds}])
