"""The port to the services that run responses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from shared.core.response import CancelReply, CreateReply, DeleteReply, ReadReply, SliceReply

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
    # Whether its stream will be read in slices.
    stream: bool = False
    # Further fields of the request, by name.
    options: Mapping[str, object] = field(default_factory=dict)


class Provider(Protocol):
    """A service that runs responses in the background.

    Failures are returned as values of the reply types, not raised.
    """

    async def create(self, request: ResponseRequest) -> CreateReply: ...

    async def read(self, response_id: str) -> ReadReply: ...

    async def slice(self, response_id: str, after: int) -> SliceReply:
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

DEFAULT_PROVIDER = "default"
