"""A storage account in which nothing has been made yet: it is read as an empty one, and the first start makes what it needs."""

from tests.e2e.site import Site, script

# The first of January, at midnight: no tick makes the tables.
NO_TICKS = "0 0 0 1 1 *"
RUN, SESSION = (f"{kind}_00{'0' * 26}" for kind in ("run", "ses"))
ASKED = {
    ("GET", "runs"): 200,
    ("GET", "health"): 200,
    ("GET", f"runs/{RUN}"): 404,
    ("GET", f"runs/{RUN}/events"): 404,
    ("POST", f"runs/{RUN}/cancel"): 404,
    ("DELETE", f"runs/{RUN}"): 404,
    ("GET", f"sessions/{SESSION}"): 404,
    ("DELETE", f"sessions/{SESSION}"): 404,
}


def test_it_is_read_as_an_empty_one(new_site) -> None:
    site: Site = new_site(POLL_SCHEDULE=NO_TICKS)
    site.add_host()
    assert {asked: site.api(*asked).status for asked in ASKED} == ASKED
    assert site.api("GET", "runs").body["data"] == []
    assert site.api("GET", "health").body["last_tick_at"] is None


def test_the_first_start_makes_what_it_writes_to(new_site) -> None:
    site: Site = new_site(POLL_SCHEDULE=NO_TICKS)
    site.add_host()
    run_id = site.start(script(turns=[{"text": "a"}], seconds=60))
    assert [run["id"] for run in site.api("GET", "runs").body["data"]] == [run_id]
