"""A null object for a provider that a run names and the app does not have any more."""

from collections.abc import Sequence
from datetime import timedelta

from shared.core.response import Absent, NoStream, Refused, RunError
from shared.ports.providers import ResponseRequest


class NoProvider:
    """Knows no response, so that its runs end like runs whose response was not found."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def create(self, _request: ResponseRequest) -> Refused:
        return Refused(RunError("unknown_provider", f"This app has no provider {self._name!r} any more."))

    async def read(
        self, _response_id: str, *, include: Sequence[str] = (), within: timedelta | None = None
    ) -> Absent:
        del include, within
        return Absent()

    async def slice(self, _response_id: str, _after: int, *, include: Sequence[str] = ()) -> NoStream:
        del include
        return NoStream()

    async def cancel(self, _response_id: str) -> Absent:
        return Absent()

    async def delete(self, _response_id: str) -> Absent:
        return Absent()
