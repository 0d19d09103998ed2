"""Rows that a version of this app has written, kept as files. Later versions must read them.

`python -m tests.support.recorded_rows FORMAT SCENE...` records scenes under tests/data/rows/FORMAT, without a SCENE all of
them. A format that was released is never recorded again; a change of the rows gets a folder of its own.
"""

import argparse
import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from shared.core.chat.events import ChatCall, ChatEnd, ChatReasoning, ChatText
from shared.core.quota import Limits
from shared.core.response import (
    Absent,
    ItemStarted,
    ResponseStatus,
    RunError,
    Slice,
    Snapshot,
    TextAdded,
    Usage,
)
from shared.core.transcript import calls
from shared.ports.tables import Put, Row, Value
from shared.store.quotas import QuotaStore
from tests.support.client import Client
from tests.support.fakes import Seeded, answer, asks, later
from tests.support.generating import add_chat, drive_until_death, generates
from tests.support.memory_table import MemoryTable
from tests.support.waiting import APPROVAL, OUTPUT
from tests.support.world import World

FOLDER = Path(__file__).parents[1] / "data" / "rows"

# Long enough for chunk rows, also after compression.
_LONG = "".join(chr(0x4E00 + (n * 7919) % 20000) for n in range(9_000))

Scene = Callable[[World, Client], Awaitable[None]]


async def completed(world: World, client: Client) -> None:
    await client.start(metadata={"from": "tests"}, headers={"Idempotency-Key": "a key"})
    await world.tick()
    world.provider.state["resp_1"] = answer("resp_1", "Once upon a time.")
    await world.drive(3)


async def completed_with_long_texts(world: World, client: Client) -> None:
    await client.start(input=_LONG)
    world.provider.state["resp_1"] = answer("resp_1", _LONG)
    await world.drive(3)


async def completed_with_tools(world: World, client: Client) -> None:
    await client.start()
    world.provider.state["resp_1"] = asks("resp_1", "look_up", "pay")
    world.provider.state["resp_2"] = answer("resp_2", "Paid.")
    await world.drive(6)


async def completed_with_content_parts(world: World, client: Client) -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}
    world.agents.parts = {"look_up": [{"type": "input_text", "text": "Chart"}, image]}
    await completed_with_tools(world, client)


async def streaming(world: World, client: Client) -> None:
    """A run in the middle of its stream."""
    await client.start(stream=True)
    await _slice(world, ItemStarted(0, "reasoning"))
    await _slice(world, ItemStarted(1, "message"), TextAdded(1, "Once "))


async def streamed(world: World, client: Client) -> None:
    await streaming(world, client)
    world.provider.slice_replies = [
        Slice(response_id="resp_1", after=2, sequence=2, final=answer("resp_1", "Once upon a time."))
    ]
    await world.drive(3)


async def queued(world: World, client: Client) -> None:
    """A run whose create the provider has deferred."""
    world.provider.create_replies = [later("busy", unknown=True)]
    await client.start()


async def calling_tools(world: World, client: Client) -> None:
    await client.start()
    world.provider.state["resp_1"] = asks("resp_1", "look_up")
    await world.tick()


async def cancelling(world: World, client: Client) -> None:
    run = (await client.start()).json
    world.provider.cancel_replies["resp_1"] = later("busy")
    await client.post("/runs/{run_id}/cancel", run["id"])


async def cancelled(world: World, client: Client) -> None:
    run = (await client.start()).json
    await client.post("/runs/{run_id}/cancel", run["id"])
    await world.drive(3)


async def failed(world: World, client: Client) -> None:
    await client.start()
    error = RunError("server_error", "The model broke.")
    world.provider.state["resp_1"] = replace(
        answer("resp_1", "Half"), status=ResponseStatus.FAILED, error=error
    )
    await world.drive(3)


async def expired(world: World, client: Client) -> None:
    await client.start(deadline_seconds=10)
    await world.drive(5)


async def missing(world: World, client: Client) -> None:
    """A run whose response the provider does not find at the moment."""
    await client.start()

    world.provider.state["resp_1"] = Absent()
    await world.tick()


