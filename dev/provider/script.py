"""Scripts: the answers that a test prescribes, as JSON inside `[[script {...}]]` in the user's input."""

import json
from dataclasses import dataclass, replace
from typing import Any

from dev.provider.wire import ApiError, Json

_OPENING = "[[script "
_CLOSING = "]]"
_MAX_TEXT = 64 * 1024 * 1024
_STATUSES = ("completed", "failed", "incomplete")


@dataclass(frozen=True)
class Call:
    """One function call the model makes; `arguments` is sent unchanged, valid JSON or not."""

    name: str
    arguments: str
    call_id: str | None = None


@dataclass(frozen=True)
class Turn:
    """One response. Without calls, items, text or refusal the emulator writes prose."""

    calls: tuple[Call, ...] = ()
    items: tuple[Json, ...] = ()
    text: str | None = None
    refusal: str | None = None
    length: int | None = None
    deltas: int | None = None
    status: str = "completed"
    error: Json | None = None
    reason: str = "max_output_tokens"
    seconds: float | None = None
    queued_seconds: float | None = None
    usage: Json | None = None

    @property
    def awaited_calls(self) -> int:
        """The number of different calls and requests for approval that need answers before the next turn."""
        ids = [call.call_id for call in self.calls]
        ids += [item["call_id"] for item in self.items if item.get("type") == "function_call"]
        ids += [item.get("id") for item in self.items if item.get("type") == "mcp_approval_request"]
        # Each one without an id gets its own.
        return len({one for one in ids if one}) + sum(1 for one in ids if not one)

    @property
    def writes_prose(self) -> bool:
        return not self.calls and not self.items and self.text is None and self.refusal is None


@dataclass(frozen=True)
class Script:
    """Without `turns` the emulator uses its own turns, with the settings of `last`."""

    turns: tuple[Turn, ...] = ()
    last: Turn = Turn()
    loop: bool = False

    def turn_after(self, answered: int) -> Turn:
        """Return the turn that follows once `answered` different calls have outputs."""
        index = 0
        while self.loop or index < len(self.turns):
            turn = self.turns[index % len(self.turns)]
            answered -= turn.awaited_calls
            if answered < 0 or not turn.awaited_calls:
                return turn
            index += 1
        return self.last


def split_script(text: str) -> tuple[Script, str]:
    """Return the script in a user's text, and the rest of the text, which is the prompt.

    Raises ApiError where the script is not valid.
    """
    start = text.find(_OPENING)
    if start < 0:
        return Script(), text.strip()
    try:
        value, end = json.JSONDecoder().raw_decode(text, start + len(_OPENING))
    except ValueError as error:
        raise _invalid(f"it is not JSON ({error})") from None
    if not text.startswith(_CLOSING, end):
        raise _invalid("the JSON is not followed by ]]")
    return _parse(value), (text[:start] + text[end + len(_CLOSING) :]).strip()


def _parse(value: Any) -> Script:
    script = _object(value, "the script")
    turn_values = script.pop("turns", [])
    loop = script.pop("loop", False)
    if not isinstance(turn_values, list):
        raise _invalid("turns is not a list")
    for key in ("calls", "items", "text", "refusal", "repeat", "usage"):
        if key in script:
            raise _invalid(f"{key} belongs inside a turn")
    last = _turn(script, Turn())
    shared = Turn(seconds=last.seconds, queued_seconds=last.queued_seconds)
    turns = [_turn(_object(turn, "a turn"), shared) for turn in turn_values[:-1]]
    if turn_values:
        turns.append(_turn(_object(turn_values[-1], "a turn"), last))
    if loop and not turns:
        raise _invalid("loop needs turns")
    return Script(turns=tuple(turns), last=last, loop=bool(loop))


def _turn(value: Json, base: Turn) -> Turn:
    settings = dict(value)
    repeat = settings.pop("repeat", 1)
    unknown = sorted(set(settings) - set(Turn.__dataclass_fields__))
    if unknown:
        raise _invalid(f"unknown key {unknown[0]!r}")
    if settings.get("status", base.status) not in _STATUSES:
        raise _invalid(f"status is none of {', '.join(_STATUSES)}")
    _check_types(settings)
    if settings.get("deltas", 1) < 1:
        raise _invalid("deltas is not 1 or more")
    if "text" in settings:
        if not isinstance(repeat, int) or len(settings["text"]) * repeat > _MAX_TEXT:
            raise _invalid(f"repeat is not a number that keeps the text under {_MAX_TEXT} characters")
        settings["text"] *= repeat
    if "calls" in settings:
        settings["calls"] = tuple(_call(call) for call in settings["calls"])
    if "items" in settings:
        settings["items"] = tuple(_item(item) for item in settings["items"])
    return replace(base, **settings)


def _check_types(settings: Json) -> None:
    kinds: dict[str, type | tuple[type, ...]] = {
        "calls": list,
        "items": list,
        "text": str,
        "refusal": str,
        "length": int,
        "deltas": int,
        "error": dict,
        "reason": str,
        "seconds": (int, float),
        "queued_seconds": (int, float),
        "usage": dict,
    }
    for key, kind in kinds.items():
        if key in settings and not isinstance(settings[key], kind):
            raise _invalid(f"{key} has the wrong type")


def _call(value: Any) -> Call:
    call = _object(value, "a call")
    arguments = call.get("arguments", {})
    name = call.get("name")
    if not isinstance(name, str):
        raise _invalid("a call has no name")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return Call(name=name, arguments=text, call_id=call.get("call_id"))


def _item(value: Any) -> Json:
    item = _object(value, "an item")
    if not isinstance(item.get("type"), str):
        raise _invalid("an item has no type")
    if item["type"] == "function_call" and not isinstance(item.get("call_id"), str):
        raise _invalid("a function_call item has no call_id")
    return item


def _object(value: Any, name: str) -> Json:
    if not isinstance(value, dict):
        raise _invalid(f"{name} is not a JSON object")
    return dict(value)


def _invalid(why: str) -> ApiError:
    return ApiError(400, f"Invalid emulator script in the input: {why}.", "input", "invalid_script")
