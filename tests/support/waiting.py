"""Runs that wait for people, as a client of the HTTP API brings them about."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from shared.core.caller import Caller, Recognition, granted
from shared.core.calls import WaitKind
from shared.core.ids import call_id
from shared.ports.agents import WaitNeeded
from tests.support.client import Answer, Client
from tests.support.fakes import FakeAgents, asks
from tests.support.world import World

DAY = timedelta(days=1)
APPROVAL, OUTPUT = WaitNeeded(WaitKind.APPROVAL, 2 * DAY), WaitNeeded(WaitKind.OUTPUT, 3 * DAY)
CALL = "/runs/{run_id}/calls/{call_id}"


def waiting_agents(**changes: Any) -> FakeAgents:
    """Return agents of which `pay` needs an approval, and `ask` is run by the caller."""
    return FakeAgents(waiting={"pay": APPROVAL, "ask": OUTPUT}, **changes)


def waiting_world(**changes: Any) -> World:
    return World(agents=waiting_agents(), **changes)


def with_roles(world: World, *roles: str, owner: str = "key:ann", name: str | None = None) -> Client:
    """Return a client with the app's own key for these roles."""
    caller = Caller(owner, granted(roles), Recognition.API_KEY, name)
    return Client.with_callers(world.context, lambda _: caller, {})


async def waits(world: World, client: Client, *names: str, **fields: object) -> dict[str, Any]:
    """Start a run whose first response calls these tools, and return it once only people can move it."""
    run = (await client.start(**fields)).json
    [owed] = [each for each in await world.owed() if each.run_id == run["id"]]
    assert owed.continuation is not None
    world.provider.state[owed.continuation.response_id] = asks(owed.continuation.response_id, *names)
    await world.drive(2)
    waiting = await world.run(run["id"])
    return {
        "id": run["id"],
        "session_id": run["session_id"],
        "calls": [call_of(run["id"], each) for each in waiting.calls],
    }


def call_of(run_id: str, call: Any) -> tuple[str, str]:
    """Return the ids under which a call is answered."""
    return run_id, call_id(call.turn, call.call_id)


async def gives(client: Client, call: tuple[str, str], answer: Mapping[str, object] | bytes) -> Answer:
    """Answer a call."""
    return await client.post(CALL, *call, body=answer)