async def deleted(world: World, client: Client) -> None:
    """A tombstone that has not been purged."""
    run = (await client.start()).json
    world.provider.delete_replies = [later("busy")]
    await client.delete("/runs/{run_id}", run["id"])


async def conversation(world: World, client: Client) -> None:
    first = (await client.start()).json
    for number in (1, 2):
        world.provider.state[f"resp_{number}"] = answer(f"resp_{number}", f"Answer {number}.")
    await world.drive(3)
    await client.start(session_id=first["session_id"], input="And then?")
    await world.drive(3)


async def late_response(world: World, client: Client) -> None:
    """A response that came too late. Its cancellation is owed."""
    create = world.provider.create

    async def slow(request: Any) -> Snapshot | Any:
        world.provider.create = create  # type: ignore[method-assign]
        reply = await create(request)
        world.clock.pass_(600)
        [owed] = await world.owed()
        await world.work(owed.run_id)
        return reply

    world.provider.create = slow  # type: ignore[method-assign]
    await client.start()


async def waiting_to_read(world: World, client: Client) -> None:
    await client.start()
    world.provider.state["resp_1"] = later("HTTP 503.", provider_code="server_error")
    await world.drive(2)


async def waiting_to_create(world: World, client: Client) -> None:
    world.provider.create_replies = [later("no id", unknown=True, unusable=True), later("HTTP 429.")]
    await client.start()
    await world.drive(1)


async def commenting(world: World, client: Client) -> None:
    """A run that has written commentary before its answer."""
    await client.start(stream=True)
    await _slice(world, ItemStarted(0, "message", commentary=True), TextAdded(0, "I look. "))
    await _slice(world, ItemStarted(1, "message"), TextAdded(1, "It is "))


async def refused(world: World, client: Client) -> None:
    await client.start()
    content = [{"type": "refusal", "refusal": "I cannot help with that."}]
    output = json.dumps([{"type": "message", "role": "assistant", "content": content}])
    world.provider.state["resp_1"] = replace(answer("resp_1"), output=output)
    await world.drive(3)


async def unanswered(world: World, client: Client) -> None:
    """A run whose response asks for what only the app could do, and the next run of its session."""
    session_id = (await client.start()).json["session_id"]
    call = {"type": "custom_tool_call", "id": "ctc_1", "call_id": "c", "name": "run_sql", "input": "SELECT 1"}
    world.provider.state["resp_1"] = replace(
        answer("resp_1"), output=json.dumps([call]), calls=(), unanswerable=True
    )
    await world.drive(3)
    await client.start(session_id=session_id)


async def finished_at_once(world: World, client: Client) -> None:
    """A run with the finished reply to its create, which its provider does not know."""
    world.provider.create_replies = [answer("resp_1", _LONG)]
    world.provider.state["resp_1"] = Absent()
    await client.start()


async def at_another_provider(world: World, client: Client) -> None:
    """A session whose second run was at a provider that was declared then."""
    session_id = (await client.start()).json["session_id"]
    world.provider.state["resp_1"] = answer("resp_1", "Here.")
    await world.drive(3)
    world.agents.changes = {"provider": "far"}
    world.context.providers["far"] = world.provider
    await client.start(session_id=session_id)
    world.provider.state["resp_2"] = answer("resp_2", "Afar.")
    await world.drive(3)


async def waiting_for_an_approval(world: World, client: Client) -> None:
    """A run that waits for a person, and for what its caller runs."""
    world.agents.waiting = {"pay": APPROVAL, "ask": OUTPUT}
    await client.start()
    world.provider.state["resp_1"] = asks("resp_1", "pay", "ask", "look_up")
    await world.drive(3)


