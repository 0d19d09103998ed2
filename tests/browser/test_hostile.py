"""Texts with markup and scripts: the page shows them as text, and executes nothing."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.chromium import enter_key, watch
from tests.browser.conftest import Open
from tests.browser.fake_api import AGENTS, KEY, Answer, FakeApi
from tests.browser.fake_run import FakeRun

pytestmark = pytest.mark.xdist_group("browser")

TEXTS = [
    one["text"] * one.get("times", 1)
    for one in json.loads(Path(__file__).with_name("hostile.json").read_text(encoding="utf-8"))
]
BATCH = 12
SHOWN = """() => {
  const texts = (selector) => [...document.querySelectorAll(selector)].map((one) => one.textContent);
  return {
    text: document.getElementById("text").textContent,
    given: texts(".call pre:nth-of-type(1)"), got: texts(".call pre:nth-of-type(2)"), tools: texts("summary bdi.mono"),
    names: texts("#metadata dt"), values: texts("#metadata dd"),
    code: texts("#error-code"), message: texts("#error-message"), agent: texts("#run-title"),
  };
}"""


def batches() -> list[list[str]]:
    return [TEXTS[at : at + BATCH] for at in range(0, len(TEXTS), BATCH)]


def hostile_run(number: int, texts: list[str]) -> FakeRun:
    run = FakeRun(number, agent=texts[0]).note("run.queued").note("turn.started", turn=1)
    for text in texts:
        run.tool(text, text, text).write(text)
    # Metadata is an object, so each name is in it once.
    run.fields["metadata"] = dict.fromkeys(texts, texts[-1])
    return run.end("failed", error={"code": texts[0], "message": "".join(texts)})


def shown_of(run: FakeRun, texts: list[str]) -> dict[str, object]:
    return {
        "text": "".join(texts),
        "given": texts,
        "got": texts,
        "tools": texts,
        "names": list(run.fields["metadata"]),
        "values": list(run.fields["metadata"].values()),
        "code": [texts[0]],
        "message": ["".join(texts)],
        "agent": [texts[0]],
    }


def open_run(page: Page, run: FakeRun) -> None:
    page.evaluate("to => { location.hash = to }", f"#/runs/{run.id}")
    page.locator("#run-status", has_text="Failed").wait_for()
    page.locator("#run-error").wait_for()
    expect(page.locator("#steps pre")).to_have_count(2 * len(run.calls))
    expect(page.locator("#text")).not_to_be_empty()


def test_there_are_enough_texts() -> None:
    assert len(TEXTS) == len(set(TEXTS)) >= 150


@pytest.mark.parametrize("csp", [True, False], ids=["with CSP", "without CSP"])
def test_texts_are_shown_unchanged_and_nothing_is_executed(csp: bool, api: FakeApi, open_page: Open) -> None:
    api.csp = csp
    runs = [(hostile_run(number, texts), texts) for number, texts in enumerate(batches())]
    api.add(*[run for run, _ in runs])
    page = open_page().page
    page.locator("tbody tr").nth(len(runs) - 1).wait_for()
    assert set(page.locator("tbody .name").all_text_contents()) == {texts[0] for _, texts in runs}
    for run, texts in runs:
        open_run(page, run)
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        expected = shown_of(run, texts)
        shown = page.evaluate(SHOWN)
        for what, text in expected.items():
            assert shown[what] == text, what
        page.mouse.move(300, 500)
        assert page.evaluate("window.__pwned") is None
    page.wait_for_load_state("networkidle")
    assert page.url == f"{api.origin}/api/dashboard#/runs/{runs[-1][0].id}"


@pytest.mark.parametrize("csp", [True, False], ids=["with CSP", "without CSP"])
def test_agents_problems_and_progress_are_shown_as_text_too(
    csp: bool, api: FakeApi, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.csp = csp
    agents = [AGENTS[0] | {"name": text, "description": text} for text in TEXTS]
    everything = "".join(TEXTS[:100])
    problem = {"title": "x", "detail": everything, "field": "constructor"}

    def intercept(method: str, target: str) -> Answer | None:
        if target == "/api/agents":
            return 200, {"data": agents}
        return (422, problem) if method == "POST" else None

    api.intercept = intercept
    waiting = FakeRun(1).note("run.queued")
    waiting.fields["progress"] = {"characters": 0, "items": 0, "activity": everything}
    waiting.fields["status"] = TEXTS[0]
    api.add(waiting)
    page = open_page().page
    page.locator("tbody tr").first.wait_for()
    assert page.locator("td.activity").text_content() == everything
    assert page.locator("td.state").text_content() == TEXTS[0]
    page.locator("#new-run").click()
    assert page.locator("#start-agent option").all_text_contents() == TEXTS
    for index in range(0, len(TEXTS), 10):
        page.locator("#start-agent").select_option(index=index)
        assert page.locator("#agent-about").text_content() == TEXTS[index]
    page.locator("#start-input").fill("x")
    page.locator("#start-button").click()
    page.locator("#start-wrong:not(:empty)").wait_for()
    assert page.locator("#start-wrong").text_content() == everything
    assert page.evaluate("window.__pwned") is None


def test_a_page_that_renders_texts_as_markup_is_found(api: FakeApi, browser: Browser) -> None:
    api.csp = False
    api.change_page = lambda body: body.replace(b"node.textContent = text;", b"node.innerHTML = text;")
    api.add(
        run := hostile_run(1, [text for text in TEXTS if text.startswith("<img ") and "alert" not in text])
    )
    watched = watch(browser.new_page())
    watched.page.goto(f"{api.origin}/api/dashboard#/runs/{run.id}")
    enter_key(watched.page, KEY)
    watched.page.wait_for_function("window.__pwned")
    assert [url for url in watched.requested if not url.startswith(f"{api.origin}/api/")]
    watched.page.close()
