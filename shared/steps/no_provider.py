"""A null object for a provider that a run names and the app does not have any more."""

from collections.abc import Sequence
from datetime import timedelta

from shared.core.response import Absent, NoStream, Refused, RunError
from shared.ports.providers import ResponseRequest


def provider_gone(name: str) -> RunError:
    """Return the error of a run whose provider the app does not have any more."""
    return RunError(
        "provider_gone",
        f"This app has no provider {name!r} any more: it is not declared, or a setting that it names is missing.",
    )


class NoProvider:
    """Carries out nothing. What is lost there cannot be found, so that its runs end after the grace of lost responses."""

    def __init__(self, name: str) -> None:
        self._refused = Refused(provider_gone(name))

    async def create(self, _request: ResponseRequest) -> Refused:
        return self._refused

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

    async def delete(self, _response_id: str) -> Refused:
        return self._refused
