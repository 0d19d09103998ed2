"""Runs that wait for people: in the list, in their own view, in the timeline, and when there are many."""

import json
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.fake_api import FakeApi, caller_view
from tests.browser.fake_run import FakeRun, finished, running, waiting
from tests.browser.test_access import NAMELESS, SAID, _check_contrast, _overflow
from tests.browser.test_approvals import ANNA, CHANGED, ME, after_a_poll, cards, change, polls, press, theirs
from tests.browser.test_run_view import LONGEST_TASK

pytestmark = pytest.mark.xdist_group("browser")

LARGE = json.dumps({"rows": [{"id": n, "text": "x" * 80} for n in range(10_000)]})
ONE_LINE = json.dumps({"text": "word " * 210_000})


@pytest.fixture(autouse=True)
def me(api: FakeApi) -> None:
    api.me = ME


def open_run(page: Page, run: FakeRun) -> None:
    page.evaluate("to => { location.hash = to }", f"#/runs/{run.id}")
    page.locator("#run-status:not(:empty)").wait_for()


def calls_read(api: FakeApi) -> int:
    return sum("/calls" in target for method, target, _ in api.requests if method == "GET")


def test_the_list_says_what_a_run_waits_for(api: FakeApi, open_page: Open) -> None:
    api.add(
        waiting(1),
        running(2).ask("look_up", "{}", "output"),
        waiting(3).ask("look_up", "{}", "output"),
        running(4),
        running(5, fields={"status": "requires_action", "required_action": None}),
    )
    page = open_page().page
    rows = page.get_by_role("row")
    expect(rows).to_have_count(6)
    words = ["Waiting for approval", "Waiting for output", "Waiting for approval and output", "In progress"]
    shown = page.locator("td.state")
    assert sorted(shown.all_text_contents()) == sorted([*words, "Waiting for people"])
    row = rows.filter(has_text="Waiting for approval and output")
    expect(row.locator("td.activity")).to_contain_text("send_email, look_up")
    page.get_by_label("Status").select_option("Waiting for people")
    expect(rows).to_have_count(5)
    assert "status=requires_action" in page.url
    labels = page.get_by_label("Status").get_by_role("option").all_text_contents()
    assert not {"Unknown", "Waiting", "Refused", "Approved", "Handed over"} & set(labels)


def test_a_run_that_waits_has_no_deadline(api: FakeApi, open_page: Open) -> None:
    api.add(run := waiting())
    page = open_page(f"#/runs/{run.id}").page
    expect(page.locator("#run-status")).to_have_text("Waiting for approval")
    assert page.title() == "Waiting for approval \u00b7 space_novelist \u00b7 Baton"
    expect(page.locator("#facts")).to_contain_text("stands still until the answer")
    expect(page.locator("#facts")).not_to_contain_text("Deadline")
    run.asked[0]["expires_at"] = None
    run.asked[0]["waiting_since"] = None
    page.reload()
    page.get_by_label("Key", exact=True).fill("a-key-for-tests")
    page.keyboard.press("Enter")
    expect(cards(page)).to_be_visible()
    for word in ("Invalid", "NaN", "null", "undefined"):
        expect(page.locator("body")).not_to_contain_text(word)


def test_waiting_calls_are_above_all_else_of_a_run(api: FakeApi, open_page: Open) -> None:
    run = waiting(fields={"input": [{"role": "user", "content": "Hello"}]}).ask("look_up", "{}", "output")
    api.add(run.write("Some text"))
    page = open_page(f"#/runs/{run.id}").page
    expect(cards(page)).to_have_count(2)
    below = [page.locator(one).bounding_box() for one in ("#calls", "#input-panel", "#steps", "#text")]
    assert [box["y"] for box in below if box] == sorted(box["y"] for box in below if box)
    assert len([box for box in below if box]) == 4
    expect(cards(page).nth(1)).to_contain_text("Waits for its output")
    assert polls(api) == 0  # the run's own view has what it needs


