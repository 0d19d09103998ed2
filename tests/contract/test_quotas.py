"""Quotas, on every kind of table: starts at the same moment."""

import asyncio
from dataclasses import replace

import pytest

from shared.core import ids
from shared.core.caller import Caller
from shared.core.quota import Limits
from shared.errors import TooMany
from shared.store import rows
from shared.store.quotas import QuotaStore
from shared.usecases.cancel import cancel
from tests.support.fakes import Seeded
from tests.support.world import World, stores

OWNER = "ann o'hara & 宇/#?"
CALLER = Caller(OWNER)
STARTS, ALLOWED = 12, 5


def host(table, number: int, limits: Limits) -> World:
    """Return one of the hosts that share a table."""
    world, randomness = World(), Seeded(number)
    shared = stores(table, world.content_table, randomness) | {"randomness": randomness}
    world.context = replace(world.context, quotas=QuotaStore(table, randomness, limits), **shared)
    return world


@pytest.mark.parametrize(
    "limits",
    [
        Limits(pending_runs=ALLOWED),
        Limits(starts_per_minute=ALLOWED),
        Limits(pending_runs=ALLOWED, starts_per_minute=9),
    ],
    ids=["pending", "starts", "both"],
)
async def test_starts_at_the_same_moment_are_never_one_too_many(new_table, limits):
    table = await new_table()
    hosts = [host(table, number, limits) for number in range(2)]
    done = await asyncio.gather(
        *(hosts[number % 2].start(caller=CALLER) for number in range(STARTS)), return_exceptions=True
    )
    refused = [one for one in done if isinstance(one, BaseException)]
    assert {type(one) for one in refused} == {TooMany}
    assert len(done) - len(refused) == ALLOWED
    shard = ids.home_shard(OWNER)
    assert len(await table.query(shard, "run|", "run}")) == ALLOWED


async def test_a_quota_is_read_with_the_pending_runs_of_its_owner(new_table):
    table = await new_table()
    world = host(table, 1, Limits(pending_runs=ALLOWED, starts_per_minute=2))
    empty = await world.context.quotas.read(OWNER)
    assert (empty.pending, empty.starts, empty.etag) == (0, (), "")
    run = await world.start(caller=CALLER)
    await world.start(caller=CALLER)
    first = world.clock.now()
    found = await world.context.quotas.read(OWNER)
    assert (found.pending, found.starts) == (2, (first, first))
    await cancel(world.context, CALLER, run.id)
    world.clock.pass_(60)
    await world.start(caller=CALLER)
    found = await world.context.quotas.read(OWNER)
    assert (found.pending, found.starts) == (2, (first, world.clock.now()))
    row = await table.get(ids.home_shard(OWNER), rows.quota_key(OWNER))
    assert (row.etag, row.values["owner"]) == (found.etag, OWNER)
