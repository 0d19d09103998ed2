"""One run on the dashboard: its text from the feed, and its end."""

import itertools

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.fake_api import BREAK_OFF, FakeApi
from tests.browser.fake_run import LINES, FakeRun, finished, running, writing

pytestmark = pytest.mark.xdist_group("browser")


def text_of(page: Page) -> str:
    return str(page.locator("#text").evaluate("pane => pane.textContent"))


@pytest.mark.parametrize("act", ["Cancel run", "Delete"])
def test_a_run_is_ended_only_after_a_confirmation(act: str, api: FakeApi, open_page: Open) -> None:
    api.add(run := writing())
    page = open_page(f"#/runs/{run.id}").page
    page.get_by_role("button", name=act).click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button").first).to_be_focused()  # the harmless one
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("button", name=act)).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert not {method for method, _, _ in api.requests} & {"POST", "DELETE"}
    page.get_by_role("button", name=act).click()
    dialog.get_by_role("button").last.click()
    if act == "Delete":
        expect(page.get_by_text("No runs yet.")).to_be_visible()
        assert api.runs == {}
    else:
        expect(page.locator("#run-status")).to_have_text("Cancelled")
        expect(page.get_by_role("button", name=act)).to_have_count(0)


def test_a_replacement_and_a_new_turn_replace_the_shown_text(api: FakeApi, open_page: Open) -> None:
    api.add(run := writing())
    page = open_page(f"#/runs/{run.id}").page
    expect(page.locator("#text")).to_have_text("".join(LINES))
    run.note("text.replaced", turn=1, text="The right text.\n")
    expect(page.locator("#text")).to_have_text("The right text.\n")
    run.write("And more.").note("a.type.of.the.future", text="is ignored")
    expect(page.get_by_text("And more.")).to_be_visible()
    assert text_of(page) == "The right text.\nAnd more."
    run.note("turn.started", turn=2, response_id="r2")
    expect(page.get_by_text("The text appears here")).to_be_visible()
    run.write("The last text.").end()
    expect(page.locator("#run-status")).to_have_text("Completed")
    # The run may have been read before its last events.
    expect(page.locator("#text")).to_have_text("The last text.")


def test_the_text_is_complete_after_any_number_of_failures(api: FakeApi, open_page: Open) -> None:
    run = writing().write("The end.").end()
    api.add(run)
    failures = itertools.cycle(
        [BREAK_OFF, (503, {}), None, (502, "<html>"), None, (429, None), (200, {"data": 1})]
    )
    api.intercept = lambda method, target: next(failures) if "/events" in target else None
    served, feed = [], api._feed

    def overlapping(run: FakeRun, after: int, limit: int) -> dict[str, object]:
        served.append(after)
        # A few events at a time, some of which were served before.
        return feed(run, max(0, after - 3), 25)

    api._feed = overlapping  # type: ignore[method-assign]
    page = open_page(f"#/runs/{run.id}").page
    page.set_default_timeout(40_000)
    expect(page.locator("#connection")).to_be_visible()
    page.get_by_text("The end.").wait_for()
    assert text_of(page) == "".join(LINES) + "The end."
    expect(page.locator("#connection")).to_be_hidden()
    assert served == sorted(served)


def test_a_finished_run_is_not_requested_again(api: FakeApi, open_page: Open) -> None:
    api.add(run := writing().end())
    page = open_page(f"#/runs/{run.id}").page
    expect(page.locator("#text")).to_contain_text("Line 39")
    expect(page.locator("#run-status")).to_have_text("Completed")
    page.wait_for_load_state("networkidle")
    requests = len(api.requests)
    page.evaluate(
        "() => new Promise(resolve => setTimeout(resolve, 10 * 50))"
    )  # ten times the pause between two reads of the feed
    assert len(api.requests) == requests


def test_a_deleted_run_is_shown_as_missing(api: FakeApi, open_page: Open) -> None:
    page = open_page(f"#/runs/{finished(9).id}").page
    expect(page.get_by_text("There is no such run.").first).to_be_visible()


