"""What the input of a run may hold. All callers share one account at the provider, so this is a list of what is allowed.

An input is a conversation so far: messages of the user and of the assistant, with texts, images and files. It may answer
calls that the session has left open. It must not give instructions in the name of the app, claim to be the result of
another call, or name what others have stored in the account.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.core.public_url import is_public_https
from shared.core.replay import answered_id, asked_id
from shared.core.transcript import Item

MAX_FILE_NAME_CHARACTERS = 255

_BASE64 = re.compile(r"[A-Za-z0-9+/_=\r\n-]*")
_URLS = ("image_url", "file_url")
_SOURCES = (*_URLS, "file_data", "filename")
_DATA_URL = re.compile(r"data:[^,\r\n]{0,255},", re.IGNORECASE)

_MESSAGE = frozenset({"type", "role", "content", "id", "status", "phase"})
# The parts of a message, and the fields of each, by the role of its author.
_PARTS: Mapping[str, Mapping[str, frozenset[str]]] = {
    "user": {
        "input_text": frozenset({"text"}),
        "input_image": frozenset({"image_url", "file_id", "detail"}),
        "input_file": frozenset({"file_url", "file_data", "filename", "file_id"}),
    },
    "assistant": {
        "output_text": frozenset({"text", "annotations", "logprobs"}),
        "refusal": frozenset({"refusal"}),
    },
}
# The calls that a client may answer, with the type of the answer. The app's own tools answer calls of functions, except for
# those that a run has handed over.
_ANSWERED_BY: Mapping[str, str] = {
    "custom_tool_call": "custom_tool_call_output",
    "computer_call": "computer_call_output",
    "shell_call": "shell_call_output",
    "local_shell_call": "local_shell_call_output",
    "apply_patch_call": "apply_patch_call_output",
}
# The fields of an answer, and what each may be. `output` is checked part by part.
_FIELDS: Mapping[str, Callable[[Any], bool]] = {
    "call_id": lambda value: isinstance(value, str),
    "status": lambda value: value is None or isinstance(value, str),
    "max_output_length": lambda value: (
        value is None or (isinstance(value, int) and not isinstance(value, bool))
    ),
    "acknowledged_safety_checks": lambda value: value is None or _are_safety_checks(value),
}
_ANSWERS: Mapping[str, frozenset[str]] = {
    "function_call_output": frozenset({"call_id", "output"}),
    "custom_tool_call_output": frozenset({"call_id", "output"}),
    "computer_call_output": frozenset({"call_id", "output", "acknowledged_safety_checks"}),
    "shell_call_output": frozenset({"call_id", "output", "max_output_length"}),
    "local_shell_call_output": frozenset({"call_id", "output"}),
    "apply_patch_call_output": frozenset({"call_id", "output"}),
}
# An approval counts only where it is checked who gives it.
_APPROVALS = frozenset({"mcp_approval_request", "mcp_approval_response"})
_SAFETY_CHECK = frozenset({"id", "code", "message"})
# What has no use without the item or the file that it names.
_IGNORED = frozenset({"annotations", "logprobs"})


@dataclass(frozen=True, slots=True)
class InputRules:
    """How much of an input is allowed."""

    # Whether every item is, of any type.
    anything: bool = False
    # Whether messages may name items and files that are stored in the account.
    ids: bool = False


def answered(items: Iterable[Item]) -> dict[str, str]:
    """Return the calls that an input answers: their ids, and the types of the answers."""
    found = {answered_id(item): str(item.get("type")) for item in items}
    return {call_id: kind for call_id, kind in found.items() if call_id is not None}


def open_calls(items: Iterable[Item]) -> dict[str, str]:
    """Return the calls among the items that a client may answer: their ids, and the type of an answer to each."""
    found: dict[str, str] = {}
    for item in items:
        if (asked := asked_id(item)) is not None and (kind := str(item.get("type"))) in _ANSWERED_BY:
            found[asked] = _ANSWERED_BY[kind]
        elif (given := answered_id(item)) is not None:
            found.pop(given, None)
    return found


class NotAllowed(ValueError):
    """An input has something that is not allowed. The message is for the caller."""


def check(items: Sequence[Item], rules: InputRules) -> Sequence[Item]:
    """Return the items of an input as they may be sent. Raises NotAllowed."""
    for position, item in enumerate(items):
        # The type may be of any type itself, which a set could not look for.
        if str(item.get("type")) in _APPROVALS:
            raise NotAllowed(
                f"input[{position}] is about an approval. Approve or refuse the call of the run that waits for it: POST "
                "/api/runs/{run_id}/calls/{call_id}."
            )
    if rules.anything:
        return items
    given = [call_id for item in items if (call_id := answered_id(item)) is not None]
    if len(set(given)) < len(given):
        raise NotAllowed("input answers a call twice.")
    return [_item(item, f"input[{position}]", ids=rules.ids) for position, item in enumerate(items)]


def output_of_call(value: Any, rules: InputRules) -> tuple[str, bool]:
    """Return what a caller sends as the output of a call: a text, and whether it is the JSON text of content parts.

    Raises NotAllowed.
    """
    if isinstance(value, str):
        return value, False
    parts = isinstance(value, list) and bool(value) and all(map(_is_user_part, value))
    if parts and not rules.anything:
        value = [
            _part(part, "user", f"output[{position}]", ids=rules.ids) for position, part in enumerate(value)
        ]
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")), parts


def _is_user_part(value: object) -> bool:
    kind = value.get("type") if isinstance(value, dict) else None
    return isinstance(kind, str) and kind in _PARTS["user"]


def _item(item: Item, place: str, *, ids: bool) -> Item:
    kind, role = item.get("type", "message"), item.get("role")
    if isinstance(kind, str) and kind in _ANSWERS:
        return _answer(item, _ANSWERS[kind], place, ids=ids)
    if kind != "message":
        raise NotAllowed(
            f"{place} has the type {_shown(kind)}; allowed are messages, and answers to calls of the session."
        )
    if not isinstance(role, str) or role not in _PARTS:
        raise NotAllowed(f"{place} has the role {_shown(role)}; allowed are: {', '.join(_PARTS)}.")
    _check_fields(item, _MESSAGE, place)
    _check_id(item, "id", place, ids=ids)
    for name in ("status", "phase"):
        _check_text(item, name, place)
    content = item.get("content")
    if isinstance(content, str):
        return item
    if not isinstance(content, list) or not content:
        raise NotAllowed(f"{place} needs content: a text, or a list of parts.")
    parts = [_part(part, role, f"{place}.content[{n}]", ids=ids) for n, part in enumerate(content)]
    return item | {"content": parts}


def _answer(item: Item, allowed: frozenset[str], place: str, *, ids: bool) -> Item:
    _check_fields(item, allowed | {"type", "id", "status"}, place)
    if answered_id(item) is None:
        raise NotAllowed(f"{place} does not name the call that it answers.")
    for name, fits in _FIELDS.items():
        if name in item and not fits(item[name]):
            raise NotAllowed(f"{place}.{name} has a value that is not allowed.")
    _check_id(item, "id", place, ids=ids)
    _check_output(item.get("output"), f"{place}.output", ids=ids)
    return item


def _are_safety_checks(value: object) -> bool:
    """Return whether this acknowledges the safety checks of a computer call, and nothing else."""
    return isinstance(value, list) and all(
        isinstance(each, dict)
        and each.keys() <= _SAFETY_CHECK
        and all(text is None or isinstance(text, str) for text in each.values())
        for each in value
    )


def _check_output(value: Any, place: str, *, ids: bool) -> None:
    """Check what an answer holds, which may be anything."""
    if isinstance(value, list):
        for number, inner in enumerate(value):
            _check_output(inner, f"{place}[{number}]", ids=ids)
    elif isinstance(value, dict):
        for name in ("id", "file_id", "container_id"):
            _check_id(value, name, place, ids=ids)
        for name in _SOURCES:
            _check_text(value, name, place)
        _check_sources(value, place)
        for name, inner in value.items():
            _check_output(inner, f"{place}.{_shown(name)}", ids=ids)


def _part(part: Any, role: str, place: str, *, ids: bool) -> Item:
    kind = part.get("type") if isinstance(part, dict) else None
    allowed = _PARTS[role].get(kind) if isinstance(kind, str) else None
    if allowed is None:
        known = ", ".join(_PARTS[role])
        raise NotAllowed(f"{place} has the type {_shown(kind)}; allowed for {role} are: {known}.")
    _check_fields(part, allowed | {"type"}, place)
    _check_id(part, "file_id", place, ids=ids)
    for name in allowed - _IGNORED:
        _check_text(part, name, place)
    if kind in {"input_text", "output_text"} and not isinstance(part.get("text"), str):
        raise NotAllowed(f"{place} needs a text.")
    _check_sources(part, place)
    return {name: value for name, value in part.items() if name not in _IGNORED}


def _check_sources(part: Item, place: str) -> None:
    for name in _URLS:
        url = part.get(name)
        if url is not None and not (_DATA_URL.match(url) or is_public_https(url)):
            raise NotAllowed(f"{place}.{name} must be an https URL of a host on the Internet, or a data URL.")
    data = part.get("file_data")
    if data is not None and not (_DATA_URL.match(data) or _BASE64.fullmatch(data)):
        raise NotAllowed(f"{place}.file_data must be base64, or a data URL.")
    if len(part.get("filename") or "") > MAX_FILE_NAME_CHARACTERS:
        raise NotAllowed(f"{place}.filename has more than {MAX_FILE_NAME_CHARACTERS} characters.")


def _check_fields(value: Item, allowed: frozenset[str], place: str) -> None:
    for name in value:
        if name not in allowed:
            raise NotAllowed(f"{place} has a field {_shown(name)}, which is not allowed.")


def _check_id(value: Item, name: str, place: str, *, ids: bool) -> None:
    if value.get(name) is None:
        return
    if not ids:
        raise NotAllowed(
            f"{place}.{name} names something in the account that all owners share; send it instead."
        )
    _check_text(value, name, place)


def _check_text(value: Item, name: str, place: str) -> None:
    if value.get(name) is not None and not isinstance(value[name], str):
        raise NotAllowed(f"{place}.{name} must be a text.")


def _shown(value: object) -> str:
    return repr(value[:64]) if isinstance(value, str) else "none" if value is None else "that is no text"
