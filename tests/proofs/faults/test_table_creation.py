"""Creating the tables under each fault: they are there in the end, and nobody waits for long."""

import asyncio
import secrets
from dataclasses import replace

import pytest

from shared.adapters.azure_tables.account import create_missing_tables
from shared.adapters.azure_tables.table import TableStorage
from shared.errors import StorageUnavailable
from tests.proofs.faults.conftest import STALL_SECONDS
from tests.proofs.faults.network import Fault, Network, Trouble

# A function that is silent for longer than this has no use for its answer.
GIVE_UP_SECONDS = 20 * STALL_SECONDS


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("times", [1, None], ids=["once", "lasting"])
@pytest.mark.parametrize("fault", Fault)
async def test_tables_are_there_in_the_end(fault, times, nth, account, hasten, counted):
    hasten(fault)
    names = [f"{name}{secrets.token_hex(8)}" for name in ("runs", "content")]
    async with Network() as network:
        lying = replace(account, endpoint=await network.link("table", account.endpoint))
        network.expect(trouble := Trouble(fault, nth=nth, times=times))
        async with asyncio.timeout(GIVE_UP_SECONDS):
            try:
                await create_missing_tables(lying, names)
            except StorageUnavailable:
                network.trouble = None
                await create_missing_tables(lying, names)
        assert trouble.delivered, "the fault never struck"
        await network.settle()
    storage = TableStorage(account)
    try:
        for name in names:
            assert await storage.table(name).get("p", "none") is None
    finally:
        await storage.close()
    counted("creations of tables x faults", 1)
