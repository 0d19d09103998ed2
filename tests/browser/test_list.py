"""The list of runs: what it says of each, and how runs are found."""

from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.fake_api import FakeApi
from tests.browser.fake_run import FakeRun, finished, used

pytestmark = pytest.mark.xdist_group("browser")


def ended(number: int, *, seconds: float, **fields: object) -> FakeRun:
    created = datetime.now(UTC) - timedelta(minutes=5)
    return FakeRun(number, created=created, fields=fields).note("run.queued").end(later=seconds)


@pytest.mark.parametrize(
    ("seconds", "duration"), [(0.42, "420 ms"), (0.9996, "1.0 s"), (3.21, "3.2 s"), (150, "2 min 30 s")]
)
def test_a_row_has_excerpt_duration_and_tokens(
    seconds: float, duration: str, api: FakeApi, open_page: Open
) -> None:
    api.add(ended(1, seconds=seconds, input_excerpt="A novel about ice\u2026", usage=used(1000, 234)))
    row = open_page().page.get_by_role("row").last
    expect(row.get_by_role("rowheader")).to_contain_text("A novel about ice\u2026")
    expect(row.locator("td.took")).to_have_text(duration)
    expect(row.locator("td.tokens")).to_have_text("1,234")


def test_a_host_without_the_new_fields_is_shown_too(api: FakeApi, open_page: Open) -> None:
    api.add(run := ended(1, seconds=3.21))
    summary = {
        k: v for k, v in run.summary().items() if k not in {"input_excerpt", "duration_seconds", "retry_of"}
    }
    view = {k: v for k, v in run.view().items() if k in summary}

    def intercept(method: str, target: str) -> tuple[int, object] | None:
        if target.startswith("/api/runs?"):
            return 200, {"data": [summary]}
        return (200, view) if target == f"/api/runs/{run.id}" else None

    api.intercept = intercept
    page = open_page().page
    expect(page.locator("td.took")).to_have_text("3.2 s")
    page.get_by_role("link", name="space_novelist").click()
    expect(page.locator("#run-status")).to_have_text("Completed")
    expect(page.locator("#input-panel")).to_be_hidden()


def test_runs_are_found_by_id_session_and_metadata(api: FakeApi, open_page: Open) -> None:
    api.add(one := finished(1, fields={"metadata": {"reader": "harbour = library", "x": "1"}}), finished(2))
    page = open_page().page
    search = page.get_by_role("searchbox", name="Search")
    rows = page.get_by_role("row")
    expect(rows).to_have_count(3)
    search.fill(" reader = harbour = library ")
    search.press("Enter")
    expect(rows).to_have_count(2)
    expect(page.get_by_text("reader=harbour = library")).to_be_visible()
    search.fill("x=2")
    search.press("Enter")
    expect(page.get_by_text("No run matches.")).to_be_visible()
    page.get_by_role("button", name="Show all", exact=True).last.click()
    expect(rows).to_have_count(2)
    page.get_by_role("button", name="Show all", exact=True).click()
    expect(rows).to_have_count(3)
    search.fill(one.session)
    page.get_by_role("button", name="Search").click()
    expect(rows).to_have_count(2)
    search.fill(one.id)
    search.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("space_novelist")
    page.get_by_role("link", name="harbour = library").click()  # the metadata of a run lead to its like
    expect(rows).to_have_count(2)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("run_0d7ybqmng", "\u201c\u2068run_0d7ybqmng\u2069\u201d is not an id."),
        ("run_03" + "l" * 26, "is not an id."),
        ("novel", "is not an id."),
        ("=value", "Metadata is searched as key=value"),
        ("k" * 65 + "=v", "at most 64 characters"),
    ],
)
def test_what_cannot_be_found_is_said_in_a_sentence(
    text: str, sentence: str, api: FakeApi, open_page: Open
) -> None:
    page = open_page().page
    page.get_by_role("searchbox", name="Search").fill(text)
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#search-wrong")).to_contain_text(sentence)
    expect(page.get_by_role("searchbox", name="Search")).to_have_value(text)
    assert [path for _, path, _ in api.requests if text[:9] in path] == []


def test_an_address_with_a_malformed_id_is_said_in_a_sentence(api: FakeApi, open_page: Open) -> None:
    page = open_page("#/runs/run_1").page
    expect(page.get_by_role("alert").get_by_text("is not an id.")).to_be_visible()
    expect(page.get_by_text("No runs yet.")).to_be_visible()


def test_runs_are_found_by_time(api: FakeApi, open_page: Open) -> None:
    api.add(finished(1), finished(2, minutes=90), finished(3, minutes=60 * 30))
    page = open_page().page
    rows = page.get_by_role("row")
    expect(rows).to_have_count(4)
    started = page.get_by_label("Started")
    started.select_option("In the last hour")
    expect(rows).to_have_count(2)
    started.select_option("In the last day")
    expect(rows).to_have_count(3)
    started.select_option("Between\u2026")
    page.get_by_label("From").fill(_ago(3))
    page.get_by_label("To", exact=True).fill(_ago(1))
    expect(rows).to_have_count(2)
    page.reload()
    page.get_by_label("Key", exact=True).fill(api.key)
    page.keyboard.press("Enter")
    expect(rows).to_have_count(2)
    expect(page.get_by_label("From")).to_have_value(_ago(3))
    page.get_by_label("From").fill(_ago(0))
    expect(page.get_by_text("The time in From must be before that in To.")).to_be_visible()
    started.select_option("At any time")
    expect(rows).to_have_count(4)


def _ago(hours: int) -> str:
    """Return a time as a field for local times has it."""
    return (datetime.now().astimezone() - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M")


def test_an_empty_page_leads_to_the_next(api: FakeApi, open_page: Open) -> None:
    api.add(finished(1))
    empty = {"data": [], "nextLink": "http://elsewhere.invalid/api/runs?cursor=0"}
    api.intercept = lambda method, target: (
        (200, empty) if target.startswith("/api/runs?") and "cursor" not in target else None
    )
    page = open_page().page
    expect(page.get_by_text("No run on this page matches.")).to_be_visible()
    page.get_by_role("button", name="Look further").click()
    expect(page.get_by_role("row")).to_have_count(2)
    expect(page.locator("#page-number")).to_have_text("Page 2")
