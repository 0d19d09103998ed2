"""What a cold start pays for modules, in a process that has nothing but asyncio loaded, as the worker has."""

import importlib
from collections.abc import Sequence

from bench.measure import Meter


async def first_import(meter: Meter, *, modules: Sequence[str]) -> None:
    with meter.measuring(count=1):
        for module in modules:
            importlib.import_module(module)
