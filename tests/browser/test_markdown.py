"""The text of a run that has ended: formatted, raw, and what hostile texts cost."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.fake_api import FakeApi
from tests.browser.fake_run import FakeRun, finished, running, writing

pytestmark = pytest.mark.xdist_group("browser")

MEGABYTE = 1_000_000
# Texts for which a parser that looks for each end from each beginning needs hours.
EXPENSIVE = {
    "stars": "*" * (5 * MEGABYTE),
    "stars and spaces": "* " * MEGABYTE,
    "emphasis never closed": "**a *b __c _d ~~e " * 150_000,
    "brackets never closed": "[" * MEGABYTE,
    "closed only": "](" * MEGABYTE,
    "links never closed": "[a](b" * 300_000,
    "link with spaces": "[a](b" + " " * MEGABYTE,
    "ticks of all lengths": "".join("`" * (n % 700) + " " for n in range(4000)),
    "ticks never closed": ("`" * 7 + "a" + "`" * 6 + "b") * 70_000,
    "nested quotes": "> " * MEGABYTE + "end",
    "nested quotes, many lines": ("> " * 200 + "\n") * 2_500,
    "nested lists": "\n".join("  " * depth + "- a" for depth in range(1_000)),
    "many lists": "- a\n\n1. b\n" * 200_000,
    "many paragraphs": "a\n\n" * 700_000,
    "many headings": "# a\n" * 500_000,
    "fences never closed": "```\n~~~~\n" * 200_000,
    "pipes": "|" * MEGABYTE + "\n" + "|-" * 400_000,
    "tables": "|a|b|\n|-|-|\n|c|d|\n" * 100_000,
    "rule that is none": "- " * 500_000 + "x",
    "addresses": "http://a.b/)))" * 200_000,
    "escapes": "\\*" * MEGABYTE,
    "spaces": " " * (5 * MEGABYTE),
    "deep JSON": "[" * 100_000 + "]" * 100_000,
    "one line": "All hands slept but one. " * 200_000,
}
# A paragraph that is longer than 20,000 characters is not searched for marks. These are as long as they may be.
EXPENSIVE |= {
    f"paragraphs of {kind}": "\n\n".join([EXPENSIVE[kind][:19_000]] * 200)
    for kind in EXPENSIVE
    if kind.startswith(("stars", "emphasis", "brackets", "closed", "links", "ticks", "addresses", "escapes"))
}
PATIENCE = 20_000


def show(open_page: Open, api: FakeApi, text: str, **fields: object) -> Page:
    api.add(run := finished(fields={"output_text": text, **fields}))
    page = open_page(f"#/runs/{run.id}").page
    page.locator("#text.formatted").wait_for()
    return page


def html_of(page: Page) -> str:
    """Return the elements of the text without the attributes that all of them have."""
    return str(page.locator("#text").evaluate("pane => pane.innerHTML")).replace(' dir="auto"', "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# One\n\ntwo", "<h3>One</h3><p>two</p>"),
        ("### Three ##\ntext", "<h5>Three</h5><p>text</p>"),
        ("one\ntwo\n\nthree", "<p>one\ntwo</p><p>three</p>"),
        (
            "a *b* **c** ***d*** _e_ __f__ ~~g~~",
            "<p>a <em>b</em> <strong>c</strong> <em><strong>d</strong></em> <em>e</em> <strong>f</strong> <del>g</del></p>",
        ),
        ("2 * 3 * 4, snake_case_name, __init__x", "<p>2 * 3 * 4, snake_case_name, __init__x</p>"),
        ("**never *closed", "<p>**never *closed</p>"),
        ("**a *b** c*", "<p><strong>a *b</strong> c*</p>"),
        ("\\*not\\* `*code*` ``a`b``", "<p>*not* <code>*code*</code> <code>a`b</code></p>"),
        (
            "- a\n- b\n  - c\n\n- d",
            "<ul><li><p>a</p></li><li><p>b</p><ul><li><p>c</p></li></ul></li><li><p>d</p></li></ul>",
        ),
        ("3. a\n4. b", '<ol start="3"><li><p>a</p></li><li><p>b</p></li></ol>'),
        ("> a\n> - b", "<blockquote><p>a</p><ul><li><p>b</p></li></ul></blockquote>"),
        ("```py\n*a*\n  b\n```\nc", "<pre><code>*a*\n  b</code></pre><p>c</p>"),
        ("a\n\n---\n\nb", "<p>a</p><hr><p>b</p>"),
        (
            "| a | b |\n|---|:-:|\n| *c* | d \\| e |\n\nf",
            "<table><tbody><tr><th>a</th><th>b</th></tr><tr><td><em>c</em></td><td>d | e</td></tr></tbody></table><p>f</p>",
        ),
        ("<b>x</b> &amp; <!-- y -->", "<p>&lt;b&gt;x&lt;/b&gt; &amp;amp; &lt;!-- y --&gt;</p>"),
    ],
)
def test_markdown_becomes_elements(text: str, expected: str, api: FakeApi, open_page: Open) -> None:
    assert html_of(show(open_page, api, text)) == expected


def test_a_link_shows_its_address_and_is_opened_only_for_the_web(api: FakeApi, open_page: Open) -> None:
    page = show(
        open_page,
        api,
        "[bank](https://evil.invalid/a) ![pixel](http://evil.invalid/p.png) https://b.invalid/c. "
        "[x](javascript:alert(1)) [y](data:text/html,z) [z](/path) [q](https://bank.example@evil.invalid/)",
    )
    expect(page.locator("#text")).to_have_text(
        "bank (https://evil.invalid/a) pixel (http://evil.invalid/p.png) https://b.invalid/c. "
        "[x](javascript:alert(1)) y (data:text/html,z) z (/path) q (https://bank.example@evil.invalid/)"
    )
    links = page.locator("#text a").evaluate_all(
        "links => links.map(one => [one.href, one.textContent, one.rel, one.target])"
    )
    rel = "noopener noreferrer nofollow"
    addresses = ["https://evil.invalid/a", "http://evil.invalid/p.png", "https://b.invalid/c"]
    assert links == [[address, address, rel, "_blank"] for address in addresses]
    assert page.locator("#text img").count() == 0


def test_the_raw_text_is_one_click_away(api: FakeApi, open_page: Open) -> None:
    page = show(open_page, api, "# Title\n\n*text*")
    raw = page.get_by_role("button", name="Raw")
    expect(raw).to_have_attribute("aria-pressed", "false")
    raw.click()
    expect(raw).to_have_attribute("aria-pressed", "true")
    expect(raw).to_be_focused()
    assert page.locator("#text").text_content() == "# Title\n\n*text*"
    raw.click()
    expect(page.locator("#text h3")).to_have_text("Title")


def test_json_is_indented_and_its_numbers_are_not_changed(api: FakeApi, open_page: Open) -> None:
    page = show(open_page, api, '{"a":[1,{}],"n":12345678901234567890.10,"s":"x, {y}: \\"z\\""}')
    expected = (
        '{\n  "a": [\n    1,\n    {}\n  ],\n  "n": 12345678901234567890.10,\n  "s": "x, {y}: \\"z\\""\n}'
    )
    assert page.locator("#text pre").text_content() == expected


def test_a_parsed_output_is_shown_when_there_is_no_text(api: FakeApi, open_page: Open) -> None:
    api.add(run := running(fields={"output_parsed": {"answer": [42]}}).end())
    page = open_page(f"#/runs/{run.id}").page
    expect(page.locator("#text pre")).to_have_text('{\n  "answer": [\n    42\n  ]\n}')


def test_arguments_and_results_are_indented(api: FakeApi, open_page: Open) -> None:
    api.add(run := running().tool("look_up", '{"a":1}', '[{"b":2},"c"]').write("x").end())
    page = open_page(f"#/runs/{run.id}").page
    page.locator("#steps summary").click()
    expect(page.get_by_label("Arguments")).to_have_text('{\n  "a": 1\n}')
    expect(page.get_by_label("Result")).to_have_text('[\n  {\n    "b": 2\n  },\n  "c"\n]')


def test_a_live_text_is_formatted_when_the_run_has_ended(api: FakeApi, open_page: Open) -> None:
    api.add(run := running().note("turn.started", turn=1).write("# Title\n\n"))
    page = open_page(f"#/runs/{run.id}").page
    page.get_by_text("# Title").wait_for()
    expect(page.get_by_role("button", name="Raw")).to_have_count(0)
    run.write("*text*").end()
    expect(page.locator("#text h3")).to_have_text("Title")
    expect(page.locator("#text em")).to_have_text("text")


def test_a_text_that_somebody_reads_is_not_moved_by_the_end_of_the_run(api: FakeApi, open_page: Open) -> None:
    api.add(run := writing())
    page = open_page(f"#/runs/{run.id}").page
    page.get_by_text("Line 39").wait_for()
    page.locator("#text").evaluate("pane => { pane.scrollTop = 100 }")
    page.get_by_role("button", name="Follow the text").wait_for()
    run.write("*The end.*").end()
    expect(page.locator("#run-status")).to_have_text("Completed")
    raw = page.get_by_role("button", name="Raw")
    expect(raw).to_have_attribute("aria-pressed", "true")
    assert page.locator("#text").evaluate("pane => pane.scrollTop") == 100
    raw.click()
    expect(page.locator("#text em")).to_have_text("The end.")


@pytest.mark.parametrize("kind", EXPENSIVE)
def test_the_time_to_format_a_hostile_text_is_linear(kind: str, api: FakeApi, open_page: Open) -> None:
    text = EXPENSIVE[kind]
    api.add(run := FakeRun(1).note("run.queued").end(output_text=text))
    page = open_page().page
    page.set_default_timeout(PATIENCE)
    page.evaluate("to => { location.hash = to }", f"#/runs/{run.id}")
    page.locator("#text-size", has_text=f"{len(text):,} characters").wait_for()
    page.locator("#raw").wait_for()
    # The page answers again, and has no more elements than a browser can handle.
    assert 0 < page.evaluate("document.querySelectorAll('#text *').length") < 60_000
