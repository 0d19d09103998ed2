"""The function key, the list and the start of a run on the dashboard."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect

from shared.web import dashboard
from tests.browser.conftest import Open
from tests.browser.fake_api import BREAK_OFF, KEY, FakeApi
from tests.browser.fake_run import FakeRun, finished, running, writing

pytestmark = pytest.mark.xdist_group("browser")


def test_the_page_is_small_and_loads_nothing_from_other_servers() -> None:
    reply = dashboard.page()
    assert len(reply.body) < 140_000
    assert set(re.findall(rb"https?://[^\"'`\s]*", reply.body)) == {b"http://www.w3.org/2000/svg"}
    assert (
        re.findall(rb"<link|<img|@import|url\(|innerHTML|outerHTML|insertAdjacent|eval\(", reply.body) == []
    )


def test_the_key_is_only_sent_in_a_header(api: FakeApi, open_page: Open) -> None:
    api.add(run := writing())
    watched = open_page(f"?code={KEY}#/runs/{run.id}")
    page = watched.page
    page.get_by_text("Line 39").wait_for()
    page.get_by_role("button", name="Copy as curl").click()
    commands = page.locator("#commands").text_content() or ""
    assert "$BATON_KEY" in commands
    assert run.id in commands
    stored = page.evaluate(
        "JSON.stringify([localStorage, sessionStorage, document.cookie, history.state, location.href])"
    )
    # It is not in the document either: an extension could read it there, and a saved page would have it.
    assert KEY not in commands + stored + page.content() + page.get_by_label("Key", exact=True).input_value()
    assert [url for url in watched.requested if KEY in url] == [f"{api.origin}/api/dashboard?code={KEY}"]
    assert set(api.keys_sent) == {KEY}


def test_after_a_refused_key_the_page_requests_another_and_goes_on(api: FakeApi, open_page: Open) -> None:
    api.add(finished())
    page = open_page(key="wrong").page
    expect(page.get_by_text("The host refused this key.")).to_be_visible()
    page.get_by_label("Key", exact=True).fill(KEY)
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("row")).to_have_count(2)
    api.key = "rotated"  # while the page is open
    expect(page.get_by_role("dialog", name="Function key")).to_be_visible()
    page.get_by_label("Key", exact=True).fill("rotated")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_host_without_keys_is_not_asked_for_one(api: FakeApi, open_page: Open) -> None:
    api.key = ""
    api.add(finished())
    page = open_page(key=None).page
    expect(page.get_by_role("row")).to_have_count(2)
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_host_of_an_earlier_version_without_keys_accepts_an_empty_one(
    api: FakeApi, open_page: Open
) -> None:
    api.key, api.me = "", None
    api.add(finished())
    expect(open_page(key="").page.get_by_role("row")).to_have_count(2)


def test_a_key_that_no_header_can_carry_is_refused_at_once(api: FakeApi, open_page: Open) -> None:
    page = open_page(key="na\u00efve key").page
    expect(page.get_by_text("A key has no spaces")).to_be_visible()
    assert api.keys_sent == []


def test_the_list_is_paged_and_filtered(api: FakeApi, open_page: Open) -> None:
    shared = FakeRun(900).session
    api.add(
        *[
            finished(n, minutes=n, agent="market_analyst" if n % 10 == 0 else "space_novelist")
            for n in range(30)
        ]
    )
    api.add(
        *[
            running(100 + n, session=shared, created=datetime.now(UTC) - timedelta(hours=n + 1))
            for n in range(2)
        ]
    )
    page = open_page().page
    rows = page.get_by_role("row")
    expect(rows).to_have_count(26)
    page.get_by_role("button", name="Older").click()
    expect(rows).to_have_count(8)
    expect(page.get_by_role("button", name="Older")).to_be_disabled()
    page.get_by_role("link", name="Only session").last.click()
    expect(rows).to_have_count(3)
    page.get_by_role("button", name="Show all sessions").click()
    expect(rows).to_have_count(26)
    page.get_by_label("Status").select_option("in_progress")
    expect(rows).to_have_count(3)
    page.get_by_label("Status").select_option("")
    page.get_by_label("Agent").first.select_option("market_analyst")
    expect(rows).to_have_count(4)
    page.go_back()
    expect(rows).to_have_count(26)
    page.get_by_label("Status").select_option("expired")
    expect(page.get_by_text("No run matches.")).to_be_visible()


def test_the_list_is_updated_without_moving_the_focus(api: FakeApi, open_page: Open) -> None:
    api.add(run := running(created=datetime.now(UTC) - timedelta(minutes=5)))
    page = open_page().page
    row = page.get_by_role("row").last
    row.get_by_role("link").first.focus()
    run.fields["progress"] = {"characters": 1234, "items": 1, "activity": "writing"}
    expect(row).to_contain_text("writing \u00b7 1,234 characters")
    api.add(finished(7))
    expect(page.get_by_role("row")).to_have_count(3)
    expect(page.get_by_role("row").last.get_by_role("link").first).to_be_focused()


def test_a_double_click_starts_one_run(api: FakeApi, open_page: Open) -> None:
    page = open_page().page
    page.get_by_role("button", name="Start a run").click()
    page.get_by_label("Agent").last.select_option("space_novelist")
    page.get_by_role("textbox", name="Input").fill("A novel about Ganymede")
    page.get_by_text("More settings").click()
    page.get_by_role("textbox", name="Metadata").fill("reader=a=b\nedition = first")
    page.get_by_role("button", name="Start", exact=True).dblclick()
    # The second click may land on the run's page, so this says nothing about the focus.
    expect(page.get_by_role("heading", name="space_novelist")).to_be_visible()
    assert len(api.runs) == 1
    assert next(iter(api.runs.values())).fields["metadata"] == {"reader": "a=b", "edition": "first"}


def test_a_start_whose_answer_was_lost_can_be_repeated(api: FakeApi, open_page: Open) -> None:
    lost = iter([BREAK_OFF])
    api.intercept = lambda method, target: next(lost, None) if method == "POST" else None
    page = open_page().page
    page.get_by_role("button", name="Start a run").click()
    page.get_by_role("textbox", name="Input").fill("Is there a market for ice?")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.get_by_text("nothing is done twice")).to_be_visible()
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.get_by_role("heading", name="market_analyst")).to_be_focused()
    assert len(api.starts) == 2
    assert len(api.runs) == 1


def test_a_refused_field_is_named_and_focused(api: FakeApi, open_page: Open) -> None:
    problem = {"detail": "There is no such session.", "field": "session_id", "code": "session_not_found"}
    api.intercept = lambda method, target: (404, problem) if method == "POST" else None
    page = open_page().page
    page.get_by_role("button", name="Start a run").click()
    page.get_by_role("textbox", name="Input").fill("Go on")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.get_by_role("alert").get_by_text("There is no such session.")).to_be_visible()
    expect(page.get_by_role("textbox", name="Session")).to_be_focused()