async def answered(world: World, client: Client) -> None:
    """A run whose calls were answered in each way, and one that still waits for an output."""
    world.agents.waiting = {"pay": APPROVAL, "ask": OUTPUT}
    run = (await client.start()).json
    world.provider.state["resp_1"] = asks("resp_1", "pay", "pay", "pay", "pay", "ask", "ask", "ask")
    await world.drive(2)
    waiting = (await client.get("/runs/{run_id}/calls", run["id"])).json["data"]
    long = {"note": _LONG}
    given: list[dict[str, Any]] = [
        {"approve": True},
        {"approve": True, "arguments": {"amount": 20}},
        {"approve": True, "arguments": long},
        {"approve": False, "reason": "It was paid before."},
        {"output": {"mass_kg": 41_000}},
        {"error": "There is no such ship."},
    ]
    for call, body in zip(waiting, given, strict=False):
        await client.post("/runs/{run_id}/calls/{call_id}", run["id"], call["id"], body=body)
        world.clock.pass_(1.5)
    await world.drive(1)


async def waited(world: World, client: Client) -> None:
    """A run that waited, and has ended. Nobody answered one of its calls in time."""
    world.agents.waiting = {"pay": APPROVAL, "ask": OUTPUT}
    run = (await client.start()).json
    world.provider.state["resp_1"] = asks("resp_1", "pay", "ask")
    world.provider.state["resp_2"] = answer("resp_2", "Paid.")
    await world.drive(2)
    [pay, _] = (await client.get("/runs/{run_id}/calls", run["id"])).json["data"]
    await client.post("/runs/{run_id}/calls/{call_id}", run["id"], pay["id"], body={"approve": True})
    await world.drive(2)
    await world.drive(1, 4 * 86_400)
    await world.drive(3)


async def waiting_for_a_hosted_tool(world: World, client: Client) -> None:
    """A run whose hosted MCP server asks for an approval."""
    await client.start()
    output = [
        {
            "type": "mcp_approval_request",
            "id": "mcpr_1",
            "server_label": "wiki",
            "name": "delete_page",
            "arguments": '{"page": 7}',
        }
    ]
    text = json.dumps(output)
    world.provider.state["resp_1"] = replace(answer("resp_1"), output=text, calls=calls(text))
    await world.drive(2)


async def handed_over(world: World, client: Client) -> None:
    """A run that has left a call to its caller, and the next run, which brings its output."""
    tools = [{"type": "function", "name": "look_up_ship", "parameters": {"type": "object"}}]
    run = (await client.start(tools=tools, caller_calls="end")).json
    world.provider.state["resp_1"] = asks("resp_1", "look_up_ship")
    await world.drive(3)
    item = {"type": "function_call_output", "call_id": "call_resp_1_0", "output": "41 t"}
    await client.start(session_id=run["session_id"], input=[item], tools=tools)


async def awaiting_outputs(world: World, client: Client) -> None:
    """A session whose next run has to bring an output."""
    tools = [{"type": "function", "name": "look_up_ship"}]
    await client.start(tools=tools, caller_calls="end")
    world.provider.state["resp_1"] = asks("resp_1", "look_up_ship")
    await world.drive(3)


async def generating(world: World, client: Client) -> None:
    """A run whose worker died while it held a stream. A part of its text is stored."""
    generates(world, [ChatReasoning("Who?"), 2.0, ChatText("Once "), 2.0, ChatText("upon "), 2.0])
    await client.start()
    await drive_until_death(world)


async def generated(world: World, client: Client) -> None:
    """A run with a tool, and with a text that a second worker has continued. Its usage is not known."""
    generates(
        world,
        [ChatCall(0, "call_1", "look_up", "{}"), ChatEnd("tool_calls", None)],
        [ChatText("Once "), 2.0, ChatText("upon "), 2.0],
        [ChatText("a time."), ChatEnd("stop", Usage(1, 2, 3))],
    )
    await client.start()
    await drive_until_death(world)
    await world.drive(3, 20)


async def generated_anew(world: World, client: Client) -> None:
    """A run whose text was taken back once, and is being written anew."""
    begin = [ChatText("Once "), 2.0, ChatText("more "), 2.0]
    generates(world, begin, begin, continues=False)
    await client.start()
    await drive_until_death(world)
    await drive_until_death(world, 20)


