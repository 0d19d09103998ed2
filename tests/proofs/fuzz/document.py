"""The app's own openapi.json, narrowed to requests that the app accepts more often."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from tests.e2e.site import script, tool_call

ANSWER = "/runs/{run_id}/calls/{call_id}"
TRANSFER = {"name": "transfer", "arguments": {"mark": "e", "euros": 500}}
METER = {"name": "read_meter", "arguments": {}}

# Scripts for the emulated model. An input that is generated at random makes it only write prose.
_SCRIPTS = (
    script(turns=[{"text": "done"}]),
    script(turns=[{"text": "\ufeff\u202e\u0000 <b>line\r\nend</b> " * 50}]),
    script(turns=[{"calls": [tool_call("pay", "a"), tool_call("look_up", "b")]}, {"text": "paid"}]),
    script(turns=[{"calls": [tool_call("pay", "c", 0.3)]}, {"text": "slow"}]),
    script(turns=[{"calls": [{"name": "no_such_tool", "arguments": "{"}]}, {"refusal": "no"}]),
    script(turns=[{"calls": [tool_call("look_up", "d")]}], loop=True),
    script(turns=[{"status": "failed", "error": {"code": "server_error", "message": "broken"}}]),
    script(turns=[{"status": "incomplete", "text": "half"}]),
    script(turns=[{"text": "late"}], seconds=30),
    # These calls wait, if the agent has the tools.
    script(turns=[{"calls": [TRANSFER, METER]}, {"text": "transferred"}]),
    script(turns=[{"calls": [{"name": "hurry", "arguments": {"mark": "f"}}]}, {"text": "too late"}]),
    "[[script {]]",
)


def narrowed(
    document: dict[str, Any], agents: Sequence[str], waiting: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Return the document with the agents that exist, scripts among the inputs, and the ids of calls that wait, by run.

    The document allows any name for an agent, and any id of a call, so nearly all starts would be refused as
    `unknown_agent`, and all answers as `call_not_found`.
    """
    narrow = copy.deepcopy(document)
    fields = narrow["components"]["schemas"]["NewRun"]["properties"]
    fields["agent"] = {"enum": list(agents)}
    text, items = fields["input"]["oneOf"]
    fields["input"] = {"anyOf": [{"enum": list(_SCRIPTS)}, text, items]}
    schemas = narrow["components"]["schemas"]
    calls = [call for each in waiting.values() for call in each]
    narrow["paths"][ANSWER]["parameters"] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"anyOf": [{"enum": list(ids)}, {"enum": list(ids)}, schemas[kind]]},
        }
        for name, ids, kind in (("run_id", waiting, "RunId"), ("call_id", calls, "CallId"))
    ]
    return narrow


def operations(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the method and the path template of each operation."""
    return [
        (method.upper(), template)
        for template, item in document["paths"].items()
        for method in item
        if method in {"get", "post", "put", "patch", "delete"}
    ]
