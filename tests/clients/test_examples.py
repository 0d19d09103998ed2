"""The examples of docs/clients.md do what the document says, with the deployed app and when answers fail."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

from tests.clients.examples import Example, ExampleFailed, example, examples, together
from tests.e2e.site import Site, script, tool_call, wait_until
from tests.support.loopback import Loopback

OUTCOME = [example("python", "outcome"), example("js", "outcome")]
each_language = pytest.mark.parametrize("one", OUTCOME, ids=lambda one: one.language)
STORY = 'Ünd "so".\n' * 3000
# Written for seconds, so that slices of the stream bring it in several pieces.
STREAMED = script(
    turns=[{"text": "Wait. ", "calls": [tool_call("look_up", "a", 1)]}, {"text": STORY}], seconds=3
)
TURNS = script(turns=[{"calls": [tool_call("look_up", "a", 2)]}, {"text": 'Ünd "so".\n'}])


def _call(name: str, **arguments: object) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


def test_each_example_is_run_by_a_test():
    assert [one.name for one in examples("python")] == ["outcome", "answered", "measured"]
    assert [one.name for one in examples("js")] == [
        "outcome",
        "answered",
        "measured",
        "follow",
        "followStream",
    ]


@each_language
async def test_the_outcome_of_a_run(site: Site, tmp_path: Path, one: Example) -> None:
    run = await one.run(f"outcome('scripted', {json.dumps(TURNS)})", tmp_path, site.bases[0], site.keys.host)
    assert (run["status"], run["output_text"], run["turn"]) == ("completed", 'Ünd "so".\n', 2)
    assert run == site.get(run["id"])


@each_language
@pytest.mark.parametrize(("agent", "wrong_key", "said"), [("nobody", "", "422"), ("scripted", "x", "401")])
async def test_a_refused_start_is_an_error(
    site: Site, tmp_path: Path, one: Example, agent: str, wrong_key: str, said: str
) -> None:
    with pytest.raises(ExampleFailed, match=said):
        await one.run(f"outcome({agent!r}, 'Hi')", tmp_path, site.bases[0], site.keys.host + wrong_key)


@each_language
async def test_what_an_example_sends_while_it_waits(tmp_path: Path, one: Example) -> None:
    pending, ended = {"status": "in_progress"}, {"status": "completed"}
    answers = [
        _answer(503, {"code": "storage_unavailable"}, "Retry-After: 1"),
        _answer(202, pending, "Retry-After: 1", 'ETag: "1"', "Location: /api/runs/run_1"),
        _answer(304, None, "Retry-After: 1", 'ETag: "1"'),
        _answer(200, pending, "Retry-After: 1", 'ETag: "2"'),
        _answer(503, {"code": "storage_unavailable"}, "Retry-After: 1"),
        _answer(200, ended, 'ETag: "3"'),
    ]
    async with Loopback(lambda _: _next(answers)) as server:
        base = f"http://127.0.0.1:{server.port}"
        # Links are absolute, and only now the port is known.
        answers[1] = answers[1].replace(b"Location: ", b"Location: " + base.encode())
        assert await one.run("outcome('scripted', 'Hi')", tmp_path, base, "k3y") == ended
    starts, polls = server.arrived[:2], server.arrived[2:]
    assert [(it.method, it.path, it.json) for it in starts] == [
        ("POST", "/api/runs", {"agent": "scripted", "input": "Hi"})
    ] * 2
    assert starts[0].headers["idempotency-key"] == starts[1].headers["idempotency-key"]
    assert "content-length" in starts[0].headers
    assert [(it.method, it.path) for it in polls] == [("GET", "/api/runs/run_1")] * 4
    assert [it.headers["if-none-match"] for it in polls] == ['"1"', '"1"', '"2"', '"2"']
    assert {it.headers["x-functions-key"] for it in server.arrived} == {"k3y"}
    assert not answers


# Calls that wait.


TRANSFERS = script(
    turns=[
        {"calls": [_call("transfer", mark="a", euros=500), _call("transfer", mark="b", euros=900)]},
        {"calls": [_call("transfer", mark="c", euros=60)]},
        {"text": "done"},
    ]
)
METER = script(
    turns=[
        {"calls": [_call("read_meter", room="kitchen"), _call("read_meter", room="attic")]},
        {"text": "done"},
    ]
)
# What a person decides of each call, by its arguments.
DECIDES = {
    "python": "lambda call: {'approve': '900' not in call['arguments'], "
    "**({'reason': 'Too much.'} if '900' in call['arguments'] else {})}",
    "js": "(call) => call.arguments.includes('900') ? { approve: false, reason: 'Too much.' } : { approve: true }",
}
languages = pytest.mark.parametrize("language", ["python", "js"])


@languages
async def test_calls_are_shown_and_answered_and_the_outcome_is_read(
    site: Site, tmp_path: Path, language: str
) -> None:
    one, awaits = together(language, "outcome", "answered"), "await " if language == "js" else ""
    started = f"{awaits}outcome('asking', {json.dumps(TRANSFERS)})"
    run = await one.run(f"answered({started}, {DECIDES[language]})", tmp_path, site.bases[0], site.keys.host)
    assert (run["status"], run["output_text"]) == ("completed", "done")
    assert [call["status"] for call in run["tool_calls"]] == ["completed", "refused", "completed"]
    assert site.traces() == {"a:500": 1, "c:60": 1}
    answers = site.api("GET", f"runs/{run['id']}/calls").body["data"]
    assert [call["answer"]["reason"] for call in answers] == [None, "Too much.", None]


@languages
async def test_a_program_runs_its_own_tools(site: Site, tmp_path: Path, language: str) -> None:
    one = together(language, "outcome", "answered", "measured")
    run = await one.run(f"measured('scripted', {json.dumps(METER)})", tmp_path, site.bases[0], site.keys.host)
    assert (run["status"], run["output_text"]) == ("completed", "done")
    assert [call["status"] for call in run["tool_calls"]] == ["completed", "failed"]
    outputs = [each["output"] for each in site.events(run["id"]) if each["type"] == "tool.completed"]
    assert json.loads(outputs[0]) == {"kwh": 4711}
    assert "The rooms are: kitchen." in outputs[1]


@languages
async def test_an_answer_is_repeated_and_a_conflict_is_none_of_its_faults(
    tmp_path: Path, language: str
) -> None:
    call = {"id": "call_01_a", "name": "transfer", "arguments": "{}", "type": "approval"}
    waiting = {
        "id": "run_1",
        "status": "requires_action",
        "required_action": [call, call | {"id": "call_01_b"}],
    }
    answers = [
        _answer(202, waiting, 'ETag: "1"', "Location: /api/runs/run_1"),
        _answer(503, {"code": "storage_unavailable"}, "Retry-After: 1"),
        _answer(200, {"object": "call"}),
        _answer(409, {"code": "call_answered"}),
        _answer(503, {"code": "storage_unavailable"}, "Retry-After: 1"),
        _answer(200, {"status": "completed"}, 'ETag: "2"'),
    ]
    one, awaits = together(language, "outcome", "answered"), "await " if language == "js" else ""
    decides = "lambda _: {'approve': True}" if language == "python" else "() => ({ approve: true })"
    async with Loopback(lambda _: _next(answers)) as server:
        base = f"http://127.0.0.1:{server.port}"
        started = f"{awaits}outcome('asking', 'Hi')"
        run = await one.run(f"answered({started}, {decides})", tmp_path, base, "k3y")
    assert run == {"status": "completed"}
    posts = [(it.path, it.json) for it in server.arrived if it.method == "POST"][1:]
    calls = "/api/runs/run_1/calls"
    approves = {"approve": True}
    assert posts == [(f"{calls}/call_01_{each}", approves) for each in ("a", "a", "b")]
    assert {it.headers["x-functions-key"] for it in server.arrived} == {"k3y"}


@languages
async def test_a_call_whose_time_is_over_is_not_answered_again_at_once(tmp_path: Path, language: str) -> None:
    """The run shows such a call until the next tick."""
    call = {"id": "call_01_a", "name": "transfer", "arguments": "{}", "type": "output"}
    waiting = {"id": "run_1", "status": "requires_action", "required_action": [call]}
    late, shown = _answer(409, {"code": "wait_ended"}), _answer(200, waiting, 'ETag: "1"')
    started = _answer(202, waiting, 'ETag: "1"', "Location: /api/runs/run_1")
    answers = [started, *[late, shown] * 2, late, _answer(200, {"status": "completed"}, 'ETag: "2"')]
    one, awaits = together(language, "outcome", "answered"), "await " if language == "js" else ""
    gives = "lambda _: {'output': 1}" if language == "python" else "() => ({ output: 1 })"
    began = time.monotonic()
    async with Loopback(lambda _: _next(answers)) as server:
        base = f"http://127.0.0.1:{server.port}"
        run = await one.run(f"answered({awaits}outcome('asking', 'Hi'), {gives})", tmp_path, base, "k3y")
    assert run == {"status": "completed"}
    assert time.monotonic() - began > 2.9


async def _next(answers: list[bytes]) -> AsyncIterator[bytes]:
    yield answers.pop(0)


def _answer(status: int, body: Any, *headers: str) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    length = () if body is None else (f"Content-Length: {len(content)}", "Content-Type: application/json")
    return (
        "\r\n".join((f"HTTP/1.1 {status} X", *headers, *length, "Connection: close", "", "")).encode()
        + content
    )


async def test_the_feed_with_fetch(site: Site, tmp_path: Path) -> None:
    run_id = site.start(STREAMED, stream=True)
    headers = json.dumps({"x-functions-key": site.keys.host})
    shown = "const shown = [];\nconst show = (text) => shown.push(text);\n"
    follow = example("js", "follow")
    told = Example("js", follow.code + shown)
    url = f"{site.bases[0]}/api/runs/{run_id}"
    text = await told.run(f"follow('{url}', {headers}, show) && shown.at(-1)", tmp_path, "", "")
    assert text == site.get(run_id)["output_text"] == STORY
    assert [event["type"] for event in site.events(run_id)].count("text.delta") > 2, "it comes in pieces"
    with pytest.raises(ExampleFailed, match="401"):
        await follow.run(f"follow('{url}', {{}}, () => 0)", tmp_path, "", "")


async def test_the_feed_with_event_source_through_a_backend(site: Site, tmp_path: Path) -> None:
    run_id = site.start(STREAMED, stream=True)
    async with a_backend(site) as (base, asked):
        text = await example("js", "followStream").run(
            f"followStream('{base}/api/runs/{run_id}', () => 0)", tmp_path, "", ""
        )
    assert text == STORY
    assert asked[0] is None
    last = site.events(run_id)[-1]["id"]
    assert asked[-1] == str(last), "after the last event it asked once more, and the 204 made it stop"


async def test_what_a_page_of_another_origin_may_read(site: Site) -> None:
    run_id = site.start(TURNS)
    wait_until(lambda: site.get(run_id)["status"] == "completed", "the run is completed")
    async with ClientSession(headers={"x-functions-key": site.keys.host}) as session:
        for path in ("runs", f"runs/{run_id}", f"runs/{run_id}/events", "runs/run_x"):
            async with session.get(f"{site.bases[0]}/api/{path}") as reply:
                assert reply.headers["Access-Control-Expose-Headers"] == "Location, ETag, Retry-After"
                assert "Access-Control-Allow-Origin" not in reply.headers


@asynccontextmanager
async def a_backend(site: Site) -> AsyncIterator[tuple[str, list[str | None]]]:
    """A backend that keeps the key. It gives its address, and each Last-Event-ID that it was sent."""
    asked: list[str | None] = []

    async def passed_on(request: web.Request) -> web.Response:
        asked.append(request.headers.get("Last-Event-ID"))
        sent = {
            name: request.headers[name] for name in ("Accept", "Last-Event-ID") if name in request.headers
        }
        async with session.get(
            f"{site.bases[0]}{request.path_qs}", headers=sent | {"x-functions-key": site.keys.host}
        ) as reply:
            kind = {"Content-Type": reply.headers["Content-Type"]} if reply.status == 200 else {}
            return web.Response(status=reply.status, body=await reply.read(), headers=kind)

    backend = web.Application()
    backend.router.add_get("/{path:.*}", passed_on)
    runner = web.AppRunner(backend)
    await runner.setup()
    try:
        listening = web.TCPSite(runner, "127.0.0.1", 0)
        await listening.start()
        async with ClientSession() as session:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    finally:
        await runner.cleanup()


async def test_the_problem_in_the_document_is_one_of_the_app(site: Site) -> None:
    [shown] = examples("json")
    assert site.api("GET", "runs/run_0f7zrxz8m7r0c2d4e6f8g0h2j4k6").body == json.loads(shown.code)
