"""The emulator as a model with a hosted MCP server: it asks before it calls the server's tool."""

import json
from collections.abc import Iterator, Sequence

from dev.provider.script import Turn
from dev.provider.wire import Json


def asking_server(tools: Sequence[Json]) -> Json | None:
    """Return the first MCP server among the tools of a request whose calls need an approval."""
    found = (tool for tool in tools if tool.get("type") == "mcp" and tool.get("require_approval") != "never")
    return next(found, None)


def mcp_turn(server: Json, topic: str, after: Sequence[Json]) -> Turn:
    """Return the next turn. `after` are the items since the last message of the user."""
    requests = {item["id"]: item for item in after if item.get("type") == "mcp_approval_request"}
    decisions = [item for item in after if item.get("type") == "mcp_approval_response"]
    if not decisions:
        request = {
            "type": "mcp_approval_request",
            "server_label": server.get("server_label", ""),
            "name": next(_allowed(server), "search"),
            "arguments": json.dumps({"query": topic}, ensure_ascii=False),
        }
        return Turn(items=(request,))
    decision = decisions[-1]
    request = requests[decision["approval_request_id"]]
    name, label = request["name"], request["server_label"]
    if not decision["approve"]:
        return Turn(
            text=f"I have not called {name} of {label}. I was told: {decision.get('reason') or 'no reason'}"
        )
    output = f"three pages about {topic}"
    call = {name: request[name] for name in ("server_label", "name", "arguments")}
    call |= {"type": "mcp_call", "approval_request_id": request["id"], "output": output, "error": None}
    return Turn(items=(call,), text=f"{name} of {label} has found {output}.")


def _allowed(server: Json) -> Iterator[str]:
    allowed = server.get("allowed_tools") or ()
    names = allowed.get("tool_names") or () if isinstance(allowed, dict) else allowed
    yield from (name for name in names if isinstance(name, str))
