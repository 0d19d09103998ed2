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
# Formatting takes nothing but marks out of a text. Markdown has marks with letters, and addresses are encoded.
PLAIN = {
    one["text"] * one.get("times", 1)
    for one in json.loads(Path(__file__).with_name("hostile.json").read_text(encoding="utf-8"))
    if one["kind"] != "markdown" and "http" not in one["text"]
}
SHOWN = """() => {
  const texts = (selector) => [...document.querySelectorAll(selector)].map((one) => one.textContent);
  return {
    text: document.getElementById("text").textContent,
    given: texts(".call pre:nth-of-type(1)"), got: texts(".call pre:nth-of-type(2)"), tools: texts("summary bdi.mono"),
    names: texts("#metadata dt"), values: texts("#metadata dd"), input: texts("#input > div"), files: texts("#input .part > bdi"),
    turns: texts("#steps li.turn .what"), waits: texts("#steps li.waiting .what"), reasons: texts("#steps .reason"),
    code: texts("#error-code"), message: texts("#error-message"), agent: texts("#run-title"),
  };
}"""


def batches() -> list[list[str]]:
    return [TEXTS[at : at + BATCH] for at in range(0, len(TEXTS), BATCH)]


def hostile_run(number: int, texts: list[str]) -> FakeRun:
    run = FakeRun(number, agent=texts[0]).note("run.queued").note("turn.started", turn=1, model=texts[0])
    for text in texts:
        run.tool(text, text, text).write(text).note("run.waiting", code=text, message=text)
    # Metadata is an object, so each name is in it once.
    run.fields["metadata"] = dict.fromkeys(texts, texts[-1])
    run.fields["input_excerpt"] = texts[0]
    parts = [{"type": "input_text", "text": text} for text in texts]
    files = [{"type": "input_file", "filename": text, "file_data": f"data:{text},x"} for text in texts]
    run.fields["input"] = [{"role": "user", "content": [*parts, *files, *map(image, texts)]}]
    return run.end("failed", error={"code": texts[0], "message": "".join(texts)})


def image(address: str) -> dict[str, str]:
    return {"type": "input_image", "image_url": address}


def indented(text: str) -> str:
    """Return JSON with indentation, and other texts as they are."""
    try:
        return (
            json.dumps(json.loads(text), indent=2, ensure_ascii=False) if text.lstrip()[0] in "{[" else text
        )
    except (ValueError, IndexError, RecursionError):
        return text


