"""The text of an answer is cut out of the stored output, which no read parses."""

import json
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core import transcript
from shared.core.answer import Answer, cut, find_answer
from shared.core.text import json_text
from shared.web.http import json_reply
from shared.web.runs_api import render
from tests.support.client import Client
from tests.support.fakes import answer, message
from tests.support.world import World

PARTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["output_text", "refusal", "reasoning_text"])},
    optional={
        "text": st.text(),
        "refusal": st.text(),
        "annotations": st.lists(st.text(max_size=3), max_size=2),
    },
)
ITEMS = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["message", "reasoning"]), "content": st.lists(PARTS, max_size=4)},
        optional={"phase": st.sampled_from(["commentary", "final_answer"]), "id": st.text(max_size=4)},
    ),
    max_size=4,
)


@given(ITEMS)
def test_the_answer_is_cut_out_as_it_is_read(items):
    output = json_text(items)
    items = transcript.parse(output)
    found = find_answer(output, items)
    assert found is not None
    assert json.loads(cut(output, found.text)) == transcript.text_of(items)
    assert json.loads(cut(output, found.refusal)) == transcript.refusal_of(items)
    assert Answer.parse(str(found), output) == found


SPANS = [
    "",
    "[]",
    "{}",
    "[[],[]",
    "[[[0,9999]],[]]",
    "[[[5,2]],[]]",
    "[[[-1,2]],[]]",
    "[[[3,5],[2,4]],[]]",
    "[[[0,2]]]",
    '[[["a","b"]],[]]',
    "[[[0,2.5]],[]]" * 2,
    "[" * 100_000,
    "[[[0,5]" + ",[0,5]" * 300 + "],[]]",
    "null",
    "[null,null]",
]


@pytest.mark.parametrize("stored", SPANS, ids=lambda text: text[:20])
def test_spans_that_do_not_fit_an_output_are_not_used(stored):
    assert Answer.parse(stored, json_text(message("a"))) is None


TEXTS = [
    "",
    ",",
    '","',
    "a",
    "aa",
    '"',
    "\\",
    '\\"',
    "\n\u2028\x00",
    "\ud83d\ude80",
    "漢字 🚀",
    '", "text": "',
    "a" * 9,
]


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_any_text_is_found(text):
    items = [{"type": "reasoning", "summary": [text, "a,b"]}, *message(text), *message("a" + text)]
    output = json_text(items)
    parsed = transcript.parse(output)
    found = find_answer(output, parsed)
    assert found is not None
    assert json.loads(cut(output, found.text)) == transcript.text_of(parsed)


def test_an_output_that_was_written_otherwise_has_no_known_answer():
    items = message("Grüße")
    assert find_answer(json.dumps(items), items) is None


async def finished(output: str) -> tuple[World, Client, str]:
    world = World()
    client = Client(world.context)
    run = (await client.start()).json
    world.provider.state["resp_1"] = replace(answer("resp_1"), output=output)
    await world.until_terminal(run["id"])
    return world, client, run["id"]


async def test_a_read_sends_the_output_as_it_is_stored(monkeypatch):
    output = json_text(
        [{"type": "odd", "number": 1.0, "big": 10**30, "x": [None, True]}, *message("Grüße 🚀")]
    )
    _, client, run_id = await finished(output)

    def parsed(_text: str) -> None:
        raise AssertionError("a read parses the output")

    monkeypatch.setattr(render.transcript, "parse", parsed)
    read = await client.get("/runs/{run_id}", run_id)
    assert f'"output":{output}' in read.text
    assert read.json["output_text"] == "Grüße 🚀"
    assert (read.json["refusal"], read.json["output"]) == (None, json.loads(output))


async def test_a_refusal_is_read_too():
    items = [
        {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": 'No, "never".'}]}
    ]
    _, client, run_id = await finished(json_text(items))
    read = (await client.get("/runs/{run_id}", run_id)).json
    assert (read["output_text"], read["refusal"]) == ("", 'No, "never".')


async def test_an_output_of_an_earlier_version_is_read():
    world, _, run_id = await finished(json_text(message("Grüße")))
    run = replace(await world.run(run_id), answer=None)
    view = render.run_view(run, json_text(message("Grüße")), None)
    assert (view["output_text"], view["refusal"]) == ("Grüße", None)


async def test_reading_much_structure_costs_no_more_than_reading_as_much_text():
    size = 7 * 2**20
    times = {}
    for name, output in {
        "text": json_text(message("a" * size)),
        "structure": "[" + ",".join(['{"type":"x","a":[]}'] * (size // 20)) + "]",
    }.items():
        world, _, run_id = await finished(output)
        run, began = await world.run(run_id), time.process_time()
        for _ in range(3):
            view = render.run_view(run, output, Answer())
            json_reply(200, view)
        times[name] = time.process_time() - began
    assert times["structure"] < 3 * times["text"] + 0.1
