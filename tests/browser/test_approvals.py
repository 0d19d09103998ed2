"""Calls that wait for an approval: people see them first, and answer them on the page."""

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Open
from tests.browser.fake_api import BREAK_OFF, Answer, FakeApi, caller_view
from tests.browser.fake_calls import problem
from tests.browser.fake_run import EMAIL, FakeRun, finished, running, waiting
from tests.browser.test_access import SAID

pytestmark = pytest.mark.xdist_group("browser")

ME = caller_view(owner="key:me", name="Me", recognised_by="api_key")
ANNA = {"by": "key:anna", "by_name": "Anna"}
CHANGED = EMAIL.replace("Your order", "Your new order").replace("7890}", "7891}")


@pytest.fixture(autouse=True)
def me(api: FakeApi) -> None:
    api.me = ME


def theirs(api: FakeApi, *runs: FakeRun) -> None:
    """Add runs of another owner."""
    api.add(*runs)
    api.owners |= {run.id: "key:anna" for run in runs}


def cards(page: Page) -> Locator:
    return page.get_by_role("region", name="Waiting for").get_by_role("listitem")


def press(card: Locator, name: str) -> None:
    card.get_by_role("button", name=name, exact=True).click()


def change(card: Locator, text: str) -> None:
    press(card, "Change and approve")
    card.get_by_role("textbox", name="Changed arguments").fill(text)
    press(card, "Review the change")


def polls(api: FakeApi) -> int:
    return sum(target.startswith("/api/waits") for _, target, _ in api.requests)


def after_a_poll(page: Page) -> None:
    """Wait until what waits was read again."""
    with page.expect_response(lambda response: "/api/waits" in response.url):
        pass
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def answers(api: FakeApi, code: str, status: int = 409, **more: Any) -> None:
    """Let each answer be refused."""
    refused = problem(status, code, "A sentence of the host.", **more)
    api.intercept = lambda method, target: refused if method == "POST" else None


def test_what_waits_is_seen_first_and_in_full(api: FakeApi, open_page: Open) -> None:
    theirs(api, other := waiting(1, minutes=90, agent="market_analyst"))
    api.add(waiting(2, minutes=3).ask("note", "<b>no JSON</b>"), *[finished(n) for n in range(10, 20)])
    page = open_page(viewport={"width": 1280, "height": 800}).page
    expect(cards(page)).to_have_count(3)
    first = cards(page).first
    expect(page.get_by_role("heading", name="Waiting for you")).to_be_in_viewport()
    expect(first.get_by_role("button", name="Approve", exact=True)).to_be_in_viewport()
    expect(first).to_contain_text(
        re.compile(
            f"send_email.*market_analyst.*{other.id}.*Owner key:anna.*asked 1 h ago.*until .*in 7 days"
        )
    )
    assert (first.get_by_role("group", name="Arguments").text_content() or "").split("\n") == [
        "{",
        '  "to": "anna@example.com",',
        '  "subject": "Your order",',
        '  "copies": 12345678901234567890',
        "}",
    ]
    expect(cards(page).nth(2).get_by_role("group", name="Arguments")).to_have_text("<b>no JSON</b>")
    expect(cards(page).nth(1)).not_to_contain_text("Owner")
    assert first.get_by_role("link").count() == 0  # the run of another owner cannot be read
    page.get_by_role("button", name="To the runs").click()
    expect(page.get_by_role("heading", name="Runs", exact=True)).to_be_focused()
    expect(page.get_by_role("row")).to_have_count(12)
    cards(page).nth(1).get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("space_novelist")


UNSEEN = "\u00ad \u034f \u061c \u115f \u17b4 \u180e \u200b \u200e \u2028 \u202e \u2064 \u206a \u2800 \u3164 \ufe00 \ufeff \ufff9 \x85 \U000e0041 \U000e0100"


def test_arguments_that_look_like_others_have_a_warning(api: FakeApi, open_page: Open) -> None:
    harmless = '{"to": "Zoë \u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \U0001f469\u200d\U0001f680 \u2764\ufe0f 1\ufe0f\u20e3"}'
    hidden = [f'{{"order": "A-1{each}"}}' for each in [*UNSEEN.split(" "), "\u200c", "\u200d", "\ufe0f"]]
    run = waiting(1)
    for text in [harmless, *hidden]:
        run.ask("refund", text)
    theirs(api, run)
    page = open_page().page
    expect(page.get_by_text("characters that are not visible")).to_have_count(len(hidden))
    expect(cards(page).nth(1)).not_to_contain_text("characters that are not visible")


