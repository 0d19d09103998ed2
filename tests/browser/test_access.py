"""The dashboard with a keyboard, with a screen reader, with low vision and on a phone."""

import itertools

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.fake_api import KEY, FakeApi
from tests.browser.fake_run import finished

pytestmark = pytest.mark.xdist_group("browser")


def test_a_run_can_be_opened_and_left_with_the_keyboard(api: FakeApi, open_page: Open) -> None:
    api.add(finished(1), run := finished(2, minutes=5).tool("look_up", '{"a": 1}', "found it"))
    page = open_page(key=None).page
    page.keyboard.type(KEY)
    page.keyboard.press("Enter")
    expect(page.get_by_role("row")).to_have_count(3)
    page.get_by_role("link", name="Skip to the content").focus()
    page.keyboard.press("Enter")
    link = page.get_by_role("row").last.get_by_role("link").first
    _tab_to(page, f"#/runs/{run.id}")
    expect(link).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    page.get_by_text("look_up").wait_for()
    page.locator("summary:visible").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("found it")).to_be_visible()
    _tab_to(page, "#/", key="Shift+Tab")
    page.keyboard.press("Enter")
    expect(link).to_be_focused()


def _tab_to(page: Page, address: str, key: str = "Tab") -> None:
    for _ in range(20):
        page.keyboard.press(key)
        if page.evaluate("document.activeElement.getAttribute('href')") == address:
            return
    raise AssertionError(f"{address} is not reached with Tab")


def test_every_control_has_a_name_and_a_role(api: FakeApi, open_page: Open) -> None:
    api.add(run := finished().tool("look_up", "{}", "found"))
    page = open_page().page
    expect(page.get_by_role("table", name="Runs, newest first")).to_be_visible()
    expect(page.get_by_role("columnheader")).to_have_count(7)
    expect(page.get_by_role("rowheader")).to_have_count(1)
    for route in ("#/", f"#/runs/{run.id}"):
        page.evaluate("to => { location.hash = to }", route)
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
        assert page.evaluate(NAMELESS) == []
    for name in ("Delete", "Copy as curl", "Start a run", "Key"):
        page.get_by_role("button", name=name, exact=True).click()
        page.get_by_role("dialog").wait_for()
        assert page.evaluate(NAMELESS) == []
        page.keyboard.press("Escape")


# Controls without a name, ids that are not unique, and references to missing ids.
NAMELESS = """() => {
  // The value of a field is not its name.
  const named = (one) => (one.matches("select, input, textarea") ? one.labels.length : one.textContent.trim())
    || one.getAttribute("aria-label")
    || one.getAttribute("aria-labelledby")?.split(" ").every((id) => document.getElementById(id));
  const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  return [
    ...[...document.querySelectorAll("a, button, input, select, textarea, summary, dialog, section, [role=region]")]
      .filter((one) => one.checkVisibility() && !named(one)).map((one) => one.outerHTML.slice(0, 80)),
    ...ids.filter((id, place) => ids.indexOf(id) !== place),
    ...[...document.querySelectorAll("[aria-describedby], [for]")]
      .flatMap((one) => (one.getAttribute("aria-describedby") ?? one.htmlFor).split(" "))
      .filter((id) => !document.getElementById(id)),
  ];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_keep_the_contrast_of_wcag_aa(scheme: str, open_page: Open) -> None:
    page = open_page(key=None, color_scheme=scheme).page
    names = [
        "paper",
        "raised",
        "wash",
        "ink",
        "quiet",
        "accent",
        "on-accent",
        "danger",
        "danger-wash",
        "edge",
    ]
    colours = page.evaluate(
        "names => names.map(name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`))",
        names,
    )
    light = dict(zip(names, map(_luminance, colours), strict=True))
    text = list(itertools.product(["ink", "quiet", "accent", "danger"], ["paper", "raised", "wash"]))
    for front, back in [*text, ("on-accent", "accent"), ("paper", "danger"), ("ink", "danger-wash")]:
        assert _contrast(light[front], light[back]) >= 4.5, (front, back)
    for back in ("paper", "raised"):  # the borders of fields
        assert _contrast(light["edge"], light[back]) >= 3, back


def _luminance(colour: str) -> float:
    channels = [int(colour.strip()[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def test_nothing_scrolls_sideways_on_a_phone(api: FakeApi, open_page: Open) -> None:
    long = "x" * 400
    run = finished(agent=long).tool(long, long, long)
    run.write(long).fields |= {"metadata": {long: long}, "error": {"code": long, "message": long}}
    api.add(run)
    page = open_page(viewport={"width": 360, "height": 640}).page
    page.get_by_role("row").last.wait_for()
    assert _overflow(page) <= 0
    page.evaluate("to => { location.hash = to }", f"#/runs/{run.id}")
    page.locator("#text").get_by_text("Done.").wait_for()
    page.locator("summary").first.click()
    assert _overflow(page) <= 0
    for name in ("Copy as curl", "Start a run"):
        page.get_by_role("button", name=name).click()
        page.get_by_role("dialog").wait_for()
        assert _overflow(page) <= 0
        page.keyboard.press("Escape")


def _overflow(page: Page) -> int:
    wide = "Math.max(...[document.documentElement, ...document.querySelectorAll('dialog[open]')].map(e => e.scrollWidth - e.clientWidth))"
    return int(page.evaluate(wide))
