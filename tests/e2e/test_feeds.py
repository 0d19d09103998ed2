"""Feeds over real hosts: readers that lose connections at random, killed hosts, broken streams."""

import random
import time
import urllib.request

import pytest

from tests.e2e.readers import PROSE, Client, Readers
from tests.e2e.site import Site, script, tool_call, wait_until
from tests.support.feeds import Reader
from tests.support.oracle import TERMINAL


def follow(site: Site, run_id: str, seed: int = 1) -> Reader:
    client = Client(site, run_id, random.Random(seed))
    client.follow()
    return client.reader


def test_ten_readers_that_lose_connections_get_the_complete_text_although_the_host_is_killed(
    new_site,
) -> None:
    site: Site = new_site()
    site.add_host()
    run_id = site.start(
        script(turns=[{"text": PROSE, "repeat": 300, "seconds": 10, "deltas": 400}]), stream=True
    )
    with Readers(site, run_id) as readers:
        wait_until(lambda: site.get(run_id)["progress"]["characters"] > 0, "a part of the text is written")
        for _ in range(2):
            site.crash(0)
            time.sleep(2)
    run = site.outcome(run_id)
    assert run["status"] == "completed"
    assert run["output_text"] == PROSE * 300
    readers.check(run)


def test_two_hosts_tools_and_streaming_together(new_site) -> None:
    site: Site = new_site()
    site.add_host()
    site.add_host()
    runs = {
        mark: site.start(
            script(
                turns=[
                    {"calls": [tool_call("pay", mark), tool_call("look_up", mark)]},
                    {"text": f"{mark} {PROSE}", "repeat": 20, "seconds": 4, "deltas": 60},
                ]
            ),
            host=n % 2,
            stream=True,
        )
        for n, mark in enumerate(f"s{n}" for n in range(10))
    }
    for run_id in runs.values():
        assert follow(site, run_id).text == site.outcome(run_id)["output_text"]
    assert site.judge(runs, text=f"{{mark}} {PROSE}" * 20) == []


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "stream_refused"},
        {"kind": "stream_ignored", "operation": "create"},
        {"kind": "stream_cut", "after": 5, "inside": "character"},
        {"kind": "stream_stalls", "after": 3},
        {"kind": "stream_doubled"},
        {"kind": "stream_shuffled"},
        {"kind": "stream_gap", "after": 4},
        {"kind": "status", "status": 503, "times": 4},
    ],
    ids=lambda fault: fault["kind"],
)
def test_a_faulty_stream_loses_no_character(site: Site, fault) -> None:
    mark = f"f-{fault['kind']}"
    site.fault(**{"operation": "retrieve", "times": 1000} | fault | {"contains": mark})
    run_id = site.start(
        script(turns=[{"text": f"{mark} {PROSE}", "repeat": 30, "seconds": 3, "deltas": 40}]), stream=True
    )
    run = site.outcome(run_id)
    assert (run["status"], run["output_text"]) == ("completed", f"{mark} {PROSE}" * 30)
    reader = follow(site, run_id)
    assert reader.text == run["output_text"]


def test_an_event_source_is_told_when_to_stop(site: Site) -> None:
    run_id = site.start(script(turns=[{"text": PROSE, "seconds": 1}]), stream=True)
    wait_until(lambda: site.get(run_id)["status"] in TERMINAL, "it has ended")
    url = f"{site.bases[0]}/api/runs/{run_id}/events"
    headers = {"x-functions-key": site.keys.host, "Accept": "text/event-stream"}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as reply:
        assert reply.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        blocks = reply.read().decode().split("\n\n")
    assert blocks[0].startswith("retry: ")
    last = blocks[-2].splitlines()
    assert last[1] == "event: run.completed"
    number = last[0].removeprefix("id: ")
    with urllib.request.urlopen(
        urllib.request.Request(url, headers=headers | {"Last-Event-ID": number})
    ) as reply:
        assert (reply.status, reply.read()) == (204, b"")