def test_who_may_not_approve_requests_nothing(api: FakeApi, open_page: Open) -> None:
    api.me = ME | {"roles": ["reader", "caller", "admin"]}
    api.add(run := waiting())
    page = open_page().page
    expect(page.get_by_role("row")).to_have_count(2)
    page.evaluate("to => { location.hash = to }", f"#/runs/{run.id}")
    expect(cards(page)).to_contain_text("It waits for somebody with the role approver.")
    assert cards(page).get_by_role("button").filter(visible=True).count() == 0
    page.go_back()
    with page.expect_response(lambda response: "/api/runs?" in response.url):
        pass
    assert polls(api) == 0
    expect(page.get_by_role("heading", name="Waiting for you")).to_have_count(0)


def test_an_approver_who_may_do_nothing_else_can_answer(api: FakeApi, open_page: Open) -> None:
    api.me = ME | {"roles": ["reader", "approver"]}
    theirs(api, run := waiting())
    page = open_page().page
    expect(page.get_by_text("Reads and approves")).to_be_visible()
    press(cards(page), "Approve")
    expect(cards(page)).to_contain_text("Approved by you")
    assert run.asked[0]["answer"]["by"] == "key:me"


def test_nothing_is_shown_when_nothing_waits(api: FakeApi, open_page: Open) -> None:
    api.add(finished())
    page = open_page().page
    expect(page.get_by_role("row")).to_have_count(2)
    after_a_poll(page)
    expect(page.get_by_role("heading", name="Waiting for you")).to_have_count(0)
    assert page.title() == "Runs \u00b7 Baton"
    page.evaluate(SAID)
    api.add(waiting())
    expect(cards(page)).to_have_count(1)
    assert page.title() == "(1) Runs \u00b7 Baton"
    assert page.evaluate("window.said") == ["1 call waits for you"]


def test_calls_are_answered_one_after_the_other_with_the_keyboard(api: FakeApi, open_page: Open) -> None:
    api.add(run := waiting(minutes=5).ask("second", "{}").ask("third", "{}"))
    page = open_page().page
    expect(cards(page)).to_have_count(3)
    page.evaluate(SAID)
    cards(page).first.get_by_role("button", name="Approve", exact=True).focus()
    page.keyboard.press("Enter")
    # The focus is on the next call, where one sees what it is before it is answered.
    expect(page.get_by_role("heading", name="second")).to_be_focused()
    page.keyboard.press("Enter")
    for name in (run.id, "Arguments", "Approve", "Change and approve", "Refuse"):
        page.keyboard.press("Tab")
        expect(page.locator(":focus")).to_have_accessible_name(name)
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.get_by_role("textbox", name="Reason")).to_be_focused()
    page.keyboard.type("Too expensive")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="third")).to_be_focused()
    page.get_by_role("group", name="third").get_by_role("button", name="Refuse").press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Waiting for you")).to_be_focused()
    said = [
        "Approved by you, just now: send_email",
        "Refused by you, just now: second",
        "Refused by you, just now: third",
    ]
    assert page.evaluate("window.said") == said
    ids = [asked["id"] for asked in run.asked]
    bodies = [{"approve": True}, {"approve": False, "reason": "Too expensive"}, {"approve": False}]
    assert api.answers == list(zip(ids, bodies, strict=True))
    # The answered calls stay while the focus is among them, and leave after it.
    after_a_poll(page)
    expect(cards(page)).to_have_count(3)
    expect(cards(page).nth(1)).to_contain_text("Too expensive")
    page.get_by_role("searchbox").focus()
    expect(cards(page)).to_have_count(0)


def test_back_closes_a_form_and_keeps_its_text(api: FakeApi, open_page: Open) -> None:
    api.add(waiting())
    page = open_page().page
    press(cards(page), "Refuse")
    page.keyboard.type("Because")
    press(cards(page), "Back")
    expect(cards(page).get_by_role("button", name="Refuse")).to_be_focused()
    press(cards(page), "Refuse")
    expect(page.get_by_role("textbox", name="Reason")).to_have_value("Because")
    page.evaluate("location.hash = '#/?status=failed'")  # neither a filter nor a poll takes it
    after_a_poll(page)
    expect(page.get_by_role("textbox", name="Reason")).to_have_value("Because")
    assert api.answers == []


