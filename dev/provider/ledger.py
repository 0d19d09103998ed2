"""What the emulator keeps of each response beside the engine: its request and its conversation."""

from dataclasses import dataclass, field

from dev.provider.plan import Plan
from dev.provider.wire import ApiError, Json

TERMINAL = frozenset({"completed", "failed", "cancelled", "incomplete"})


@dataclass
class Entry:
    """One response; `conversation` is everything before its output."""

    id: str
    request: Json
    conversation: list[Json]
    plan: Plan
    final: Json | None = None
    final_body: bytes = b""
    """`final`, encoded once: a finished novel may be read many times."""
    flipped_to: str | None = None
    """The status that replies show from now on, in place of the engine's."""

    @property
    def stored(self) -> bool:
        return self.request.get("store") is not False

    @property
    def background(self) -> bool:
        return self.request.get("background") is True


@dataclass
class Ledger:
    """Responses that can be read; a deleted one has no entry."""

    entries: dict[str, Entry] = field(default_factory=dict)

    def find(self, response_id: str) -> Entry:
        entry = self.entries.get(response_id)
        if entry is not None and entry.stored:
            return entry
        if not response_id.startswith("resp_"):
            message = f"Invalid 'response_id': '{response_id}'. Expected an ID that begins with 'resp'."
            raise ApiError(400, message, "response_id", "invalid_value")
        raise ApiError(404, f"Response with id '{response_id}' not found.")

    def previous(self, response_id: str) -> Entry:
        """Return the response that a request continues."""
        entry = self.entries.get(response_id)
        if entry is not None and entry.stored:
            return entry
        message = f"Previous response with id '{response_id}' not found."
        raise ApiError(400, message, "previous_response_id", "previous_response_not_found")
