"""A storage account without tables and queues: reads find it empty, and the first start creates what it needs."""

from tests.e2e.site import Site, script

# The first of January, at midnight: no tick creates the tables.
NO_TICKS = "0 0 0 1 1 *"
RUN, SESSION = (f"{kind}_00{'0' * 26}" for kind in ("run", "ses"))
STATUSES = {
    ("GET", "runs"): 200,
    ("GET", "health"): 200,
    ("GET", f"runs/{RUN}"): 404,
    ("GET", f"runs/{RUN}/events"): 404,
    ("POST", f"runs/{RUN}/cancel"): 404,
    ("DELETE", f"runs/{RUN}"): 404,
    ("GET", f"sessions/{SESSION}"): 404,
    ("DELETE", f"sessions/{SESSION}"): 404,
}


def test_reads_find_an_empty_account(new_site) -> None:
    site: Site = new_site(POLL_SCHEDULE=NO_TICKS)
    site.add_host()
    assert {request: site.api(*request).status for request in STATUSES} == STATUSES
    assert site.api("GET", "runs").body["data"] == []
    assert site.api("GET", "health").body["last_tick_at"] is None


def test_the_first_start_creates_the_tables(new_site) -> None:
    site: Site = new_site(POLL_SCHEDULE=NO_TICKS)
    site.add_host()
    run_id = site.start(script(turns=[{"text": "a"}], seconds=60))
    assert [run["id"] for run in site.api("GET", "runs").body["data"]] == [run_id]