def shown_of(run: FakeRun, texts: list[str]) -> dict[str, object]:
    return {
        "text": "".join(texts),
        "given": [*map(indented, texts)],
        "got": [*map(indented, texts)],
        "tools": texts,
        "names": list(run.fields["metadata"]),
        "values": list(run.fields["metadata"].values()),
        "input": texts,
        "files": [*texts, *["Image"] * len(texts)],
        "turns": [f"Turn 1 \u00b7 {texts[0]}"],
        "waits": [f"Waiting: {text}" for text in texts],
        "reasons": texts,
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
    assert len(TEXTS) == len(set(TEXTS)) >= 170


# What is in the formatted text beside texts: no element, attribute or address that can do anything.
STRANGE = """() => [...document.querySelectorAll("#text *, #input *")].flatMap((one) => {
  const tags = "P H3 H4 H5 H6 UL OL LI BLOCKQUOTE PRE CODE EM STRONG DEL HR TABLE TBODY TR TH TD BDI A DIV SPAN";
  const names = one.getAttributeNames().filter((name) => !["class", "dir", "start", "href", "target", "rel"].includes(name));
  const web = one.tagName !== "A" || /^https?:[/][/]/.test(one.getAttribute("href")) && one.textContent === one.href
    && one.rel === "noopener noreferrer nofollow" && one.target === "_blank";
  return tags.split(" ").includes(one.tagName) && !names.length && web ? [] : [one.outerHTML.slice(0, 200)];
})"""
LETTERS = "() => document.getElementById('text').textContent.replace(/[^\\p{L}\\p{N}]/gu, '')"


@pytest.mark.parametrize("csp", [True, False], ids=["with CSP", "without CSP"])
def test_texts_are_shown_unchanged_and_nothing_is_executed(csp: bool, api: FakeApi, open_page: Open) -> None:
    api.csp = csp
    runs = [(hostile_run(number, texts), texts) for number, texts in enumerate(batches())]
    api.add(*[run for run, _ in runs])
    page = open_page().page
    page.locator("tbody tr").nth(len(runs) - 1).wait_for()
    assert set(page.locator("tbody .name").all_text_contents()) == {texts[0] for _, texts in runs}
    assert set(page.locator("tbody .excerpt").all_text_contents()) == {texts[0] for _, texts in runs}
    for run, texts in runs:
        open_run(page, run)
        page.locator("#raw").wait_for()
        if page.locator("#text.formatted").count():  # the page remembers that somebody wants it raw
            page.locator("#raw").click()
        if page.locator("#input-all:visible").count():
            page.locator("#input-all").click()
            page.locator("#input > div").nth(len(texts) - 1).wait_for(state="attached")
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
def test_formatted_texts_have_harmless_elements_only(csp: bool, api: FakeApi, open_page: Open) -> None:
    api.csp = csp
    runs = [
        (FakeRun(number).note("run.queued").write(text), text)
        for number, text in enumerate(
            [*filter(str.strip, TEXTS), *("\n\n".join(texts) for texts in batches())]
        )
    ]
    page = open_page().page
    for run, text in runs:
        api.runs.clear()
        api.add(run.end("failed", error={"code": "x", "message": "y"}))
        open_run(page, run)
        page.locator("#text.formatted").wait_for()
        assert page.evaluate(STRANGE) == [], text[:200]
        page.mouse.move(300, 500)
        assert page.evaluate("window.__pwned") is None
        if text in PLAIN:
            assert page.evaluate(LETTERS) == page.evaluate(
                "text => text.replace(/[^\\p{L}\\p{N}]/gu, '')", text
            )
    assert page.url == f"{api.origin}/api/dashboard#/runs/{run.id}"


@pytest.mark.parametrize("csp", [True, False], ids=["with CSP", "without CSP"])
def test_agents_problems_and_progress_are_shown_as_text_too(
    csp: bool, api: FakeApi, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.csp = csp
    agents = [AGENTS[0] | {"name": text, "description": text} for text in TEXTS]
    unready = [AGENTS[0] | {"name": f"~{text}", "ready": False, "missing_settings": [text]} for text in TEXTS]
    everything = "".join(TEXTS[:100])
    problem = {"title": "x", "detail": everything, "field": "constructor"}

    def intercept(method: str, target: str) -> Answer | None:
        if target == "/api/agents":
            return 200, {"data": [*agents, *unready]}
        return (422, problem) if method == "POST" else None

    api.intercept = intercept
    waiting = FakeRun(1).note("run.queued")
    waiting.fields["progress"] = {"characters": 0, "items": 0, "activity": everything}
    waiting.fields["status"] = TEXTS[0]
    api.add(waiting)
    page = open_page().page
    page.locator("tbody tr").first.wait_for()
    assert page.locator("td.activity bdi").text_content() == everything
    assert page.locator("td.state").text_content() == TEXTS[0]
    page.locator("#new-run").click()
    options = page.locator("#start-agent option").all_text_contents()
    assert options == [*TEXTS, *(f"~{text} (not ready)" for text in TEXTS)]
    missing = [f"~{text} is not ready: the host has no setting {text}." for text in TEXTS]
    assert page.locator("#not-ready li").all_text_contents() == missing
    for index in range(0, len(TEXTS), 10):
        page.locator("#start-agent").select_option(index=index)
        assert page.locator("#agent-about").text_content() == TEXTS[index]
    names = [text for text in TEXTS if not set("\0/") & set(text) and len(text) < 60]
    page.locator("#start-file").set_input_files(
        [{"name": name, "mimeType": "text/plain", "buffer": b"x"} for name in names]
    )
    page.locator("#start-files li").nth(len(names) - 1).wait_for()
    page.locator("#start-input").fill("x")
    page.locator("#start-button").click()
    page.locator("#start-wrong:not(:empty)").wait_for()
    assert page.locator("#start-wrong").text_content() == everything
    assert page.evaluate("window.__pwned") is None


# Arguments that are short enough to be shown without folding.
SHORT = [text for text in TEXTS if len(text) <= 2000]
WAITING = """(section) => {
  const texts = (selector) => [...document.querySelectorAll(`#${section} ${selector}`)].map((one) => one.textContent);
  return { names: texts("h3 bdi"), given: texts(".wait > pre"), about: texts(".about bdi"), reasons: texts(".outcome p + p") };
}"""


def hostile_waits(number: int, texts: list[str]) -> FakeRun:
    run = FakeRun(number, agent=texts[0]).note("run.queued").note("turn.started", turn=1)
    for text in texts:
        run.ask(text, text, expires_at=text, waiting_since=text)
    return run


@pytest.mark.parametrize("csp", [True, False], ids=["with CSP", "without CSP"])
def test_calls_that_wait_and_their_answers_are_texts(csp: bool, api: FakeApi, open_page: Open) -> None:
    api.csp = csp
    page = open_page().page
    for number, at in enumerate(range(0, len(SHORT), BATCH)):
        texts = SHORT[at : at + BATCH]
        own, other = hostile_waits(2 * number, texts), hostile_waits(2 * number + 1, texts)
        api.runs.clear()
        api.add(own, other)
        api.owners = {other.id: texts[-1]}
        page.evaluate("query => { location.hash = `/?status=${query}` }", str(number))
        for run in (own, other):
            expect(page.locator("#waits .wait", has=page.get_by_text(run.id))).to_have_count(len(texts))
        # Those of the last batch may still be there.
        expect(page.locator("#waits .wait")).to_have_count(2 * len(texts))
        shown = page.evaluate(WAITING, "waits")
        assert sorted(shown["names"]) == sorted([*texts, *texts])
        assert sorted(shown["given"]) == sorted([*map(indented, texts), *map(indented, texts)])
        about = [texts[0]] * 2 * len(texts) + [other.id, texts[-1]] * len(texts)
        assert sorted(shown["about"]) == sorted(about)
        page.evaluate("to => { location.hash = to }", f"#/runs/{own.id}")
        expect(page.locator("#calls .wait")).to_have_count(len(texts))
        page.locator("#calls .wait button").first.focus()  # so that what was answered stays
        for asked, text in zip(own.asked, texts, strict=True):
            changed = {text: text}
            own.settle(asked, text, type="approved", by=text, by_name=text, reason=text, arguments=changed)
        expect(page.locator("#calls .outcome ins")).to_have_count(len(texts))
        shown = page.evaluate(WAITING, "calls")
        assert (shown["names"], shown["reasons"]) == (texts, texts)
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        expect(page.locator("#steps ins")).to_have_count(len(texts))
        expect(page.locator("#steps li.asking .what", has_text="Approved by")).to_have_count(len(texts))
        words = page.locator("#steps li.asking .what").all_text_contents()
        assert words == [f"Approved{text}Approved by \u2068{text}\u2069: {text}" for text in texts]
        page.mouse.move(300, 500)
        assert page.evaluate("window.__pwned") is None
    for text in TEXTS[::5]:
        api.runs.clear()
        api.add(run := hostile_waits(900 + TEXTS.index(text), [text]))
        api.intercept = lambda method, target, said=text: (  # type: ignore[misc]
            (409, {"code": "call_answered", "detail": said}) if method == "POST" else None
        )
        page.evaluate("to => { location.hash = to }", f"#/runs/{run.id}")
        page.locator("#calls .wait").get_by_role("button", name="Approve", exact=True).click()
        expect(page.locator("#calls .outcome p")).to_have_count(2)
        assert page.locator("#calls .outcome p").last.text_content() == text
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


def test_searches_and_their_sentences_are_texts_too(api: FakeApi, open_page: Open) -> None:
    page = open_page().page
    for text in TEXTS[::3]:
        page.locator("#search-for").fill(text[:900])
        page.locator("#search button").click()
        page.evaluate(
            "text => { location.hash = `/?${new URLSearchParams({ [`metadata[${text}]`]: text })}` }",
            text[:60],
        )
        chip = page.locator("#metadata-chips bdi")
        expect(chip).to_have_count(1)
        assert chip.text_content() == f"{text[:60]}={text[:60]}"
        page.evaluate("text => { location.hash = `/runs/${text}` }", text[:60])
        expect(page.locator("#search-wrong")).to_contain_text("is not an id.")
        assert page.evaluate("window.__pwned") is None
