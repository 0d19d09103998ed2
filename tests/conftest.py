"""What tests of several folders share."""

# Outside of the virtual environment, one sentence says what to do. So these come before all other imports.
import sys
from importlib.util import find_spec

_NEEDED = ("aiohttp", "azure", "azure_functions_runtime", "hypothesis", "pytest_asyncio", "pytest_timeout")
if sys.version_info < (3, 11) or not all(map(find_spec, _NEEDED)):
    # No exception of pytest ends it here without a trace.
    sys.exit(
        "The tests need this project's virtual environment: run `make unit`, which sets it up, or .venv/bin/pytest."
    )

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import hypothesis
import pytest

from dev.azurite import azurite
from shared.adapters.azure_tables.account import TableAccount, create_missing_tables
from shared.adapters.azure_tables.table import TableStorage
from shared.ports.tables import Table
from tests.support.client import Client
from tests.support.memory_table import MemoryTable
from tests.support.world import World

# A shared machine is sometimes slow, which is no fault of an example.
hypothesis.settings.register_profile(
    "baton", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("baton")

NewTable = Callable[[], Awaitable[Table]]


@pytest.fixture(scope="session")
def connection_string() -> Iterator[str]:
    """An Azurite that the whole test session shares: use names of your own for what you create in it."""
    with azurite() as connection_string:
        yield connection_string


@pytest.fixture
def account(connection_string: str) -> TableAccount:
    return TableAccount.from_connection_string(connection_string)


@pytest.fixture
async def storage(account: TableAccount) -> AsyncIterator[TableStorage]:
    storage = TableStorage(account)
    yield storage
    await storage.close()


@pytest.fixture
async def azure_table(account: TableAccount, storage: TableStorage) -> NewTable:
    """Gives empty tables in Azurite."""

    async def new() -> Table:
        name = f"t{secrets.token_hex(8)}"
        await create_missing_tables(account, [name])
        return storage.table(name)

    return new


@pytest.fixture
def memory_table() -> NewTable:
    """Gives empty tables in memory."""

    async def new() -> Table:
        return MemoryTable()

    return new


@pytest.fixture(params=["memory_table", "azure_table"])
def new_table(request: pytest.FixtureRequest) -> NewTable:
    """Gives empty tables of each kind in turn: what uses it has to hold for all of them."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def world() -> World:
    """A wired application over memory tables."""
    return World()


@pytest.fixture
def client(world: World) -> Client:
    """A client of that application."""
    return Client(world.context)
