"""Several hosts, killed hosts, slow tools: nothing is lost, repeated or delayed."""

from tests.e2e.site import Site, both_tools, script, tool_call, wait_until


def marks(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{n}" for n in range(count)]


def test_two_hosts_run_each_tool_once_and_lose_nothing(new_site) -> None:
    site: Site = new_site()
    site.add_host()
    site.add_host()
    runs = {mark: site.start(both_tools(mark), host=n % 2) for n, mark in enumerate(marks("m", 20))}
    for run_id in runs.values():
        site.outcome(run_id)
    assert site.judge(runs) == []


def test_a_killed_host_loses_nothing_and_pays_nothing_twice(new_site) -> None:
    site: Site = new_site()
    site.add_host()
    runs = {mark: site.start(both_tools(mark, seconds=3)) for mark in marks("k", 6)}
    wait_until(lambda: bool(site.traces()), "a tool is at work")
    site.crash(0)
    outcomes = [site.outcome(run_id) for run_id in runs.values()]
    assert site.judge(runs, interrupted=None) == []
    assert "unknown" in {call["status"] for run in outcomes for call in run["tool_calls"]}


def test_a_slow_tool_does_not_delay_another_runs_poll(site: Site) -> None:
    slow = site.start(script(turns=[{"calls": [tool_call("pay", "slow", 18)]}, {"text": "late"}]))
    wait_until(lambda: site.traces()["slow"] == 1, "the slow tool is at work")
    quick = site.outcome(site.start(script(turns=[{"text": "quick"}])))
    assert quick["status"] == "completed"
    # The slow tool has not ended, so the quick run did not wait for it.
    assert site.get(slow)["tool_calls"][0]["status"] == "in_progress"


def test_a_restarted_host_continues_the_run(site: Site) -> None:
    run_id = site.start(script(turns=[{"text": "complete text " * 100}], seconds=4))
    wait_until(lambda: site.get(run_id)["status"] == "in_progress", "the run is in progress")
    site.crash(0)
    assert site.get(run_id)["status"] in {"in_progress", "completed"}
    run = site.outcome(run_id)
    assert run["output_text"] == "complete text " * 100
    creates = [
        one for one in site.provider_log()["requests"] if one["operation"] == "create" and one["response_id"]
    ]
    assert len({one["response_id"] for one in creates}) == len(creates)


def test_an_idempotent_start_can_be_repeated_at_another_host_after_a_crash(new_site) -> None:
    site: Site = new_site()
    site.add_host()
    body = {"agent": "scripted", "input": script(turns=[{"text": "once"}])}
    first = site.api("POST", "runs", body, Idempotency_Key="order-7")
    site.crash(0)
    again = site.api("POST", "runs", body, Idempotency_Key="order-7")
    assert again.body["id"] == first.body["id"]
    assert site.outcome(first.body["id"])["output_text"] == "once"


def test_polls_are_shared_by_a_fanned_out_queue(new_site) -> None:
    site: Site = new_site(POLL_FANOUT="on")
    site.add_host()
    runs = [site.start(script(turns=[{"text": str(n)}])) for n in range(5)]
    assert [site.outcome(run_id)["output_text"] for run_id in runs] == [str(n) for n in range(5)]
