"""What was asked, and asking it again: the input of a run, `Run again`, `Edit and run`, and the start form."""

import base64
import json
from typing import Any

import pytest
from playwright.sync_api import FilePayload, Page, expect

from tests.browser.conftest import Open
from tests.browser.fake_api import AGENTS, BREAK_OFF, FakeApi
from tests.browser.fake_run import FakeRun, finished, running

pytestmark = pytest.mark.xdist_group("browser")

PIXEL = base64.b64encode(b"\x89PNG" + bytes(996)).decode()
PARTS = [
    {"type": "input_text", "text": "Look at\n  both."},
    {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"},
    {"type": "input_image", "image_url": "https://pictures.invalid/a.png"},
    {"type": "input_file", "filename": "report.pdf", "file_data": f"data:application/pdf;base64,{PIXEL}"},
]


def asked(*items: object, **fields: Any) -> FakeRun:
    return finished(fields={"input": list(items), "metadata": {"reader": "a=b"}, **fields})


def user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


def open_run(open_page: Open, api: FakeApi, run: FakeRun) -> Page:
    api.add(run)
    page = open_page(f"#/runs/{run.id}").page
    expect(page.locator("#text.formatted")).to_be_visible()
    return page


def file(name: str, mime: str, content: bytes) -> FilePayload:
    return {"name": name, "mimeType": mime, "buffer": content}


def test_the_input_is_shown_with_its_parts(api: FakeApi, open_page: Open) -> None:
    page = open_run(open_page, api, asked(user(PARTS)))
    shown = page.get_by_role("group", name="Input")
    assert shown.locator("div").text_content() == "Look at\n  both."
    expect(shown.locator("p")).to_have_text(
        [
            "Imageimage/png, 1 KB, not displayed here",
            "Imagehttps://pictures.invalid/a.png",
            "report.pdfapplication/pdf, 1 KB",
        ]
    )
    assert page.locator("img").count() == 0


def test_a_conversation_as_input_names_its_authors(api: FakeApi, open_page: Open) -> None:
    answer = {"type": "function_call_output", "call_id": "c", "output": "4"}
    page = open_run(open_page, api, asked(user("2 + 2?"), {"role": "assistant", "content": "Wait."}, answer))
    shown = page.get_by_role("group", name="Input")
    expect(shown.locator("h3")).to_have_text(["user", "assistant", "function_call_output"])
    expect(shown.locator("pre")).to_contain_text('"call_id": "c"')


def test_a_long_input_is_read_when_it_is_wanted(api: FakeApi, open_page: Open) -> None:
    text = "word " * 20_000
    page = open_run(open_page, api, asked(user(text), input_excerpt="word word\u2026"))
    shown = page.get_by_role("group", name="Input")
    expect(shown).to_have_text("word word\u2026")
    page.get_by_role("button", name="Show all of it").click()
    expect(shown).to_have_text(text)
    assert [path for _, path, _ in api.requests if "include=input" in path] != []


def test_run_again_starts_one_run_that_names_the_first(api: FakeApi, open_page: Open) -> None:
    lost = iter([BREAK_OFF])
    api.intercept = lambda method, target: next(lost, None) if target.endswith("/retry") else None
    first = asked(user("Hello"))
    page = open_run(open_page, api, first)
    again = page.get_by_role("button", name="Run again")
    again.click()
    expect(page.get_by_role("alert").get_by_text("nothing is done twice")).to_be_visible()
    again.click()
    expect(page.locator("#run-status")).to_have_text("In progress")
    assert len(api.runs) == 2
    page.get_by_role("link", name=first.id).click()
    expect(page.locator("#run-status")).to_have_text("Completed")


def test_a_refused_repetition_is_said_in_a_sentence(api: FakeApi, open_page: Open) -> None:
    problem = {"detail": "The agent space_novelist is not ready.", "code": "agent_not_ready"}
    api.intercept = lambda method, target: (409, problem) if method == "POST" else None
    page = open_run(open_page, api, asked(user("Hello")))
    page.get_by_role("button", name="Run again").click()
    expect(page.get_by_role("alert").get_by_text("The agent space_novelist is not ready.")).to_be_visible()


def test_a_pending_run_is_not_repeated(api: FakeApi, open_page: Open) -> None:
    api.add(run := running(fields={"input": [user("Hello")]}))
    page = open_page(f"#/runs/{run.id}").page
    expect(page.get_by_role("button", name="Cancel run")).to_be_visible()
    for name in ("Run again", "Edit and run"):
        expect(page.get_by_role("button", name=name)).to_have_count(0)


def test_edit_and_run_fills_the_form(api: FakeApi, open_page: Open) -> None:
    earlier = [user("Hello"), {"role": "assistant", "content": "Hi."}]
    page = open_run(open_page, api, asked(*earlier, user(PARTS)))
    page.get_by_role("button", name="Edit and run").click()
    box = page.get_by_role("textbox", name="Input")
    expect(box).to_have_value("Look at\n  both.")
    expect(page.get_by_label("Agent").last).to_have_value("space_novelist")
    expect(page.get_by_role("textbox", name="Metadata")).to_have_value("reader=a=b")
    expect(page.locator("#start-files li")).to_have_count(4)
    expect(page.locator("#start-files li").last).to_contain_text("report.pdf, 1 KB")
    page.get_by_role("button", name="Remove Image", exact=True).click()
    expect(page.get_by_label("Files and images")).to_be_focused()
    box.fill("Look again.")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("#run-status")).to_have_text("In progress")
    text = {"type": "input_text", "text": "Look again."}
    assert api.bodies == [
        {
            "agent": "space_novelist",
            "input": [*earlier, user([text, PARTS[1], PARTS[3]])],
            "metadata": {"reader": "a=b"},
        }
    ]


