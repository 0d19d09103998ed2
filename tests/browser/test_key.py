"""Where the function key is, and where it is not."""

import pytest
from playwright.sync_api import Browser, Page, expect

from shared.web import dashboard
from tests.browser.conftest import Open
from tests.browser.fake_api import KEY, FakeApi
from tests.browser.fake_run import finished

pytestmark = pytest.mark.xdist_group("browser")

EVERYWHERE = """() => JSON.stringify([
    Object.entries(localStorage), Object.entries(sessionStorage), document.cookie, history.state, location.href,
    document.documentElement.outerHTML, [...document.querySelectorAll("input, textarea")].map((one) => one.value),
])"""


def stored(page: Page) -> str:
    return str(page.evaluate("JSON.stringify(Object.entries(sessionStorage))"))


@pytest.mark.parametrize("written", [KEY, "a-key%2Dfor-tests"])
def test_a_link_with_the_key_opens_the_page_and_leaves_nothing(
    written: str, api: FakeApi, open_page: Open
) -> None:
    api.add(finished())
    watched = open_page(f"?code=x#key={written}", key=None)
    page = watched.page
    expect(page.get_by_role("row")).to_have_count(2)
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert page.url == f"{api.origin}/api/dashboard#/"
    assert KEY not in page.evaluate(EVERYWHERE)
    page.get_by_role("link", name="space_novelist").click()
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    page.go_back()
    expect(page.get_by_role("row")).to_have_count(2)
    page.go_back()
    assert "key" not in page.url
    assert {key for _, path, key in api.requests if "dashboard" not in path} == {KEY}
    assert [url for url in watched.requested if "key" in url.partition("#")[0]] == []


def test_the_key_is_out_of_the_address_before_anything_else_runs(api: FakeApi, open_page: Open) -> None:
    script = dashboard.page().body.partition(b'<script type="module">')[2].splitlines()
    assert next(line for line in script if line and not line.startswith(b"//")) == (
        b"let functionKey = takeKeyOfAddress();"
    )
    page = open_page(f"#key={KEY}", key=None).page
    expect(page.get_by_text("No runs yet.")).to_be_visible()
    assert page.evaluate("history.length") <= 2  # the empty page before it, and itself


def test_a_link_with_a_key_in_an_open_tab_replaces_the_key(api: FakeApi, open_page: Open) -> None:
    api.add(finished())
    page = open_page(key=None).page
    expect(page.get_by_role("dialog")).to_be_visible()
    page.evaluate("key => { location.hash = `key=${key}` }", KEY)
    expect(page.get_by_role("row")).to_have_count(2)
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert page.url == f"{api.origin}/api/dashboard#/"
    assert KEY not in page.evaluate(EVERYWHERE)


def test_the_key_is_kept_for_the_tab_only_when_somebody_says_so(api: FakeApi, open_page: Open) -> None:
    api.add(finished())
    page = open_page().page
    expect(page.get_by_role("row")).to_have_count(2)
    assert stored(page) == "[]"
    page.reload()
    page.get_by_label("Key", exact=True).fill(KEY)
    page.get_by_role("checkbox", name="Keep the key").check()
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("row")).to_have_count(2)
    page.reload()
    expect(page.get_by_role("row")).to_have_count(2)
    assert page.evaluate("localStorage.length") == 0
    # A refused key is not kept, and one that is typed without the mark replaces it.
    api.key = "rotated"
    expect(page.get_by_role("dialog", name="Function key")).to_be_visible()
    assert stored(page) == "[]"
    page.get_by_label("Key", exact=True).fill("rotated")
    page.get_by_role("checkbox", name="Keep the key").uncheck()
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert stored(page) == "[]"


def test_a_link_with_a_key_ends_what_was_kept(api: FakeApi, open_page: Open) -> None:
    page = open_page(key=None).page
    page.get_by_label("Key", exact=True).fill(KEY)
    page.get_by_role("checkbox", name="Keep the key").check()
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_text("No runs yet.")).to_be_visible()
    assert KEY in stored(page)
    api.key = "another"
    page.goto("about:blank")
    page.goto(f"{api.origin}/api/dashboard#key=another")
    expect(page.get_by_text("No runs yet.")).to_be_visible()
    assert stored(page) == "[]"


def test_a_link_with_a_key_opens_nothing_on_another_host(api: FakeApi, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(f"{api.origin.replace('127.0.0.1', 'app.localhost')}/api/dashboard#key={KEY}")
    expect(page.get_by_role("dialog", name="Function key")).to_be_visible()
    assert page.url.endswith("/api/dashboard#/")
    assert api.keys_sent == []
