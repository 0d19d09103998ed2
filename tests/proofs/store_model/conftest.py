"""The fixture of these tests."""

from collections.abc import Iterator

import pytest

from tests.proofs.store_model.twin import Azurite


@pytest.fixture
def azurite(connection_string: str) -> Iterator[Azurite]:
    opened = Azurite(connection_string)
    yield opened
    opened.close()
