"""The creation of the tables under each fault: they exist in the end, and no caller waits for long."""

import asyncio
import secrets
from dataclasses import replace

import pytest

from shared.adapters.azure_tables.account import create_missing_tables
from shared.adapters.azure_tables.table import TableStorage
from shared.errors import StorageUnavailable
from tests.proofs.faults.conftest import STALL_SECONDS
from tests.proofs.faults.network import Fault, FaultRule, Network

# The longest time that the creation of the tables may take.
GIVE_UP_SECONDS = 20 * STALL_SECONDS


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("times", [1, None], ids=["once", "lasting"])
@pytest.mark.parametrize("fault", Fault)
async def test_tables_exist_in_the_end(fault, times, nth, account, hasten, counted):
    hasten(fault)
    names = [f"{name}{secrets.token_hex(8)}" for name in ("runs", "content")]
    async with Network() as network:
        faulty = replace(account, endpoint=await network.link("table", account.endpoint))
        network.inject(rule := FaultRule(fault, nth=nth, times=times))
        async with asyncio.timeout(GIVE_UP_SECONDS):
            try:
                await create_missing_tables(faulty, names)
            except StorageUnavailable:
                network.rule = None
                await create_missing_tables(faulty, names)
        assert rule.applied, "the fault was not applied"
        await network.settle()
    storage = TableStorage(account)
    try:
        for name in names:
            assert await storage.table(name).get("p", "none") is None
    finally:
        await storage.close()
    counted("creations of tables x faults", 1)