def test_a_run_whose_calls_never_wait_costs_no_request_for_them(api: FakeApi, open_page: Open) -> None:
    api.add(run := running().tool("look_up", "{}", "found").write("Done."))
    page = open_page(f"#/runs/{run.id}").page
    expect(page.locator("#text")).to_have_text("Done.")
    run.end()
    expect(page.locator("#run-status")).to_have_text("Completed")
    page.wait_for_load_state("networkidle")
    assert calls_read(api) == 0
    expect(page.locator("#calls")).to_be_hidden()


def test_a_call_is_answered_in_the_view_of_its_run(api: FakeApi, open_page: Open) -> None:
    api.add(run := waiting().ask("delete", "{}"))
    api.retry_ms = 15_000
    page = open_page(f"#/runs/{run.id}").page
    expect(cards(page)).to_have_count(2)
    change(cards(page).first, CHANGED)
    press(cards(page).first, "Approve with this change")
    expect(page.get_by_role("heading", name="delete")).to_be_focused()
    press(cards(page).nth(1), "Refuse")
    press(cards(page).nth(1), "Refuse the call")
    # The run is read at once, and not only after the pause that the host has named.
    expect(page.locator("#run-status")).to_have_text("In progress")
    expect(page.get_by_role("heading", name="Waiting for an answer")).to_be_focused()
    page.get_by_role("button", name="Copy as curl").focus()
    page.mouse.move(5, 5)
    api.retry_ms = 50
    run.note("turn.started", turn=2).write("More.").end()
    expect(page.locator("#run-status")).to_have_text("Completed", timeout=20_000)
    expect(page.locator("#calls")).to_be_hidden()
    # What was changed can be read afterwards, too, and after the page was loaded again.
    for _ in range(2):
        page.locator("#steps li.asking summary").first.click()
        expect(page.locator("#steps")).to_contain_text("Approved with changes by you")
        expect(page.locator("#steps ins")).to_contain_text("Your new order")
        expect(page.locator("#steps del")).to_contain_text("Your order")
        page.goto("about:blank")
        page.goto(f"{api.origin}/api/dashboard#/runs/{run.id}")
        page.get_by_label("Key", exact=True).fill("a-key-for-tests")
        page.keyboard.press("Enter")
        expect(page.locator("#steps li.asking")).to_have_count(2)


def test_what_others_answer_changes_the_cards_of_a_run(api: FakeApi, open_page: Open) -> None:
    api.add(run := waiting().ask("delete", "{}").ask("third", "{}"))
    page = open_page(f"#/runs/{run.id}").page
    expect(cards(page)).to_have_count(3)
    cards(page).first.get_by_role("button", name="Approve", exact=True).focus()
    run.settle(run.asked[0], "queued", type="approved", **ANNA)
    run.settle(run.asked[1], "timed_out", type="timed_out")
    expect(cards(page).first).to_contain_text("Approved by \u2068Anna\u2069, just now")
    expect(cards(page).nth(1)).to_contain_text("Nobody answered in time")
    run.end("cancelled")
    expect(cards(page).nth(2)).to_contain_text("The run ended before an answer came.")
    expect(page.locator("#calls-count")).to_have_text("Nothing any more")
    expect(page.locator("#steps li.asking .what").last).to_have_text("Cancelledthirdthe run ended first")


@pytest.mark.parametrize(
    ("text", "is_json", "sent"),
    [
        ("It rains.", False, "It rains."),
        ('{"rain": true}', False, '{"rain": true}'),
        ('{"rain": [1, 2]}', True, {"rain": [1, 2]}),
        ("", False, ""),
    ],
)
def test_the_output_of_a_call_is_given(
    text: str, is_json: bool, sent: Any, api: FakeApi, open_page: Open
) -> None:
    api.me = ME | {"roles": ["reader", "caller"]}
    api.add(run := running().ask("weather", '{"day": 1}', "output"))
    page = open_page(f"#/runs/{run.id}").page
    press(cards(page), "Give the output")
    page.get_by_role("textbox", name="Output").fill(text)
    page.get_by_label("It is JSON").set_checked(is_json)
    press(cards(page), "Send the output")
    expect(cards(page)).to_contain_text("Output given by you")
    assert api.answers == [(run.asked[0]["id"], {"output": sent})]
    expect(page.locator("#steps li.asking")).to_contain_text("Output given by you")