async def within_quotas(world: World, client: Client) -> None:
    """Two starts of an owner who has quotas."""
    limits = Limits(pending_runs=5, starts_per_minute=2)
    limited = Client(replace(world.context, quotas=QuotaStore(world.table, Seeded(), limits)))
    await limited.start()
    world.clock.pass_(7.25)
    await limited.start()


SCENES: tuple[Scene, ...] = (
    completed, completed_with_long_texts, completed_with_tools, streaming, streamed, queued, calling_tools, cancelling,
    cancelled, failed, expired, missing, deleted, conversation, late_response, completed_with_content_parts,
    waiting_to_read, waiting_to_create, commenting, refused, unanswered, within_quotas, waiting_for_an_approval, answered,
    waited, waiting_for_a_hosted_tool, handed_over, awaiting_outputs, finished_at_once, at_another_provider,
    generating, generated, generated_anew,
)  # fmt: skip


async def _slice(world: World, *changes: Any) -> None:
    [owed] = await world.owed()
    assert owed.continuation is not None
    after = owed.continuation.sequence or 0
    status = ResponseStatus.IN_PROGRESS
    world.provider.slice_replies = [
        Slice(response_id="resp_1", after=after, sequence=after + 1, changes=changes, status=status)
    ]
    await world.tick()


async def record(scene: Scene) -> dict[str, Any]:
    """Return the rows of a scene, its time, and what clients read then."""
    world = World()
    client = Client(world.context)
    await scene(world, client)
    return {
        "at": world.clock.now().isoformat(),
        "runs": _written(world.table),
        "content": _written(world.content_table),
        "answers": await answers(client),
    }


async def answers(client: Client) -> dict[str, Any]:
    """Return everything that clients can read."""
    runs = (await client.get("/runs", limit="100")).json["data"]
    found: dict[str, Any] = {"GET /runs": runs}
    for run in runs:
        paths = ["/runs/{run_id}", "/runs/{run_id}/events"]
        if any(call["status"] in _WAITED for call in run["tool_calls"]):
            paths.append("/runs/{run_id}/calls")
        for path in paths:
            found[f"GET {path} {run['id']}"] = (await client.get(path, run["id"])).json
        session = await client.get("/sessions/{session_id}", run["session_id"])
        found[f"GET /sessions {run['session_id']}"] = session.json
    return found


# The statuses of calls that only a run with calls that waited has.
_WAITED = {"waiting", "refused", "timed_out", "handed_over"}


async def restored(recorded: Mapping[str, Any], further: Mapping[str, Value] | None = None) -> World:
    """Return a world that holds recorded rows, at the time of the recording; `further` goes into each row."""
    world = World()
    for continues in (True, False):
        add_chat(world, continues=continues)
    world.clock.at = datetime.fromisoformat(recorded["at"])
    for table, name in ((world.table, "runs"), (world.content_table, "content")):
        for partition, rows in recorded[name].items():
            for key, values in rows.items():
                added = {} if name == "content" else dict(further or {})
                read = {each: _value(value) for each, value in values.items()}
                await table.write(partition, [Put(Row(key, {**read, **added}))])
    return world


def _written(table: MemoryTable) -> dict[str, Any]:
    return {
        partition: {
            key: {name: _json(value) for name, value in rows[key].values.items()} for key in sorted(rows)
        }
        for partition, rows in sorted(table._partitions.items())
        if rows
    }


def _json(value: Value) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _value(value: Any) -> Value:
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else value


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.recorded_rows", description=__doc__)
    parser.add_argument("format", help="the name of the folder, such as 1")
    parser.add_argument(
        "scenes", nargs="*", metavar="SCENE", help="its name, such as completed; default: all"
    )
    arguments = parser.parse_args()
    folder = FOLDER / arguments.format
    folder.mkdir(parents=True, exist_ok=True)
    for scene in SCENES:
        if arguments.scenes and scene.__name__ not in arguments.scenes:
            continue
        text = json.dumps(asyncio.run(record(scene)), indent=1, ensure_ascii=False)
        (folder / f"{scene.__name__}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
