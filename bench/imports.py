"""The cost of imports at a cold start, in a process that has loaded only asyncio, like the Functions worker."""

import importlib
from collections.abc import Sequence

from bench.measure import Meter


async def first_import(meter: Meter, *, modules: Sequence[str]) -> None:
    with meter.measuring(count=1):
        for module in modules:
            importlib.import_module(module)