def test_an_output_that_is_no_json_is_said_before_and_an_error_can_be_reported(
    api: FakeApi, open_page: Open
) -> None:
    api.add(run := running().ask("weather", "{}", "output"))
    page = open_page().page
    after_a_poll(page)
    expect(page.get_by_role("row")).to_have_count(2)
    expect(cards(page)).to_have_count(0)  # in the list, only approvals
    open_run(page, run)
    press(cards(page), "Give the output")
    page.get_by_role("textbox", name="Output").fill("{rain}")
    page.get_by_label("It is JSON").check()
    press(cards(page), "Send the output")
    expect(cards(page).get_by_role("alert")).to_contain_text("This is not valid JSON")
    press(cards(page), "Back")
    press(cards(page), "Report an error")
    press(cards(page), "Report the error")
    expect(cards(page).get_by_role("alert")).to_contain_text("Say what went wrong.")
    page.get_by_role("textbox", name="What went wrong").fill("No sensor")
    assert api.answers == []
    press(cards(page), "Report the error")
    expect(cards(page)).to_contain_text("Error reported by you")
    assert api.answers == [(run.asked[0]["id"], {"error": "No sensor"})]


def test_a_reader_cannot_give_an_output(api: FakeApi, open_page: Open) -> None:
    api.me = ME | {"roles": ["reader", "approver"]}
    api.add(run := running().ask("weather", "{}", "output"))
    page = open_page(f"#/runs/{run.id}").page
    expect(cards(page)).to_contain_text("It waits for its caller.")
    expect(cards(page).get_by_role("button").filter(visible=True)).to_have_count(0)


def test_the_timeline_shows_who_waited_and_who_answered(api: FakeApi, open_page: Open) -> None:
    run = waiting().ask("delete", "{}").ask("weather", "{}", "output").ask("late", "{}")
    api.add(run)
    page = open_page(f"#/runs/{run.id}").page
    rows = page.locator("#steps li:visible .what")
    expect(rows.filter(has_text="Waiting for people")).to_have_count(1)
    expect(rows.filter(has_text="delete")).to_have_text("Waitingdeletewaits for approval")
    expect(rows.filter(has_text="weather")).to_have_text("Waitingweatherwaits for its output")
    run.settle(run.asked[0], "queued", type="approved", **ANNA)
    run.settle(run.asked[1], "refused", type="refused", reason="Too many", **ANNA)
    run.settle(run.asked[2], "completed", type="output", by="key:me", by_name="Me")
    expect(page.locator("#steps li.people i")).to_have_class("running")
    run.settle(run.asked[3], "timed_out", type="timed_out")
    expect(page.locator("#steps li.people i")).not_to_have_class("running")
    run.tool("send_email", "{}", "sent").tool("delete", "{}", "", status="refused")
    run.tool("late", "{}", "", status="timed_out").tool("other", "{}", "", status="handed_over").end()
    expect(page.locator("#run-status")).to_have_text("Completed")
    asked = [
        "Approvedsend_emailApproved by \u2068Anna\u2069",
        "RefuseddeleteRefused by \u2068Anna\u2069: Too many",
        "Output givenweatherOutput given by you",
        "Timed outlateNobody answered in time",
    ]
    expect(page.locator("#steps li.asking .what")).to_have_text(asked)
    tools = ["Completedsend_email", "Refuseddelete", "Timed outlate", "Handed overother"]
    expect(page.locator("#steps li.tool .what")).to_have_text(tools)
    page.locator("#steps li.asking summary").nth(1).click()
    expect(page.locator("#steps details[open]")).to_contain_text("Refused by \u2068Anna\u2069")
    expect(page.locator("#steps details[open]")).to_contain_text("Too many")


