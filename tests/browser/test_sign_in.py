"""Who uses the page: a key with less than all roles, or a person whom the platform has signed in."""

import json
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.fake_api import KEY, FakeApi, caller_view
from tests.browser.fake_run import finished, running
from tests.browser.test_access import NAMELESS, _check_contrast, _overflow

pytestmark = pytest.mark.xdist_group("browser")

PERSON = {"owner": "aad:t:o", "name": "Ann Example", "recognised_by": "sign_in"}
CHANGES = ["Run again", "Edit and run", "Continue session", "Cancel run", "Delete", "Start a run"]


def buttons(page: Page) -> list[str]:
    return [
        name
        for name in CHANGES
        if page.get_by_role("button", name=name, exact=True).filter(visible=True).count()
    ]


def test_who_is_signed_in_needs_no_key(api: FakeApi, open_page: Open) -> None:
    api.add(finished())
    api.sign_in, api.signed_in = "/.auth/login/aad", caller_view("reader", "caller", **PERSON)
    page = open_page(key=None).page
    expect(page.get_by_role("row")).to_have_count(2)
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_text("Ann Example")).to_be_visible()
    out = page.get_by_role("link", name="Sign out")
    assert out.get_attribute("href") == "/.auth/logout?post_logout_redirect_uri=%2Fapi%2Fdashboard"
    assert {key for _, path, key in api.requests} == {""}
    assert buttons(page) == ["Start a run"]
    page.get_by_role("button", name="Start a run").click()
    page.get_by_role("textbox", name="Input").fill("Hello")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("market_analyst")
    assert len(api.starts) == 1


def test_a_change_shows_that_it_comes_from_this_page(api: FakeApi, open_page: Open) -> None:
    api.signed_in = caller_view("reader", "caller", **PERSON)
    api.add(run := running())
    page = open_page(f"#/runs/{run.id}", key=None).page
    with page.expect_request(lambda request: request.method == "POST") as sent:
        page.get_by_role("button", name="Cancel run").click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel run").click()
    headers = sent.value.all_headers()
    assert (headers["origin"], headers["sec-fetch-site"]) == (api.origin, "same-origin")


def test_who_is_not_signed_in_gets_a_link_back_to_this_view(api: FakeApi, open_page: Open) -> None:
    api.sign_in = "/.auth/login/aad"
    api.add(finished())
    page = open_page("#/?status=completed", key=None).page
    dialog = page.get_by_role("dialog", name="Sign in")
    link = dialog.get_by_role("link", name="Sign in with Microsoft")
    expect(link).to_be_focused()
    address = urlsplit(link.get_attribute("href") or "")
    assert address.path == "/.auth/login/aad"
    assert parse_qs(address.query) == {"post_login_redirect_uri": ["/api/dashboard#/?status=completed"]}
    assert page.evaluate(NAMELESS) == []
    # A key works as well, and then nobody is shown as signed in.
    page.get_by_label("Key", exact=True).fill(KEY)
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("row")).to_have_count(2)
    expect(page.get_by_role("link", name="Sign out")).to_have_count(0)


@pytest.mark.parametrize(
    "path",
    [
        "https://evil.invalid/",
        "//evil.invalid",
        "javascript:alert(1)",
        "/.auth/login/aad?x=1",
        "/.auth/login/../x",
        7,
        ["/.auth/login/aad"],
    ],
)
def test_a_sign_in_is_at_this_host_or_nowhere(path: str, api: FakeApi, open_page: Open) -> None:
    api.sign_in = path
    page = open_page(key=None).page
    expect(page.get_by_role("dialog", name="API key")).to_be_visible()
    expect(page.get_by_role("link", name="Sign in")).to_have_count(0)


def test_a_sign_in_that_ends_is_noticed(api: FakeApi, open_page: Open) -> None:
    api.sign_in, api.signed_in = "/.auth/login/aad", caller_view(**PERSON)
    page = open_page(key=None).page
    expect(page.get_by_text("No runs yet.")).to_be_visible()
    api.signed_in = None
    expect(page.get_by_role("dialog", name="Sign in")).to_be_visible()
    expect(page.get_by_text("You are no longer signed in.")).to_be_visible()
    expect(page.get_by_text("Ann Example")).to_have_count(0)