def test_the_page_scrolls_with_the_text_only_while_it_shows_the_end(api: FakeApi, open_page: Open) -> None:
    api.add(run := writing())
    page = open_page(f"#/runs/{run.id}").page
    page.get_by_text("Line 39").wait_for()
    below = "pane => pane.scrollHeight - pane.scrollTop - pane.clientHeight"
    pane = page.locator("#text")
    assert pane.evaluate(below) < 2
    pane.evaluate("pane => { pane.scrollTop = 100 }")
    expect(page.get_by_role("button", name="Follow the text")).to_be_visible()
    run.write(*LINES)
    page.locator("#text-size", has_text=f"{2 * len(''.join(LINES).encode('utf-16-le')) // 2:,}").wait_for()
    assert pane.evaluate("pane => pane.scrollTop") == 100
    page.get_by_role("button", name="Follow the text").click()
    run.write(*LINES, "The end.")
    page.get_by_text("The end.").wait_for()
    assert pane.evaluate(below) < 2


def test_a_finished_run_opens_at_its_top_also_after_a_live_one(api: FakeApi, open_page: Open) -> None:
    live, over = writing(1), writing(2).write(*LINES * 10).end()
    api.add(live, over)
    page = open_page(f"#/runs/{live.id}", viewport={"width": 1000, "height": 500}).page
    page.get_by_text("Line 39").wait_for()
    page.get_by_text("Line 39").scroll_into_view_if_needed()
    for _ in range(2):  # the second time through a list that has been scrolled, too
        page.evaluate("to => { location.hash = to }", f"#/runs/{over.id}")
        expect(page.locator("#run-status")).to_have_text("Completed")
        page.locator("#text.formatted").wait_for()
        # Events of a scroll are sent with the next frame.
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert page.locator("#text").evaluate("pane => pane.scrollTop") == 0
        assert page.evaluate("scrollY") == 0
        page.evaluate("to => { location.hash = to }", f"#/runs/{live.id}")
        page.get_by_text("Line 39").scroll_into_view_if_needed()


@pytest.mark.parametrize("ending", ["\n", " "], ids=["paragraphs", "one line"])
def test_a_very_long_text_stays_smooth(ending: str, api: FakeApi, open_page: Open) -> None:
    delta = ("All hands slept but one. " * 20)[:-1] + ending
    count = 350_000 // len(delta)
    api.add(run := running().note("turn.started", turn=1).write(*[delta] * count))
    page = open_page(f"#/runs/{run.id}").page
    page.locator("#text-size", has_text=f"{len(delta) * count:,}").wait_for()
    page.evaluate(LONGEST_TASK)
    for _ in range(5):
        run.write(delta)
        page.locator("#text-size", has_text=f"{sum(len(e.get('text', '')) for e in run.events):,}").wait_for()
    # A page that writes the complete text again needs seconds. The limit allows for a busy machine.
    assert page.evaluate("window.longest") < 500
    assert len(text_of(page)) == len(delta) * (count + 5)


LONGEST_TASK = """() => {
  window.longest = 0;
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) window.longest = Math.max(window.longest, entry.duration);
  }).observe({ type: "longtask" });
}"""


def test_what_a_run_waits_for_is_shown_until_it_goes_on(api: FakeApi, open_page: Open) -> None:
    waiting = {"code": "rate_limited", "message": "The provider answered HTTP 429. Slow down."}
    api.add(run := running(fields={"waiting_for": waiting}))
    run.note("run.waiting", **waiting)
    page = open_page(f"#/runs/{run.id}").page
    expect(page.get_by_role("group", name="Error")).to_contain_text("Slow down.")
    run.fields["waiting_for"] = None
    run.note("turn.started", turn=1, response_id="r").write("Done.").end()
    expect(page.locator("#run-status")).to_have_text("Completed")
    expect(page.get_by_role("group", name="Error")).to_be_hidden()


def test_a_refusal_is_shown(api: FakeApi, open_page: Open) -> None:
    api.add(run := running(fields={"refusal": "I cannot help with that."}))
    run.note("turn.started", turn=1, response_id="r").note(
        "refusal", refusal="I cannot help with that."
    ).end()
    page = open_page(f"#/runs/{run.id}").page
    expect(page.get_by_role("group", name="Error")).to_contain_text("I cannot help with that.")


def test_commentary_is_a_step_and_not_the_text(api: FakeApi, open_page: Open) -> None:
    api.add(run := running())
    run.note("turn.started", turn=1, response_id="r").note("commentary.delta", 1, text="I look first. ")
    run.write("It is 42.").end()
    page = open_page(f"#/runs/{run.id}").page
    expect(page.locator("#text")).to_have_text("It is 42.")
    expect(page.locator("#steps")).to_contain_text("Commenting")
