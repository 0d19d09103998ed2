"""The port to the services that run responses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from shared.core.response import CancelReply, CreateReply, DeleteReply, ReadReply, SliceReply
from shared.core.run import DEFAULT_PROVIDER as DEFAULT_PROVIDER  # noqa: PLC0414 - it belongs to the port, too

# Fields of a request that Baton sets itself, so options cannot set them.
RESERVED_OPTIONS = frozenset(
    {
        "background",
        "conversation",
        "input",
        "instructions",
        "metadata",
        "model",
        "previous_response_id",
        "store",
        "stream",
        "stream_options",
        "tools",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseRequest:
    """What a provider needs to create one response in background mode.

    `input` and `tools` are JSON texts: input items and tool definitions of the Responses API.
    """

    run_id: str
    turn: int
    model: str
    instructions: str
    input: str
    tools: str
    previous_response_id: str | None
    # The same for each repetition of this request. None: the provider refuses such keys.
    idempotency_key: str | None = None
    # Whether its stream will be read in slices.
    stream: bool = False
    # Further fields of the request, by name.
    options: Mapping[str, object] = field(default_factory=dict)


class Provider(Protocol):
    """A service that runs responses in the background.

    Failures are returned as values of the reply types, not raised.
    """

    async def create(self, request: ResponseRequest) -> CreateReply: ...

    async def read(
        self, response_id: str, *, include: Sequence[str] = (), within: timedelta | None = None
    ) -> ReadReply:
        """Read the response, with the further fields in `include`.

        `within` is the time limit, when it is not the usual one.
        """
        ...

    async def slice(self, response_id: str, after: int, *, include: Sequence[str] = ()) -> SliceReply:
        """Read the response's stream for a short time, from the event `after` on.

        A provider without streams may return the response itself.
        """
        ...

    async def cancel(self, response_id: str) -> CancelReply: ...

    async def delete(self, response_id: str) -> DeleteReply:
        """Delete a response at the provider. `Absent` means that it is deleted."""
        ...


# The providers of the app, by the names that agents use.
Providers = Mapping[str, Provider]