def test_many_waiting_calls_leave_the_page_usable(api: FakeApi, open_page: Open) -> None:
    run = running()
    for number in range(256):
        run.ask(f"tool_{number}", json.dumps({"text": "word " * 600, "number": number}))
    api.add(run)
    page = open_page().page
    expect(cards(page)).to_have_count(25)
    expect(page.locator("#waits-count")).to_have_text("more than 25 calls")
    page.evaluate(LONGEST_TASK)
    press_more = page.get_by_role("button", name="Show more")
    for shown, first in ((50, 25), (100, 50), (200, 100), (256, 200)):
        press_more.click()
        expect(cards(page)).to_have_count(shown)
        expect(page.get_by_role("heading", name=f"tool_{first}", exact=True)).to_be_focused()
    expect(page.locator("#waits-count")).to_have_text("256 calls")
    press(cards(page).nth(255), "Approve")
    expect(page.locator("#waits-count")).to_have_text("255 calls")
    assert run.asked[255]["status"] == "queued"
    open_run(page, run)
    expect(cards(page)).to_have_count(25)
    press_more.click()
    expect(cards(page)).to_have_count(50)
    press(cards(page).nth(49), "Approve")
    expect(cards(page).nth(49)).to_contain_text("Approved by you")
    assert page.evaluate("window.longest") < 1000


@pytest.mark.parametrize("given", [LARGE, ONE_LINE, "x" * 2**20], ids=["lines", "one line", "no JSON"])
def test_long_arguments_fold(given: str, api: FakeApi, open_page: Open) -> None:
    api.add(run := running().ask("bulk", given))
    page = open_page().page
    block = cards(page).get_by_role("group", name="Arguments")
    expect(block).to_be_visible()
    assert len(block.text_content() or "") <= 2001
    page.evaluate(LONGEST_TASK)
    press(cards(page), f"Show all {len(given):,} characters")
    shown = block.text_content() or ""
    assert shown == (json.dumps(json.loads(given), indent=2) if given.startswith("{") else given)
    assert _overflow(page) <= 0
    press(cards(page), "Show less")
    assert len(block.text_content() or "") <= 2001
    # A page that lays out all of it at once needs many seconds. The limit allows for a busy machine.
    assert page.evaluate("window.longest") < 1500
    if given.startswith("{"):
        press(cards(page), "Change and approve")
        page.locator("#waits textarea").evaluate(
            """box => { box.value = box.value.replace(/x"|word "/, 'y"'); box.dispatchEvent(new Event("input")) }"""
        )
        press(cards(page), "Review the change")
        diff = cards(page).get_by_role("group", name="Change")
        assert len(diff.text_content() or "") < 1500
        expect(diff.locator("ins")).to_contain_text('y"')
        press(cards(page), "Approve with this change")
        expect(cards(page)).to_contain_text("Approved with changes")
        assert json.dumps(run.asked[0]["answer"]["arguments"]).count("y") == 1


def test_waits_are_polled_like_the_list_and_slower_when_hidden(api: FakeApi, open_page: Open) -> None:
    api.add(run := waiting())
    page = open_page().page
    expect(cards(page)).to_have_count(1)
    page.clock.install()
    page.evaluate(
        """() => {
          Object.defineProperty(document, "hidden", { value: true, configurable: true });
          document.dispatchEvent(new Event("visibilitychange"));
        }"""
    )
    api.add(waiting(2))
    page.evaluate("location.hash = '#/?status=failed'")  # a new round, with the clock of the test
    # What is shown has been read: time may pass again.
    expect(cards(page)).to_have_count(2)
    api.add(waiting(3))
    before = polls(api)
    for _ in range(50):
        page.clock.run_for(1000)
    assert polls(api) == before
    for _ in range(20):
        page.clock.run_for(1000)
    expect(cards(page)).to_have_count(3)
    assert polls(api) == before + 1
    assert run.asked[0]["status"] == "waiting"


def test_that_waits_cannot_be_read_is_said(api: FakeApi, open_page: Open) -> None:
    api.add(waiting())
    api.intercept = lambda method, target: (503, {}) if "/waits" in target else None
    page = open_page().page
    expect(page.get_by_text("What waits for you could not be read.")).to_be_visible()
    expect(page.get_by_role("row")).to_have_count(2)
    api.intercept = lambda method, target: None
    expect(cards(page)).to_have_count(1)
    expect(page.get_by_text("What waits for you could not be read.")).to_be_hidden()


