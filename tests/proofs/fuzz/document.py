"""The app's own openapi.json, narrowed to requests that the app accepts more often."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from tests.e2e.site import script, tool_call

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
    "[[script {]]",
)


def narrowed(document: dict[str, Any], agents: Sequence[str]) -> dict[str, Any]:
    """Return the document with the agents that exist, and scripts among the inputs.

    The document allows any name for an agent, so nearly all starts would be refused as `unknown_agent`.
    """
    narrow = copy.deepcopy(document)
    fields = narrow["components"]["schemas"]["NewRun"]["properties"]
    fields["agent"] = {"enum": list(agents)}
    text, items = fields["input"]["oneOf"]
    fields["input"] = {"anyOf": [{"enum": list(_SCRIPTS)}, text, items]}
    return narrow


def operations(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the method and the path template of each operation."""
    return [
        (method.upper(), template)
        for template, item in document["paths"].items()
        for method in item
        if method in {"get", "post", "put", "patch", "delete"}
    ]
