"""Whose a request is, and what it may see of others."""

import json

import pytest

from shared.core import ids
from shared.core.caller import Caller, Role
from shared.errors import Unidentified
from shared.ports.tables import Put, Row
from shared.web.callers.header import caller_of
from shared.web.http import Request
from tests.support.client import Client
from tests.support.fakes import answer
from tests.support.world import World

HEADER = "X-Owner"
SPACES = [
    "\u00a0",
    "\u2003",
    "\u3000",
    "\u200b",
    "\u200e",
    "\ufeff",
    "\u2028",
    "\x0b",
    "\x0c",
    "\x85",
    "\x1f",
    "\r",
    "\n",
]


def owner_of(value: str) -> str:
    return caller_of(Request(url="https://app.example/api/runs", headers={"x-owner": value}), HEADER).owner


@pytest.mark.parametrize("value", ["bob", " bob", "bob\t", " \t bob \t "])
def test_spaces_and_tabs_around_a_name_do_not_belong_to_it(value):
    assert owner_of(value) == "bob"


@pytest.mark.parametrize("space", SPACES, ids=ascii)
def test_any_other_white_space_is_refused(space):
    for value in (f"bob{space}", f"{space}bob", f"bo{space}b", space, f" {space} "):
        with pytest.raises(Unidentified) as refusal:
            owner_of(value)
        assert refusal.value.code == "invalid_owner"


def test_names_that_differ_are_different_owners():
    names = [
        "bob",
        "Bob",
        "bob.",
        "b\u00f6b",
        "bo\u0308b",
        "\uff42ob",
        "bob smith",
        "bob,eve",
        "default ",
        "defaul",
    ]
    assert [owner_of(name) for name in names[:8]] == names[:8]


@pytest.mark.parametrize("value", ["key:ann", "aad:", " key:ann", "aad:1111"])
def test_nobody_can_claim_to_be_recognised_by_the_app_itself(value):
    with pytest.raises(Unidentified) as refusal:
        owner_of(value)
    assert refusal.value.code == "invalid_owner"
    assert owner_of("Key:ann") == "Key:ann"


@pytest.mark.parametrize("value", ["default", " default", "default\t"])
async def test_what_belongs_to_nobody_cannot_be_claimed(value):
    world = World()
    run = (await Client(world.context).start()).json
    claimed = await Client(world.context, owner=value).get("/runs/{run_id}", run["id"])
    assert (claimed.status, claimed.json["code"]) == (401, "invalid_owner")


# Health.


async def test_health_counts_for_everybody_while_roles_are_not_used(world):
    await Client(world.context, owner="ann").start()
    found = (await Client(world.context, owner="bob").get("/health")).json
    assert (found["status"], found["pending"]) == ("ok", 1)


async def test_health_has_a_status_without_counts_for_whoever_is_no_admin(world):
    assert (await Client(world.context, owner="").get("/health")).json == {"status": "ok"}
    ann = Client.with_callers(world.context, lambda _: Caller("ann", frozenset({Role.READER})), {})
    assert (await ann.get("/health")).json == {"status": "ok"}


# Idempotency-Keys.


async def key_row(world: World, owner: str, key: str) -> tuple[str, Row]:
    hashed = ids.key_hash(owner, key)
    shard = ids.key_shard(hashed)
    row = await world.table.get(shard, f"key|{hashed}")
    assert row is not None
    return shard, row


async def test_a_key_that_names_a_foreign_run_shows_nothing_of_it(world):
    ann, bob = Client(world.context, owner="ann"), Client(world.context, owner="bob")
    foreign = (await bob.start(input="a secret", metadata={"a": "secret"})).json
    key = {"Idempotency-Key": "k"}
    await ann.start(headers=key)
    shard, row = await key_row(world, "ann", "k")
    await world.table.write(shard, [Put(Row(row.key, {**row.values, "run_id": foreign["id"]}))])
    for fields in ({}, {"agent": "writer", "session_id": foreign["session_id"]}):
        reply = await ann.start(headers=key, **fields)
        assert reply.status in {404, 422}
        assert "secret" not in reply.text


@pytest.mark.parametrize("run_id", ["", "run_", "../x", "ses_0f" + "0" * 26, 7])
async def test_a_key_that_names_no_run_is_a_503(world, run_id):
    client = Client(world.context)
    key = {"Idempotency-Key": "k"}
    await client.start(headers=key)
    shard, row = await key_row(world, "default", "k")
    await world.table.write(shard, [Put(Row(row.key, {**row.values, "run_id": run_id}))])
    assert (await client.start(headers=key)).status == 503


async def test_the_hash_of_an_input_goes_with_its_run(world):
    client = Client(world.context)
    key = {"Idempotency-Key": "k"}
    run = (await client.start(headers=key, input="a secret")).json
    world.provider.state["resp_1"] = answer("resp_1")
    await world.until_terminal(run["id"])
    _, row = await key_row(world, "default", "k")
    fingerprint = row.values["fingerprint"]
    assert fingerprint
    await client.delete("/runs/{run_id}", run["id"])
    await world.drive(3, 700)
    everything = json.dumps(
        [row.values for there in world.table._partitions.values() for row in there.values()], default=repr
    )
    assert fingerprint not in everything
    # The key stays used, whatever is sent with it.
    for text in ("a secret", "another"):
        again = await client.start(headers=key, input=text)
        assert (again.status, again.json["code"]) == (409, "run_deleted")