def test_a_role_that_is_taken_away_ends_the_requests(api: FakeApi, open_page: Open) -> None:
    api.add(waiting())
    page = open_page().page
    expect(cards(page)).to_have_count(1)
    api.me = ME | {"roles": ["reader", "caller"]}
    expect(cards(page)).to_have_count(0)
    seen = polls(api)
    with page.expect_response(lambda response: "/api/runs?" in response.url):
        pass
    with page.expect_response(lambda response: "/api/runs?" in response.url):
        pass
    assert polls(api) == seen


def test_who_the_caller_is_is_asked_again_when_the_host_cannot_be_reached(
    api: FakeApi, open_page: Open
) -> None:
    api.add(waiting())
    failing = [(503, {})] * 2
    api.intercept = lambda method, target: failing.pop() if failing and target == "/api/me" else None
    page = open_page().page
    expect(cards(page)).to_have_count(1)


def test_another_key_does_not_see_what_was_entered_with_the_first(api: FakeApi, open_page: Open) -> None:
    api.add(waiting())
    page = open_page().page
    press(cards(page), "Refuse")
    page.keyboard.type("A secret reason")
    api.me = caller_view("reader", "approver", owner="key:other", recognised_by="api_key")
    page.get_by_role("button", name="Key", exact=True).click()
    page.get_by_label("Key", exact=True).fill("a-key-for-tests")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Owner key:other")).to_have_count(0)
    expect(page.locator("textarea").filter(has_text="A secret reason")).to_have_count(0)
    expect(cards(page).get_by_role("button", name="Refuse")).to_be_visible()
    press(cards(page), "Refuse")
    expect(page.get_by_role("textbox", name="Reason")).to_have_value("")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_cards_keep_the_contrast_and_their_names(scheme: str, api: FakeApi, open_page: Open) -> None:
    theirs(api, waiting(1))
    api.add(run := waiting(2).ask("delete", "\u202e").ask("weather", "{}", "output"))
    page = open_page(color_scheme=scheme).page
    expect(cards(page)).to_have_count(3)
    expect(cards(page).nth(2)).to_contain_text("characters that are not visible")
    expect(cards(page).first).not_to_contain_text("characters that are not visible")
    change(cards(page).first, CHANGED)
    press(cards(page).nth(1), "Refuse")
    change(cards(page).nth(2), "{")
    _check_contrast(page)
    assert page.evaluate(NAMELESS) == []
    open_run(page, run)
    change(cards(page).first, CHANGED)
    press(cards(page).first, "Approve with this change")
    press(cards(page).nth(2), "Give the output")
    page.locator("#steps li.asking summary").first.click()
    expect(page.locator("#steps ins")).to_be_visible()
    _check_contrast(page)
    assert page.evaluate(NAMELESS) == []
    live = page.evaluate(
        "[...document.querySelectorAll('[aria-live], [role=status], [role=log]')].map(one => one.id)"
    )
    assert live == ["announcer"]


@pytest.mark.parametrize("width", [320, 390])
def test_cards_fit_on_a_phone(width: int, api: FakeApi, open_page: Open) -> None:
    long = "x" * 400
    given = json.dumps({long: long})
    run = waiting(1, agent=long).ask(long, given).ask(long, long, "output")
    theirs(api, FakeRun(2, agent=long).ask(long, given))
    api.owners = dict.fromkeys(api.owners, long)
    api.add(run, finished(3))
    page = open_page(viewport={"width": width, "height": 640}).page
    expect(cards(page)).to_have_count(3)
    change(cards(page).nth(1), given.replace("xxx", "xyx", 1))
    assert _overflow(page) <= 0
    assert page.evaluate(
        "document.querySelector('#waits pre').scrollWidth <= document.querySelector('#waits pre').clientWidth"
    )
    open_run(page, run)
    expect(cards(page)).to_have_count(3)
    press(cards(page).nth(2), "Report an error")
    page.locator("#steps li.asking summary").nth(1).click()
    assert _overflow(page) <= 0


def test_a_run_that_begins_to_wait_is_announced(api: FakeApi, open_page: Open) -> None:
    api.add(run := running())
    page = open_page(f"#/runs/{run.id}").page
    expect(page.locator("#run-status")).to_have_text("In progress")
    page.evaluate(SAID)
    run.ask("send_email", "{}")
    expect(cards(page)).to_have_count(1)
    assert page.evaluate("window.said") == ["Run waiting for approval"]
