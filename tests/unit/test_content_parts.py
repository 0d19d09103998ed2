"""The content parts that a tool returned, from its result to the provider and to clients."""

import json

import pytest

from shared.core.run import Chaining, RunStatus
from shared.ports.tables import Put, Row
from shared.usecases.read import SessionPage, session_page
from tests.support.client import Client
from tests.support.fakes import FakeAgents, answer, asks
from tests.support.world import CALLER, World

PARTS = [
    {"type": "input_text", "text": "Chart"},
    {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="},
]
# Content of this length is stored in rows of its own.
LONG = [{"type": "input_text", "text": "".join(chr(0x4E00 + n) for n in range(20_000))}]


async def finished(parts: list[dict[str, object]], **changes: object) -> tuple[World, str]:
    """Return a world, and the id of its run: one tool has returned parts, the other a text."""
    world = World(agents=FakeAgents(parts={"look_up": parts}), **changes)
    run = await world.start()
    world.provider.state = {"resp_1": asks("resp_1", "look_up", "pay"), "resp_2": answer("resp_2")}
    assert (await world.until_terminal(run.id)).status is RunStatus.COMPLETED
    return world, run.id


def items_on(page: SessionPage) -> list[dict[str, object]]:
    return [item for text in page.transcript for item in json.loads(text)]


def outputs(items: list[dict[str, object]]) -> list[object]:
    return [item["output"] for item in items if item.get("type") == "function_call_output"]


@pytest.mark.parametrize("parts", [PARTS, LONG], ids=["short", "long"])
@pytest.mark.parametrize("chaining", Chaining)
async def test_the_provider_gets_the_parts_and_not_their_text(chaining, parts):
    world, _ = await finished(parts, chaining=chaining)
    sent = json.loads(world.provider.creates[1].input)
    assert outputs(sent) == [parts, "result of call_resp_1_1"]


async def test_a_later_run_replays_the_parts():
    world, run_id = await finished(PARTS, chaining=Chaining.REPLAY)
    session_id = (await world.run(run_id)).session_id
    await world.start(session_id=session_id)
    assert outputs(json.loads(world.provider.creates[-1].input))[0] == PARTS


async def test_a_session_shows_the_parts():
    world, run_id = await finished(PARTS)
    session_id = (await world.run(run_id)).session_id
    page = await session_page(world.context, CALLER, session_id, begin=None, limit=10)
    assert outputs(items_on(page))[0] == PARTS


async def test_the_feed_shows_their_json_text():
    world, run_id = await finished(PARTS)
    events = (await Client(world.context).get("/runs/{run_id}/events", run_id)).json["data"]
    first, second = (event["output"] for event in events if event["type"] == "tool.completed")
    assert json.loads(first) == PARTS
    assert second == "result of call_resp_1_1"


async def test_a_result_of_an_earlier_version_is_a_text():
    world, run_id = await finished(PARTS)
    shard = run_id[4:6]
    [row] = [
        row
        for row in await world.table.query(shard, "tool|", "tool}")
        if row.values["call_id"] == "call_resp_1_0"
    ]
    earlier = {name: value for name, value in row.values.items() if name != "parts"}
    assert earlier.keys() == {"call_id", "output"}
    await world.table.write(shard, [Put(Row(row.key, earlier))])
    session_id = (await world.run(run_id)).session_id
    page = await session_page(world.context, CALLER, session_id, begin=None, limit=10)
    assert outputs(items_on(page))[0] == json.dumps(PARTS)
