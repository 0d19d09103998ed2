"""The Idempotency-Keys of creates, as a provider that honours them remembers them."""

from shared.adapters.responses_api.provider import create_body
from shared.core.response import KeyRefused
from shared.ports.providers import ResponseRequest
from tests.proofs.simulation.responses import Response


class Keys:
    """By key: the body of the create, and the response that it began."""

    def __init__(self, *, honoured: bool) -> None:
        self.honoured = honoured
        self._used: dict[str, tuple[bytes, Response]] = {}

    def known(self, request: ResponseRequest) -> Response | KeyRefused | None:
        """Return what an earlier create with this key began. Another body with the key is refused."""
        key = request.idempotency_key
        if not self.honoured or key is None or key not in self._used:
            return None
        body, response = self._used[key]
        return response if body == create_body(request) else KeyRefused("The key was used with another body.")

    def remember(self, request: ResponseRequest, response: Response) -> None:
        if self.honoured and request.idempotency_key is not None:
            self._used[request.idempotency_key] = create_body(request), response
