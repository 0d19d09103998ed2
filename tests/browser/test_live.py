"""The dashboard over the real stack, whose host is killed while the page shows a run."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from dev import stack
from tests.browser.chromium import enter_key, watch
from tests.e2e.site import ROOT, Site, script

pytestmark = pytest.mark.xdist_group("browser")

AGENTS = ("__init__.py", "market_analyst.py", "space_novelist.py", "data")
TEXT = "".join(
    f"Sentence {n}: the ice sang, \u00e4\u00f6\u00fc \u6f22\u5b57 \U0001f680.\n" for n in range(300)
)


@pytest.fixture
def site(connection_string: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A deployed app with one host and the agents of `agents/`, which stream."""
    child, provider = stack.start_provider("--pace", "0")
    with child:
        site = Site(tmp_path_factory.mktemp("site"), connection_string, provider)
        (site.app / "agents").unlink()
        (site.app / "agents").mkdir()
        for part in AGENTS:
            (site.app / "agents" / part).symlink_to(ROOT / "agents" / part)
        try:
            site.add_host()
            yield site
        finally:
            site.close()


def test_a_run_started_on_the_page_is_shown_to_its_end_although_the_host_is_killed(
    site: Site, browser: Browser
) -> None:
    port = int(site.bases[0].rsplit(":", 1)[1])
    watched = watch(browser.new_page())
    page = watched.page
    page.goto(f"{site.bases[0]}/api/dashboard")
    enter_key(page, site.keys.host)
    page.get_by_role("button", name="Start the first").click()
    page.get_by_label("Agent").last.select_option("space_novelist")
    page.get_by_role("textbox", name="Input").fill(script(turns=[{"text": TEXT, "seconds": 8}]))
    page.get_by_role("button", name="Start", exact=True).click()

    page.evaluate("window.neverReloaded = true")
    expect(page.locator("#text")).to_contain_text("Sentence 9:", timeout=30_000)
    before = page.locator("#text").text_content() or ""
    site.hosts[0].kill()
    expect(page.locator("#connection")).to_be_visible(timeout=30_000)
    assert len(before) < len(TEXT), "the run ended before the host was killed"
    site.hosts[0], _ = stack.start_host(site.settings, port=port, app=site.app)

    expect(page.locator("#run-status")).to_have_text("Completed", timeout=60_000)
    run = site.get(page.url.rsplit("/", 1)[1])
    assert run["output_text"] == TEXT
    page.get_by_role("button", name="Raw").click()
    assert page.locator("#text").text_content() == run["output_text"]
    expect(page.locator("#connection")).to_be_hidden()
    assert page.evaluate("window.neverReloaded")
    assert watched.alarms == []
    assert [url for url in watched.requested if not url.startswith(f"{site.bases[0]}/api/")] == []
    assert [url for url in watched.requested if site.keys.host in url] == []
    page.close()
