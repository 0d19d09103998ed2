"""The dashboard with a keyboard, with a screen reader, with low vision and on a phone."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.fake_api import KEY, FakeApi
from tests.browser.fake_run import finished, running, used

pytestmark = pytest.mark.xdist_group("browser")


def test_a_run_can_be_opened_and_left_with_the_keyboard(api: FakeApi, open_page: Open) -> None:
    api.add(finished(1), run := finished(2, minutes=5).tool("look_up", '{"a": 1}', "found it"))
    page = open_page(key=None).page
    expect(page.get_by_label("Key", exact=True)).to_be_focused()
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
    for name in ("Delete", "Copy as curl", "Start a run", "Edit and run", "Key"):
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


# Every visible text, and every control that can be used, with its colours and those of what is behind it.
COLOURS = """() => {
  const visible = (one) => one.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true })
    && !one.closest(":disabled, .unseen, option, .skip");
  const behind = (one) => {
    const layers = [];
    for (let at = one; at; at = at.parentElement) layers.push(getComputedStyle(at).backgroundColor);
    return layers;
  };
  const open = document.querySelector("dialog[open]") ?? document.body;
  const all = [...open.querySelectorAll("*")].filter(visible);
  const says = (one) => [...one.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
  const what = (one) => `${one.tagName}#${one.id}.${one.className} ${one.textContent.trim().slice(0, 30)}`;
  const texts = all.filter((one) => says(one) || one.matches("input, select, textarea"))
    .map((one) => [what(one), getComputedStyle(one).color, behind(one)]);
  const placeholders = all.filter((one) => one.placeholder)
    .map((one) => [`placeholder of ${what(one)}`, getComputedStyle(one, "::placeholder").color, behind(one)]);
  const controls = all.filter((one) => one.matches("input:not([type=checkbox], [type=file]), select, textarea, button:not(.plain)"))
    .map((one) => [what(one), getComputedStyle(one).borderTopColor, behind(one.parentElement)]);
  const icons = all.filter((one) => one.matches("svg")).map((one) => [what(one.parentElement), getComputedStyle(one).color, behind(one.parentElement)]);
  return [[...texts, ...placeholders], [...controls, ...icons]];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_and_controls_keep_the_contrast_of_wcag_aa(scheme: str, api: FakeApi, open_page: Open) -> None:
    statuses = ["completed", "failed", "cancelled", "incomplete", "expired"]
    runs = [finished(n).end(status, input_excerpt="An excerpt") for n, status in enumerate(statuses)]
    text = "# Title\n\ntext `code` https://a.invalid\n\n> quote\n\n```\ncode\n```\n\n|a|b|\n|-|-|\n|c|d|"
    run = running(9, fields={"input": [{"role": "user", "content": "Hello"}], "metadata": {"a": "b"}})
    run.note("turn.started", turn=1, model="gpt-5").note("run.waiting", code="slow", message="Wait.")
    run.tool("look_up", "{}", "found").end("failed", output_text=text, error={"code": "x", "message": "y"})
    run.write(text)
    api.add(*runs, running(20), run)
    page = open_page(key=None, color_scheme=scheme).page
    _check_contrast(page)  # the dialog for the key
    page.get_by_label("Key", exact=True).fill(KEY)
    page.keyboard.press("Enter")
    expect(page.get_by_role("row")).to_have_count(8)
    page.get_by_role("searchbox").fill("wrong")
    page.keyboard.press("Enter")
    page.get_by_label("Started").select_option("Between\u2026")
    _check_contrast(page)
    page.evaluate("to => { location.hash = to }", f"#/runs/{run.id}")
    page.locator("#text table").wait_for()
    page.locator("#steps summary").click()
    _check_contrast(page)
    for name in ("Copy as curl", "Start a run", "Delete"):
        page.get_by_role("button", name=name, exact=True).click()
        page.get_by_role("dialog").wait_for()
        for more in page.get_by_role("dialog").get_by_text("More settings").all():
            more.click()
        _check_contrast(page)
        page.keyboard.press("Escape")


def _check_contrast(page: Page) -> None:
    texts, shapes = page.evaluate(COLOURS)
    assert len(texts) > 3
    bad = [
        (what, round(found, 2))
        for pairs, least in ((texts, 4.5), (shapes, 3))
        for what, front, layers in pairs
        if (found := _contrast(_luminance(_over([front, *layers])), _luminance(_over(layers)))) < least
    ]
    assert bad == []


Colour = tuple[float, float, float]


def _over(layers: list[str]) -> Colour:
    """Return the colour of layers, the first of them in front."""
    below: Colour = (255, 255, 255)
    for layer in reversed(layers):
        red, green, blue, *rest = map(float, re.findall(r"[0-9.]+", layer))
        alpha = rest[0] if rest else 1
        mixed = [
            alpha * front + (1 - alpha) * back for front, back in zip((red, green, blue), below, strict=True)
        ]
        below = (mixed[0], mixed[1], mixed[2])
    return below


def _luminance(colour: Colour) -> float:
    channels = [one / 255 for one in colour]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def test_a_screen_reader_hears_changes_of_the_status_and_not_the_text(api: FakeApi, open_page: Open) -> None:
    api.add(run := running(status="queued"))
    page = open_page(f"#/runs/{run.id}").page
    expect(page.locator("#run-status")).to_have_text("Queued")
    page.evaluate(SAID)
    run.status = "in_progress"
    run.note("turn.started", turn=1).write(*["A sentence. "] * 30)
    page.get_by_text("A sentence.").wait_for()
    expect(page.locator("#run-status")).to_have_text("In progress")
    run.write("The last.").end()
    expect(page.locator("#text")).to_contain_text("The last.")
    expect(page.get_by_role("status")).to_have_text("Run completed")
    assert page.evaluate("window.said") == ["Run in progress", "Run completed"]
    live = page.evaluate(
        "[...document.querySelectorAll('[aria-live], [role=status], [role=log]')].map(one => one.id)"
    )
    assert live == ["announcer"]


SAID = """() => {
  window.said = [];
  const region = document.querySelector("[aria-live=polite]");
  new MutationObserver(() => window.said.push(region.textContent)).observe(region, { childList: true, characterData: true, subtree: true });
}"""


def test_updates_of_a_run_do_not_take_the_focus(api: FakeApi, open_page: Open) -> None:
    run = running(fields={"input": [{"role": "user", "content": "Hello"}], "metadata": {"a": "b"}})
    api.add(run.note("turn.started", turn=1).tool("look_up", "{}", "found").write("text"))
    page = open_page(f"#/runs/{run.id}").page
    page.locator("#text").get_by_text("text").wait_for()
    targets = ["#facts a", "#metadata a", "#steps summary", "#input", "#text", "#delete", "#curl"]
    for turn, target in enumerate(targets, start=2):
        page.locator(target).focus()
        run.fields |= {"turn": turn, "usage": used(turn, turn)}
        run.note("turn.started", 1, turn=turn).write(f"text of turn {turn}")
        expect(page.locator("#text")).to_contain_text(f"text of turn {turn}")
        expect(page.locator("#facts")).to_contain_text(f"Turn{turn}")
        expect(page.locator(target)).to_be_focused()
    run.end()
    expect(page.locator("#run-status")).to_have_text("Completed")
    expect(page.locator("#curl")).to_be_focused()


def test_nothing_scrolls_sideways_on_a_phone(api: FakeApi, open_page: Open) -> None:
    long = "x" * 400
    run = finished(agent=long).tool(long, long, long)
    run.write(long).fields |= {
        "metadata": {long: long},
        "error": {"code": long, "message": long},
        "input": [{"role": "user", "content": long}],
        "input_excerpt": long,
        "output_text": f"# {long}\n\n|{long}|b|\n|-|-|\n|https://{long}.invalid|d|\n\n```\n{long}\n```\n\nDone.",
    }
    run.note("turn.started", turn=2, model=long)
    api.add(run)
    page = open_page(viewport={"width": 360, "height": 640}).page
    page.get_by_role("row").last.wait_for()
    assert _overflow(page) <= 0
    page.evaluate("to => { location.hash = to }", f"#/runs/{run.id}")
    page.locator("#text").get_by_text("Done.").wait_for()
    page.locator("#steps summary").click()
    assert _overflow(page) <= 0
    for name in ("Copy as curl", "Start a run"):
        page.get_by_role("button", name=name).click()
        page.get_by_role("dialog").wait_for()
        assert _overflow(page) <= 0
        page.keyboard.press("Escape")


def _overflow(page: Page) -> int:
    wide = "Math.max(...[document.documentElement, ...document.querySelectorAll('dialog[open]')].map(e => e.scrollWidth - e.clientWidth))"
    return int(page.evaluate(wide))
