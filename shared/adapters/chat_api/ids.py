"""Other ids of calls, for a provider that accepts only those of its own form. Pure."""

import json
from collections.abc import Iterator
from typing import Any

from shared.core.chat.call_ids import is_made, made_id


def has_other_ids(messages: str) -> bool:
    """Return whether an id of a call is not nine letters and digits. `messages` is a JSON text of `chat_messages`."""
    return any(not is_made(call["id"]) for call in _calls(json.loads(messages)))


def with_made_ids(messages: str) -> str:
    """Return messages in which each id of a call is nine letters and digits: the same for the same messages, none twice."""
    found = json.loads(messages)
    ids = {call["id"]: call["id"] for call in _calls(found) if is_made(call["id"])}
    taken = set(ids)
    for call in _calls(found):
        if call["id"] not in ids:
            ids[call["id"]] = made_id(call["id"], taken)
            taken.add(ids[call["id"]])
        call["id"] = ids[call["id"]]
    for message in found:
        if "tool_call_id" in message:
            message["tool_call_id"] = ids[message["tool_call_id"]]
    return json.dumps(found, ensure_ascii=False)


def _calls(messages: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (call for message in messages for call in message.get("tool_calls", ()))
