"""Checks of the arguments of calls. They run in the event loop, and take turns with everything else in the process."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.agent import Tool

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.adapters.agents.schema import ToolSchema


@dataclass(frozen=True, slots=True)
class Unfit:
    """The arguments do not fit the tool. `reason` is for the model, and for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class CheckRaised:
    """A check that the author wrote has raised `fault`, so it is not known whether the arguments fit."""

    fault: BaseException


class Checks:
    """Checks arguments. `schema_of` returns the schema of a tool."""

    def __init__(self, schema_of: "Callable[[Tool[..., Any]], ToolSchema]") -> None:
        self._schema_of = schema_of
        self._turn = asyncio.Lock()

    async def arguments(
        self, tool: Tool[..., Any], read: "Callable[[ToolSchema], dict[str, Any]]"
    ) -> dict[str, Any] | Unfit | CheckRaised:
        """Return the arguments that `read` makes with the schema of the tool, or why there are none."""
        schema = self._schema_of(tool)
        from shared.adapters.agents.schema import BadArguments  # noqa: PLC0415 - imports pydantic

        async with self._turn:
            await asyncio.sleep(0)
            try:
                return read(schema)
            except BadArguments as error:
                return Unfit(str(error))
            except BaseException as error:  # noqa: BLE001 - a check of the author may raise anything
                return CheckRaised(error)
