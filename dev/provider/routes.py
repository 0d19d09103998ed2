"""From an HTTP request to an operation of the API, with the credentials it needs."""

import json
from typing import Any

from dev.provider.wire import ApiError

PREFIXES = ("/v1/responses", "/openai/v1/responses")
CHATS = ("/v1/chat/completions", "/openai/v1/chat/completions")


def route(method: str, path: str) -> tuple[str, str | None]:
    """Return operation and response id."""
    if path in CHATS:
        if method != "POST":
            raise ApiError(405, f"Not allowed to {method} on {path}.", code="method_not_supported")
        return "chat", None
    prefix = next((one for one in PREFIXES if path == one or path.startswith(one + "/")), None)
    if prefix is None:
        raise ApiError(404, f"Invalid URL ({method} {path})")
    match method, path.removeprefix(prefix).strip("/").split("/"):
        case "POST", [""]:
            return "create", None
        case "GET", [response_id] if response_id:
            return "retrieve", response_id
        case "DELETE", [response_id] if response_id:
            return "delete", response_id
        case "POST", [response_id, "cancel"]:
            return "cancel", response_id
        case "GET", [response_id, "input_items"]:
            return "input_items", response_id
        case _, [""] | [_] | [_, "cancel" | "input_items"]:
            raise ApiError(405, f"Not allowed to {method} on {path}.", code="method_not_supported")
        case _:
            raise ApiError(404, f"Invalid URL ({method} {path})")


def authenticate(headers: dict[str, str]) -> None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return
    if not headers.get("api-key"):
        message = (
            "You didn't provide an API key. You need to provide your API key in an Authorization header "
            "using Bearer auth (i.e. Authorization: Bearer YOUR_KEY)."
        )
        raise ApiError(401, message)


def parse_body(body: bytes) -> Any:
    try:
        return json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError):
        message = (
            "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your "
            "HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)"
        )
        raise ApiError(400, message) from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