def test_a_key_replaces_a_sign_in(api: FakeApi, open_page: Open) -> None:
    api.sign_in, api.signed_in = "/.auth/login/aad", caller_view(**PERSON)
    page = open_page(key=None).page
    expect(page.get_by_text("Ann Example")).to_be_visible()
    page.get_by_role("button", name="Key", exact=True).click()
    page.get_by_label("Key", exact=True).fill(KEY)
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_text("Ann Example")).to_have_count(0)
    assert api.requests[-1][2] == KEY


@pytest.mark.parametrize("person", [True, False])
def test_a_reader_is_offered_nothing_that_changes_something(
    person: bool, api: FakeApi, open_page: Open
) -> None:
    api.add(over := finished(1), live := running(2))
    if person:
        api.signed_in = caller_view("reader", **PERSON)
    else:
        api.me = caller_view("reader", recognised_by="api_key", owner="key:a")
    page = open_page(key=None if person else KEY).page
    expect(page.get_by_role("row")).to_have_count(3)
    expect(page.get_by_text("Read only")).to_be_visible()
    assert buttons(page) == []
    for run in (over, live):
        page.evaluate("to => { location.hash = to }", f"#/runs/{run.id}")
        expect(page.locator("#run-status")).to_have_text("Completed" if run is over else "In progress")
        assert buttons(page) == []
        page.get_by_role("button", name="Copy as curl").click()
        expect(page.get_by_role("dialog").locator(".command")).to_have_count(2)
        page.keyboard.press("Escape")
    api.runs.clear()
    page.evaluate("location.hash = '#/'")
    expect(page.get_by_text("No runs yet.")).to_be_visible()
    expect(page.get_by_role("button", name="Start the first")).to_have_count(0)
    page.evaluate("location.hash = '#/?status=failed'")
    expect(page.get_by_role("button", name="Show all runs")).to_be_visible()
    assert {method for method, _, _ in api.requests} == {"GET"}


def test_a_change_that_is_refused_is_said_in_a_sentence(api: FakeApi, open_page: Open) -> None:
    api.add(run := running())
    page = open_page(f"#/runs/{run.id}").page
    page.get_by_role("button", name="Cancel run").click()
    api.me = caller_view("reader", recognised_by="api_key")
    page.get_by_role("dialog").get_by_role("button", name="Cancel run").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_have_text(
        "This needs the role caller. The caller has: reader."
    )


def test_who_has_no_role_is_told_what_to_do_and_can_sign_out(api: FakeApi, open_page: Open) -> None:
    api.sign_in = "/.auth/login/aad"
    detail = "Your account has no role in this app. An administrator has to assign one."
    api.signed_in = {"title": "Forbidden", "status": 403, "detail": detail, "code": "no_role"}
    page = open_page(key=None).page
    expect(page.get_by_text(detail)).to_be_visible()
    expect(page.get_by_role("link", name="Sign out")).to_be_visible()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert buttons(page) == []


def test_a_name_is_text(api: FakeApi, open_page: Open) -> None:
    name = "<img src=x onerror=alert(1)>\u202e" + "x" * 200
    api.signed_in = caller_view(**(PERSON | {"name": name}))
    page = open_page(key=None, viewport={"width": 360, "height": 640}).page
    expect(page.locator("#who-name")).to_have_text(name)
    assert _overflow(page) <= 0
    page.set_viewport_size({"width": 1280, "height": 800})
    assert _overflow(page) <= 0


def test_a_host_of_an_earlier_version_offers_everything(api: FakeApi, open_page: Open) -> None:
    api.me = None
    api.add(finished())
    page = open_page().page
    expect(page.get_by_role("row")).to_have_count(2)
    assert buttons(page) == ["Start a run"]


def test_a_host_that_cannot_be_reached_at_first_is_asked_again(api: FakeApi, open_page: Open) -> None:
    api.signed_in = caller_view(**PERSON)
    api.add(finished())
    failing = [(503, None)] * 2
    api.intercept = lambda method, target: failing.pop() if failing and "runs" in target else None
    page = open_page(key=None).page
    expect(page.get_by_role("row")).to_have_count(2)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_a_sign_in_adds_keeps_the_contrast(scheme: str, api: FakeApi, open_page: Open) -> None:
    api.sign_in = "/.auth/login/aad"
    page = open_page(key=None, color_scheme=scheme).page
    expect(page.get_by_role("dialog", name="Sign in")).to_be_visible()
    _check_contrast(page)
    api.signed_in = caller_view("reader", **PERSON)
    page.reload()
    expect(page.get_by_text("Read only")).to_be_visible()
    _check_contrast(page)
    assert json.dumps(page.evaluate(NAMELESS)) == "[]"
