"""The dashboard over the real stack, whose host is killed while the page shows a run."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from dev import stack
from tests.browser.chromium import enter_key, watch
from tests.e2e.site import ROOT, Site, script

pytestmark = pytest.mark.xdist_group("browser")

AGENTS = ("__init__.py", "market_analyst.py", "space_novelist.py", "refund_clerk.py", "shop.py", "data")
TEXT = "".join(
    f"Sentence {n}: the ice sang, \u00e4\u00f6\u00fc \u6f22\u5b57 \U0001f680.\n" for n in range(300)
)


@pytest.fixture
def site(connection_string: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A deployed app with one host and the agents of `agents/`, which stream."""
    child, provider = stack.start_provider("--pace", "0")
    with child:
        folder = tmp_path_factory.mktemp("site")
        refunds = {"REFUNDS_FOLDER": str(folder / "refunds")}
        site = Site(folder, connection_string, provider, refunds)
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


def test_a_refund_is_approved_with_a_change_on_the_page(site: Site, browser: Browser) -> None:
    run_id = site.start("Refund 120 euros of order A-1002, please.", agent="refund_clerk")
    watched = watch(browser.new_page())
    page = watched.page
    page.goto(f"{site.bases[0]}/api/dashboard")
    enter_key(page, site.keys.host)
    waiting = page.get_by_role("region", name="Waiting for you")
    expect(waiting).to_contain_text('"euros": 120', timeout=60_000)
    assert site.get(run_id)["status"] == "requires_action"

    waiting.get_by_role("button", name="Change and approve").click()
    waiting.get_by_label("Changed arguments").fill('{"order": "A-1002", "euros": 80}')
    waiting.get_by_role("button", name="Review the change").click()
    waiting.get_by_role("button", name="Approve with this change").click()
    expect(waiting).to_contain_text("Nothing any more", timeout=30_000)
    run = site.outcome(run_id)
    assert (run["status"], "80" in run["output_text"]) == ("completed", True)
    [call] = [
        each for each in site.api("GET", f"runs/{run_id}/calls").body["data"] if each["name"] == "refund"
    ]
    assert call["answer"]["arguments"] == {"order": "A-1002", "euros": 80}
    assert call["arguments"] == '{"order": "A-1002", "euros": 120}'
    assert watched.alarms == []
    page.close()
