"""Leases of hosts that are busy, stand still or die. Host 1 has the work, and host 0 is the one that may take it up."""

import time

from tests.e2e.site import Site, both_tools, script, tool_call, wait_until

# Longer than a lease, so that it has to be renewed.
LONG_SECONDS = 20
# So long after a death each run is taken up again: the rest of a lease, and a tick. The rest is for a busy machine.
TAKEN_UP_SECONDS = 15 + 1 + 9


def two_hosts(new_site, **settings: str) -> Site:
    site: Site = new_site(**settings)
    site.add_host()
    site.add_host()
    return site


def test_a_tool_that_blocks_its_host_keeps_all_leases_of_this_host(new_site) -> None:
    site = two_hosts(new_site)
    runs = {}
    with site.standing_still(0):
        # The second one blocks the host when the first one is at work.
        for tool in ("occupy", "block"):
            turns = [{"calls": [tool_call(tool, tool, LONG_SECONDS)]}, {"text": tool}]
            runs[tool] = site.start(script(turns=turns), agent="blocking", host=1)
            wait_until(lambda tool=tool: site.traces()[tool] == 1, f"{tool} is at work")
    # Host 0 ticks from here on, and does not take the runs up.
    outcomes = {tool: site.outcome(run_id) for tool, run_id in runs.items()}
    assert {tool: [call["status"] for call in run["tool_calls"]] for tool, run in outcomes.items()} == {
        "occupy": ["completed"],
        "block": ["completed"],
    }
    assert {tool: run["output_text"] for tool, run in outcomes.items()} == {
        "occupy": "occupy",
        "block": "block",
    }
    assert site.traces() == {"occupy": 1, "block": 1}


def test_a_host_that_stands_still_is_replaced_and_then_does_nothing_more(new_site) -> None:
    site = two_hosts(new_site)
    with site.standing_still(0):
        run_id = site.start(both_tools("still", seconds=5), host=1)
        wait_until(lambda: site.traces()["still"] == 2, "both tools are at work")
    with site.standing_still(1):
        began = time.monotonic()
        wait_until(lambda: site.traces()["still"] == 3, "the tool that may be repeated is at work again")
        assert time.monotonic() - began < TAKEN_UP_SECONDS
    # Its tools have ended meanwhile, and it tries to save their results while the other host is at work. A host that is
    # stopped first ends its work.
    site.hosts[1].stop()
    run = site.outcome(run_id)
    assert {call["name"]: call["status"] for call in run["tool_calls"]} == {
        "pay": "unknown",
        "look_up": "completed",
    }
    assert site.traces() == {"still": 3}
    assert site.judge({"still": run_id}, interrupted=None) == []


def test_a_slow_create_whose_host_is_killed_is_taken_up_again(new_site) -> None:
    # The create must not be given up before the kill.
    site = two_hosts(new_site, PROVIDER_CREATE_TIMEOUT_SECONDS="30")
    with site.honouring_keys():
        before = site.provider_log()["counters"]["created"]
        site.fault(kind="slow", operation="create", contains="slow-create", nth=2, seconds=10)
        with site.standing_still(0):
            text = script(turns=[{"calls": [tool_call("pay", "slow")]}, {"text": "slow"}])
            run_id = site.start(f"slow-create {text}", host=1)
            wait_until(lambda: "slow" in under_way(site), "the create is under way")
            site.hosts[1].kill()
        began, creates = time.monotonic(), site.provider_log()["counters"]["create"]
        wait_until(lambda: site.provider_log()["counters"]["create"] > creates, "the create is repeated")
        assert time.monotonic() - began < TAKEN_UP_SECONDS
        run = site.outcome(run_id)
        assert (run["status"], run["output_text"]) == ("completed", "slow")
        assert [call["status"] for call in run["tool_calls"]] == ["completed"]
        assert site.traces() == {"slow": 1}
        assert site.provider_log()["counters"]["created"] == before + 2


def under_way(site: Site) -> list[str | None]:
    """Return the faults of the requests that the provider has not answered."""
    return [one["fault"] for one in site.provider_log()["requests"] if one["seconds"] is None]
