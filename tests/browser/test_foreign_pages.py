"""Pages of other origins: with the right key they neither start nor read a run through the local host."""

import json
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from dev import stack
from tests.browser.chromium import REBOUND
from tests.browser.fake_api import FakeApi
from tests.e2e.site import Site

pytestmark = pytest.mark.xdist_group("browser")

START = json.dumps({"agent": "scripted", "input": "spend"})
# What a page can send without a preflight request.
REQUESTS = {
    "text": "([url, body]) => { fetch(url, { method: 'POST', mode: 'no-cors', body }) }",
    "bytes": "([url, body]) => { fetch(url, { method: 'POST', mode: 'no-cors', body: new Blob([body]) }) }",
    "beacon": "([url, body]) => { navigator.sendBeacon(url, body) }",
    "form": """([url, body]) => {
        const [form, field] = ["form", "input"].map((name) => document.createElement(name));
        [form.action, form.method, form.enctype] = [url, "post", "text/plain"];
        // A form of text sends `name=value`.
        [field.name, field.value] = [body.slice(0, -2), body.slice(-2)];
        form.append(field);
        document.body.append(form);
        form.submit();
    }""",
    "image": "([url]) => { new Image().src = url }",
    "frame": "([url]) => { document.body.append(Object.assign(document.createElement('iframe'), { src: url })) }",
}


@pytest.fixture(scope="module")
def site(connection_string: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A deployed app with one host."""
    child, provider = stack.start_provider("--pace", "0")
    with child:
        site = Site(tmp_path_factory.mktemp("site"), connection_string, provider)
        site.add_host()
        yield site
        site.close()


def another_page(browser: Browser, api: FakeApi) -> Page:
    """Open a page whose origin is that of `api`, which is not the host."""
    api.intercept = lambda method, target: (200, "another page")
    page = browser.new_page()
    page.goto(f"{api.origin}/another-page")
    return page


def runs(site: Site) -> list[object]:
    found: list[object] = site.api("GET", "runs").body["data"]
    return found


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_page_of_another_origin_is_refused(site: Site, browser: Browser, api: FakeApi, kind: str) -> None:
    page = another_page(browser, api)
    url = f"{site.bases[0]}/api/runs?code={site.keys.host}"
    with page.expect_response(url) as response:
        page.evaluate(REQUESTS[kind], [url, START])
    assert response.value.status == 403
    page.close()
    assert runs(site) == []


def test_a_page_whose_name_leads_to_this_machine_is_refused(site: Site, browser: Browser) -> None:
    page = browser.new_page()
    base = f"http://{REBOUND}:{urlsplit(site.bases[0]).port}/api"
    opened = page.goto(f"{base}/dashboard")
    assert opened is not None
    assert opened.status == 421
    request = """([url, key, body]) => fetch(url, {
        method: "POST", body, headers: { "x-functions-key": key, "content-type": "application/json" },
    }).then((reply) => reply.status)"""
    assert page.evaluate(request, [f"{base}/runs", site.keys.host, START]) == 421
    page.close()
    assert runs(site) == []


def test_a_link_of_another_page_opens_the_dashboard(site: Site, browser: Browser, api: FakeApi) -> None:
    page = another_page(browser, api)
    page.evaluate(
        "url => document.body.append(Object.assign(document.createElement('a'), { href: url, text: 'open' }))",
        f"{site.bases[0]}/api/dashboard",
    )
    page.get_by_text("open", exact=True).click()
    expect(page.get_by_label("Key", exact=True)).to_be_visible()
    page.close()