def test_changed_arguments_are_reviewed_before_they_are_sent(api: FakeApi, open_page: Open) -> None:
    api.add(run := waiting())
    page = open_page().page
    card = cards(page)
    change(card, CHANGED)
    diff = card.get_by_role("group", name="Change")
    expect(diff).to_be_focused()
    assert diff.locator("del > div").all_text_contents() == [
        '-   "subject": "Your order",\n-   "copies": 12345678901234567890'
    ]
    assert diff.locator("ins > div").all_text_contents() == [
        '+   "subject": "Your new order",\n+   "copies": 12345678901234567891'
    ]
    assert api.answers == []
    # Another change has to be seen, too.
    card.get_by_role("textbox").fill(CHANGED.replace("new", "newest"))
    expect(diff).to_have_count(0)
    press(card, "Review the change")
    card.get_by_role("textbox").fill(CHANGED)
    press(card, "Review the change")
    press(card, "Approve with this change")
    expect(card).to_contain_text("Approved with changes by you")
    # Numbers are sent, and shown, as they were written.
    assert run.asked[0]["answer"]["arguments"]["copies"] == 12345678901234567891
    expect(diff.locator("ins")).to_contain_text("12345678901234567891")
    expect(diff.locator("del")).to_contain_text("Your order")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"to": ', "This is not valid JSON: "),
        ("", "This is not valid JSON: "),
        ('["a"]', "Arguments are a JSON object"),
        ("null", "Arguments are a JSON object"),
        (EMAIL, "Nothing is changed."),
        (EMAIL.replace(", ", ",\n\n"), "Nothing is changed."),
    ],
)
def test_arguments_that_cannot_be_sent_are_said_before(
    text: str, sentence: str, api: FakeApi, open_page: Open
) -> None:
    api.add(waiting())
    page = open_page().page
    change(cards(page), text)
    expect(cards(page).get_by_role("alert")).to_contain_text(sentence)
    expect(page.get_by_role("textbox", name="Changed arguments")).to_be_focused()
    expect(page.get_by_role("textbox", name="Changed arguments")).to_have_value(text)
    assert api.answers == []


@pytest.mark.parametrize(
    ("status", "code", "sentence"),
    [
        (422, "arguments_fixed", "The arguments of this call cannot be changed."),
        (422, "invalid_arguments", "A sentence of the host."),
        (403, "role_missing", "You may not answer this call. A sentence of the host."),
        (503, "storage_unavailable", "A sentence of the host."),
        (0, "", "The host cannot be reached. Try again: nothing is done twice."),
    ],
)
def test_an_answer_that_was_not_taken_can_be_given_again(
    status: int, code: str, sentence: str, api: FakeApi, open_page: Open
) -> None:
    api.add(run := waiting())
    answers(api, code, status)
    if not status:
        api.intercept = lambda method, target: BREAK_OFF if method == "POST" else None
    page = open_page().page
    change(cards(page), CHANGED)
    press(cards(page), "Approve with this change")
    expect(cards(page).get_by_role("alert")).to_have_text(re.compile(re.escape(sentence)))
    expect(page.get_by_role("button", name="Approve with this change")).to_be_focused()
    expect(page.get_by_role("textbox", name="Changed arguments")).to_have_value(CHANGED)
    api.intercept = lambda method, target: None
    press(cards(page), "Approve with this change")
    expect(cards(page)).to_contain_text("Approved with changes by you")
    assert run.asked[0]["answer"]["arguments"] == json.loads(CHANGED)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("wait_ended", "The time for an answer is over."),
        ("run_ended", "The run has ended."),
        ("run_cancelling", "The run is being cancelled."),
        ("call_not_waiting", "The call does not wait."),
        ("call_not_found", "The call is not there any more."),
    ],
)
def test_an_answer_that_is_too_late_is_said_and_its_text_stays(
    code: str, sentence: str, api: FakeApi, open_page: Open
) -> None:
    api.add(waiting().ask("second", "{}"))
    answers(api, code, 404 if code == "call_not_found" else 409)
    page = open_page().page
    card = cards(page).first
    press(card, "Refuse")
    page.keyboard.type("A long reason")
    press(card, "Refuse the call")
    expect(card).to_contain_text(f"{sentence} Your answer was not taken.")
    expect(card).to_contain_text("A sentence of the host.")
    expect(page.get_by_role("status")).to_contain_text(sentence)
    expect(card.get_by_role("textbox")).to_have_value("A long reason")
    expect(card.get_by_role("textbox")).not_to_be_editable()
    assert [one.text_content() for one in card.get_by_role("button").filter(visible=True).all()] == ["Close"]
    press(card, "Close")
    expect(card.get_by_role("heading")).to_be_focused()
    expect(cards(page).nth(1).get_by_role("button", name="Approve", exact=True)).to_be_visible()


