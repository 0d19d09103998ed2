"""The requests that the provider of a case receives, and the conditions under which a rule answers them."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from shared.adapters.http.transport import Request
from tests.proofs.cases.case import Rule

BASE = "https://provider.example/v1"
_ACTIONS = {("GET", ""): "read", ("POST", "cancel"): "cancel", ("DELETE", ""): "delete"}


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A request to the provider, at a second of the case."""

    kind: str
    at: float
    url: str
    headers: Mapping[str, str]
    # The id in the path, decoded. Empty for a create.
    response_id: str = ""
    query: tuple[tuple[str, str], ...] = ()
    # The JSON body of a create.
    body: Mapping[str, Any]
    # How many seconds the app waits for the complete answer.
    within: float

    @property
    def items(self) -> list[dict[str, Any]]:
        return [item for item in self.body.get("input", ()) if isinstance(item, dict)]

    @property
    def kinds(self) -> list[str]:
        """The input items in order: the role of a message, the type of any other item."""
        return [kind_of(item) for item in self.items]

    @property
    def run(self) -> str:
        return str(self.body.get("metadata", {}).get("baton_run", ""))

    @property
    def turn(self) -> int:
        return int(self.body.get("metadata", {}).get("baton_turn", 0))

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers.items() if key.lower() == name.lower()), None)


def kind_of(item: Mapping[str, Any]) -> str:
    kind = item.get("type", "message")
    return str(item.get("role")) if kind == "message" else str(kind)


def received(request: Request, headers: Mapping[str, str], at: float) -> Sent:
    """Return a request as a server reads it. A path that no server would understand has the kind "unknown"."""
    parts = urlsplit(request.url)
    query = tuple(parse_qsl(parts.query, keep_blank_values=True))
    segments = parts.path.removeprefix("/v1/responses").strip("/").split("/")
    response_id = unquote(segments[0], errors="surrogateescape")
    kind = _ACTIONS.get((request.method, "/".join(segments[1:])), "unknown")
    if (request.method, segments) == ("POST", [""]):
        kind = "create"
    elif response_id in {"", ".", ".."} or not request.url.startswith(f"{BASE}/responses/"):
        # Clients and servers resolve dots in a path, also encoded ones, so this is another address.
        kind = "unknown"
    elif kind == "read" and ("stream", "true") in query:
        kind = "slice"
    return Sent(
        kind=kind,
        at=at,
        url=request.url,
        headers=headers,
        response_id=response_id,
        query=query,
        body=json.loads(request.body) if request.body else {},
        within=request.within.total_seconds(),
    )


def fits(rule: Rule, sent: Sent, maker: Sent | None, before: Sequence[Sent], runs: Sequence[str]) -> bool:
    """Return whether a rule answers a request.

    `maker` is the create that made the response, or the request itself. `before` are the requests before it, and
    `runs` are the ids of the client's runs in order.
    """
    made = maker or sent
    return (
        rule.request in {"any", sent.kind}
        and rule.id in {None, sent.response_id}
        and set(rule.query.items()) <= set(sent.query)
        and (rule.run is None or made.run in runs[rule.run - 1 : rule.run])
        and rule.turn in {None, made.turn}
        and (not rule.carries or rule.carries in made.kinds)
        and (not rule.without_header or sent.header(rule.without_header) is None)
        and all(CONDITIONS[condition](sent, made, before) for condition in rule.when)
    )


def _cancelled(sent: Sent, before: Sequence[Sent]) -> bool:
    return any(one.kind == "cancel" and one.response_id == sent.response_id for one in before)


def forces(choice: object) -> bool:
    """Return whether a tool_choice makes the model call a tool."""
    match choice:
        case "required":
            return True
        case {"type": "allowed_tools", "mode": mode}:
            return bool(mode == "required")
        case {"type": str()}:
            return True
    return False


def repeated_call_ids(sent: Sent) -> list[str]:
    """Return the call ids that two input items of one type have."""
    seen = Counter((kind_of(item), item["call_id"]) for item in sent.items if "call_id" in item)
    return [call_id for (_, call_id), count in seen.items() if count > 1]


def _key_had_another_body(sent: Sent, before: Sequence[Sent]) -> bool:
    key = sent.header("Idempotency-Key")
    return key is not None and any(
        one.kind == "create" and one.header("Idempotency-Key") == key and one.body != sent.body
        for one in before
    )


# What a rule may name in `when`. Each gets the request, the create that made its response, and the earlier requests.
CONDITIONS: Mapping[str, Callable[[Sent, Sent, Sequence[Sent]], bool]] = {
    "chained": lambda _sent, made, _before: "previous_response_id" in made.body,
    "a tool is forced": lambda _sent, made, _before: forces(made.body.get("tool_choice")),
    "a call id occurs twice": lambda _sent, made, _before: bool(repeated_call_ids(made)),
    "before the cancel": lambda sent, _made, before: not _cancelled(sent, before),
    "the key had another body": lambda sent, _made, before: _key_had_another_body(sent, before),
}