def test_edit_and_run_reads_a_long_input_completely(api: FakeApi, open_page: Open) -> None:
    text = "word " * 20_000
    page = open_run(open_page, api, asked(user(text)))
    page.get_by_role("button", name="Edit and run").click()
    expect(page.get_by_role("textbox", name="Input")).to_have_value(text)


def open_form(open_page: Open) -> Page:
    page = open_page().page
    page.get_by_role("button", name="Start a run").click()
    page.get_by_role("dialog", name="Start a run").wait_for()
    return page


def test_files_and_images_are_sent_as_data_urls(api: FakeApi, open_page: Open) -> None:
    page = open_form(open_page)
    page.get_by_label("Files and images").set_input_files(
        [file("a.png", "image/png", b"PNG"), file("notes.txt", "text/plain", b"text")]
    )
    expect(page.locator("#start-files li")).to_have_count(2)
    expect(page.locator("#start-files")).to_contain_text("notes.txt, 4 bytes")
    page.get_by_role("textbox", name="Input").fill("Compare")
    page.get_by_text("More settings").click()
    page.get_by_label("Text while the model writes").select_option("No: only the finished text")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("#run-status")).to_have_text("In progress")
    (body,) = api.bodies
    assert body["stream"] is False
    assert body["input"][0]["content"] == [
        {"type": "input_text", "text": "Compare"},
        {"type": "input_image", "image_url": "data:image/png;base64,UE5H"},
        {"type": "input_file", "filename": "notes.txt", "file_data": "data:text/plain;base64,dGV4dA=="},
    ]
    # The form is empty afterwards.
    page.get_by_role("button", name="Start a run").click()
    expect(page.locator("#start-files li")).to_have_count(0)


def test_what_is_too_large_is_said_in_a_sentence_and_not_sent(api: FakeApi, open_page: Open) -> None:
    page = open_form(open_page)
    files = page.get_by_label("Files and images")
    wrong = page.locator("#start-wrong")
    files.set_input_files([file("film.mp4", "video/mp4", bytes(1_600_000))])
    expect(wrong).to_have_text(
        "film.mp4 is too large: it has 1.6 MB, and an input takes about 1.4 MB of files at most."
    )
    files.set_input_files([file("empty.txt", "text/plain", b"")])
    expect(wrong).to_have_text("empty.txt is empty.")
    files.set_input_files([file("one.bin", "", bytes(900_000)), file("two.bin", "", bytes(900_000))])
    expect(wrong).to_contain_text("two.bin is too large")
    expect(page.locator("#start-files li")).to_have_count(1)
    _paste(page, "Input", ("x" * 99 + "\n") * 12_000)
    page.get_by_role("button", name="Start", exact=True).click()
    expect(wrong).to_contain_text("characters with its files, and at most 2,000,000 are allowed.")
    page.get_by_role("button", name="Remove one.bin").click()
    _paste(page, "Input", ('"' * 99 + "\n") * 19_000)
    page.get_by_text("More settings").click()
    _paste(page, "Metadata", "".join(f"{n}={'y' * 90}\n" for n in range(50_000)))
    page.get_by_role("button", name="Start", exact=True).click()
    expect(wrong).to_contain_text("at most 8.4 MB are allowed.")
    assert api.bodies == []


def _paste(page: Page, name: str, text: str) -> None:
    """Fill a long text in. Playwright's `fill` edits it, which takes much longer."""
    box = page.get_by_role("textbox", name=name)
    box.evaluate("(box, text) => { box.value = text; box.dispatchEvent(new Event('input')); }", text)


def test_the_box_is_as_long_as_its_text(api: FakeApi, open_page: Open) -> None:
    page = open_form(open_page)
    box = page.get_by_role("textbox", name="Input")
    short = box.evaluate("box => box.offsetHeight")
    box.fill("line\n" * 15)
    assert box.evaluate("box => box.offsetHeight") > short
    assert box.evaluate("box => box.scrollHeight - box.clientHeight") <= 0
    box.fill("line\n" * 500)
    assert box.evaluate("box => box.offsetHeight") <= 0.6 * 720 + 1


def test_agents_that_are_not_ready_are_listed_and_cannot_be_started(api: FakeApi, open_page: Open) -> None:
    missing = {"ready": False, "missing_settings": ["NOVELIST_MODEL", "OPENAI_API_KEY"]}
    api.agents = [AGENTS[1] | missing, AGENTS[0]]
    page = open_form(open_page)
    expect(page.locator("#start-agent")).to_have_value("market_analyst")
    expect(page.locator("#start-agent option").first).to_be_disabled()
    sentence = "space_novelist is not ready: the host has no setting NOVELIST_MODEL, OPENAI_API_KEY."
    expect(page.locator("#not-ready")).to_have_text(sentence)
    page.keyboard.press("Escape")
    api.agents = [AGENTS[1] | missing]
    page.get_by_role("button", name="Start a run").click()
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_disabled()
    page.keyboard.press("Escape")
    api.agents = AGENTS  # the setting was made meanwhile
    page.get_by_role("button", name="Start a run").click()
    expect(page.locator("#not-ready")).to_be_empty()
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()


def test_an_agent_without_the_new_fields_can_be_started(api: FakeApi, open_page: Open) -> None:
    api.agents = [{k: v for k, v in AGENTS[0].items() if k not in {"ready", "missing_settings"}}]
    page = open_form(open_page)
    page.get_by_role("textbox", name="Input").fill("x")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.get_by_role("heading", name="market_analyst")).to_be_visible()
    assert json.dumps(api.bodies) == '[{"agent": "market_analyst", "input": "x"}]'