@pytest.mark.parametrize("own", [True, False])
def test_two_people_with_different_answers(own: bool, api: FakeApi, open_page: Open) -> None:
    run = waiting()
    api.add(run) if own else theirs(api, run)
    page = open_page().page
    expect(cards(page)).to_have_count(1)
    run.settle(run.asked[0], "refused", type="refused", reason="Not today", **ANNA)
    press(cards(page), "Approve")
    expect(cards(page)).to_contain_text("It has been answered already. Your answer was not taken.")
    # An approver may not read the run of somebody else, so the host's sentence has to be enough.
    said = "Refused by \u2068Anna\u2069, just now" if own else "Another answer was given."
    expect(cards(page)).to_contain_text(said)
    expect(page.get_by_role("status")).to_contain_text(said)
    if own:
        expect(cards(page)).to_contain_text("Not today")
    expect(cards(page).get_by_role("button").filter(visible=True)).to_have_count(0)
    assert page.evaluate("document.activeElement.textContent").startswith("It has been answered already.")


def test_two_people_with_the_same_answer(api: FakeApi, open_page: Open) -> None:
    theirs(api, run := waiting())
    page = open_page().page
    expect(cards(page)).to_have_count(1)
    run.settle(run.asked[0], "queued", type="approved", **ANNA)
    press(cards(page), "Approve")
    expect(cards(page)).to_contain_text("Approved by \u2068Anna\u2069, just now")
    expect(cards(page)).to_contain_text("Your answer was the same.")
    expect(page.get_by_role("status")).to_contain_text("Your answer was the same.")


def test_a_lost_reply_is_repeated_and_counts_once(api: FakeApi, open_page: Open) -> None:
    api.add(run := waiting())
    lost: list[Answer] = [BREAK_OFF]
    api.intercept = lambda method, target: lost.pop() if method == "POST" and lost else None
    page = open_page().page
    press(cards(page), "Approve")
    expect(cards(page).get_by_role("alert")).to_contain_text("The host cannot be reached.")
    press(cards(page), "Approve")
    expect(cards(page)).to_contain_text("Approved by you")
    assert len(api.answers) == 2
    assert run.asked[0]["status"] == "queued"


def test_a_call_that_is_answered_elsewhere_leaves_but_no_text_and_no_place(
    api: FakeApi, open_page: Open
) -> None:
    runs = [waiting(n, minutes=20 - n) for n in range(3)]
    api.add(*runs)
    page = open_page().page
    expect(cards(page)).to_have_count(3)
    press(cards(page).nth(1), "Refuse")
    page.keyboard.type("A reason")
    target = cards(page).nth(2).get_by_role("button", name="Approve", exact=True)
    target.hover()
    before = target.bounding_box()
    for run in runs[:2]:
        run.settle(run.asked[0], "refused", type="refused", **ANNA)
    expect(cards(page).first).to_contain_text("It waits no longer: somebody else has answered it")
    expect(cards(page).nth(1)).to_contain_text("it waits no longer")
    expect(cards(page)).to_have_count(3)
    assert target.bounding_box() == before
    page.mouse.move(5, 5)
    page.get_by_role("searchbox").focus()
    expect(cards(page)).to_have_count(2)
    expect(page.get_by_role("textbox", name="Reason")).to_have_value("A reason")


def test_changes_are_not_offered_where_they_cannot_be_made(api: FakeApi, open_page: Open) -> None:
    api.add(running().ask("ask_question", "{}", arguments_fixed=True, server_label="deepwiki"))
    page = open_page().page
    expect(cards(page)).to_contain_text("MCP server deepwiki")
    buttons = [one.text_content() for one in cards(page).get_by_role("button").filter(visible=True).all()]
    assert buttons == ["Approve", "Refuse"]


def test_the_second_click_of_a_double_click_approves_nothing(api: FakeApi, open_page: Open) -> None:
    api.add(run := waiting().ask("second", "{}"))
    page = open_page().page
    # The first click may have removed a card, so that the second one meets the button of another call.
    cards(page).nth(1).get_by_role("button", name="Approve", exact=True).dispatch_event(
        "click", {"detail": 2}
    )
    cards(page).first.get_by_role("button", name="Approve", exact=True).dblclick()
    expect(page.get_by_role("status")).to_contain_text("Approved")
    after_a_poll(page)
    assert [asked["status"] for asked in run.asked] == ["queued", "waiting"]
    assert len(api.answers) == 1
