"""The timeline of a run: turns with their model and tokens, tool calls, waiting, and what was tried again."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.fake_api import FakeApi
from tests.browser.fake_run import FakeRun, running, used

pytestmark = pytest.mark.xdist_group("browser")


def two_turns(**total: int) -> FakeRun:
    run = running(fields={"usage": used(1000, 500)})
    run.note("turn.started", turn=1, response_id="a", model="gpt-5")
    run.note("turn.completed", 2, turn=1, tool_calls=1, **total).tool("look_up", "{}", "4", seconds=0.42)
    return run.note("turn.started", 1, turn=2, response_id="b", model="gpt-5").write("Done.", every=3)


def test_turns_are_named_with_model_and_tokens(api: FakeApi, open_page: Open) -> None:
    api.add(run := two_turns(total_tokens=266))
    page = open_page(f"#/runs/{run.id}").page
    names = page.locator("#steps li:visible .what > bdi")
    expect(names).to_have_text(
        ["Queued", "Turn 1 \u00b7 gpt-5 \u00b7 266 tokens", "look_up", "Turn 2 \u00b7 gpt-5", "Writing"]
    )
    run.end()
    expect(names.nth(3)).to_have_text("Turn 2 \u00b7 gpt-5 \u00b7 1,234 tokens")
    expect(page.locator("#steps li.tool .long")).to_have_text("420 ms")


def test_calls_of_two_turns_may_have_the_same_id(api: FakeApi, open_page: Open) -> None:
    run = running().note("turn.started", turn=1, model="m").tool("look_up", "{}", "4", seconds=3, call_id="0")
    run.note("turn.started", 1, turn=2, model="m").tool("add", "{}", "5", seconds=7, call_id="0", turn=2)
    run.note("turn.started", 1, turn=3, model="m")
    # A call that was refused has never started.
    refused = {"turn": 3, "call_id": "0", "name": "pay", "status": "refused"}
    run.note("tool.completed", **refused, output="No.")
    run.calls.append(refused | {"started_at": None, "completed_at": run.events[-1]["at"]})
    api.add(run.end())
    page = open_page(f"#/runs/{run.id}").page
    rows = page.locator("#steps li.tool")
    expect(rows.locator(".what > bdi")).to_have_text(["look_up", "add", "pay"])
    expect(rows.locator(".long").nth(0)).to_have_text("3.0 s")
    expect(rows.locator(".long").nth(1)).to_have_text("7.0 s")
    expect(rows.nth(1)).to_contain_text("Completed")
    expect(rows.nth(2)).to_contain_text("Refused")


def test_turns_of_old_runs_have_only_a_number(api: FakeApi, open_page: Open) -> None:
    api.add(run := two_turns().end())
    for event in run.events:
        event.pop("model", None)
    page = open_page(f"#/runs/{run.id}").page
    expect(page.locator("#steps li.turn .what")).to_have_text(["Turn 1", "Turn 2"])


def test_waiting_and_repeated_tries_are_rows(api: FakeApi, open_page: Open) -> None:
    why = {"code": "rate_limited", "message": "The provider answered HTTP 429. Slow down."}
    run = running(fields={"waiting_for": why}).note("turn.create_repeated", turn=1).note("run.waiting", **why)
    api.add(run)
    page = open_page(f"#/runs/{run.id}").page
    rows = page.locator("#steps li:visible")
    expect(rows.nth(1)).to_contain_text("Turn 1: created again, because a worker had stopped")
    expect(rows.nth(2)).to_contain_text("Waiting: rate_limited")
    expect(rows.nth(2)).to_contain_text("Slow down.")
    expect(rows.nth(2).locator("i")).to_have_class("running")
    run.note("turn.replayed", 1, turn=1).note("turn.started", 3, turn=1, model="gpt-5").write("Done.")
    page.locator("#text").get_by_text("Done.").wait_for()
    run.end(waiting_for=None)
    expect(page.locator("#run-status")).to_have_text("Completed")
    expect(rows.nth(3)).to_contain_text("Turn 1: sent again with the complete conversation")
    expect(rows.nth(2).locator(".long")).to_have_text("4.0 s")
    expect(rows.nth(2).locator("i")).not_to_have_class("running")
    expect(rows.nth(4)).to_contain_text("Turn 1 \u00b7 gpt-5")


def test_waiting_ends_with_any_other_event(api: FakeApi, open_page: Open) -> None:
    why = {"code": "provider_unreachable", "message": "No answer."}
    api.add(run := running(fields={"waiting_for": why}).note("run.waiting", **why))
    page = open_page(f"#/runs/{run.id}").page
    bar = page.locator("#steps li.waiting i")
    expect(bar).to_have_class("running")
    run.fields["waiting_for"] = None
    run.note("item.of.the.future")
    expect(bar).not_to_have_class("running")


def test_a_joined_text_and_usage_that_is_not_known_are_told(api: FakeApi, open_page: Open) -> None:
    run = running(fields={"usage": None}).note("turn.started", turn=1, model="small").write("One ")
    for join in ("exact", "best_effort"):
        run.note("turn.joined", 1, turn=1, characters=4, join=join)
    api.add(run.write("two.").end())
    page = open_page(f"#/runs/{run.id}").page
    joined = page.locator("#steps li:visible").filter(has_text="the text goes on where it stopped")
    exact, loose = joined.nth(0).locator(".what"), joined.nth(1).locator(".what")
    expect(exact).to_have_text("Turn 1: the text goes on where it stopped")
    expect(loose).to_have_text("Turn 1: the text goes on where it stopped, as well as the provider can")
    expect(page.locator("#usage")).to_have_text("Totalnot known")
    expect(page.locator("#text")).to_have_text("One two.")
