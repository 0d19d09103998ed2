"""What providers of chat completions require of the messages of a request. The strictest rule of any of them counts."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

CALL_ID = re.compile(r"[a-zA-Z0-9_-]{1,40}")
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
# Which roles may follow which. The beginning is "". Only outputs follow calls.
FOLLOWS = {
    "": {"system", "user", "assistant"},
    "system": {"user", "assistant"},
    "user": {"user", "assistant"},
    "assistant": {"user", "assistant"},
    "calls": {"tool"},
    "tool": {"tool", "assistant"},
}
FIELDS = {
    "system": {"role", "content"},
    "user": {"role", "content"},
    "assistant": {"role", "content", "tool_calls"},
    "tool": {"role", "content", "tool_call_id"},
}


def faults(messages: Sequence[dict[str, Any]]) -> list[str]:
    """Return what a provider would refuse."""
    return [*_order(messages), *_contents(messages), *_ids(messages), *_encoding(messages)]


def _order(messages: Sequence[dict[str, Any]]) -> Iterator[str]:
    before = ""
    owed: list[str] = []
    for number, message in enumerate(messages):
        role = message["role"]
        if role not in FOLLOWS[before]:
            yield f"{number}: {role} after {before or 'nothing'}"
        if owed and (role != "tool" or message["tool_call_id"] != owed.pop(0)):
            yield f"{number}: not the output of the next call"
        elif before == "tool" and role == "tool" and not _owed_before(messages, number):
            yield f"{number}: the output of no call"
        if message.get("tool_calls"):
            owed = [call["id"] for call in message["tool_calls"]]
        before = "calls" if message.get("tool_calls") else role
    if owed:
        yield "calls without outputs"


def _owed_before(messages: Sequence[dict[str, Any]], number: int) -> bool:
    first = max(n for n in range(number) if messages[n]["role"] != "tool")
    return number - first <= len(messages[first].get("tool_calls", ()))


def _contents(messages: Sequence[dict[str, Any]]) -> Iterator[str]:
    for number, message in enumerate(messages):
        content, calls = message["content"], message.get("tool_calls")
        if not message.keys() <= FIELDS[message["role"]]:
            yield f"{number}: unknown fields"
        if isinstance(content, list):
            if message["role"] != "user" or not any(part["type"] == "image_url" for part in content):
                yield f"{number}: parts that are not needed"
            texts = [part["text"] for part in content if part["type"] == "text"]
            texts += [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
        else:
            texts = [] if content is None and calls else [content or ""]
        if not all(text.strip() for text in texts):
            yield f"{number}: an empty content"
        if calls == []:
            yield f"{number}: an empty list of calls"
        for call in calls or ():
            yield from (f"{number}: {fault}" for fault in _call(call))


def _call(call: dict[str, Any]) -> Iterator[str]:
    if call["type"] != "function" or not NAME.fullmatch(call["function"]["name"]):
        yield "a bad name"
    if not isinstance(json.loads(call["function"]["arguments"]), dict):
        yield "arguments that are no object"


def _ids(messages: Sequence[dict[str, Any]]) -> Iterator[str]:
    ids = [call["id"] for message in messages for call in message.get("tool_calls", ())]
    yield from (f"a bad id: {each}" for each in ids if not CALL_ID.fullmatch(each))
    if len(set(ids)) < len(ids):
        yield "an id twice"


def _encoding(messages: Sequence[dict[str, Any]]) -> Iterator[str]:
    try:
        json.dumps(messages, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as fault:
        yield f"not JSON: {fault}"
