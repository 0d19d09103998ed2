"""Reads what one event of a stream, or a complete answer, brings. Pure. No value raises an exception."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shared.adapters.http.provider_error import error_in, message_of
from shared.adapters.http.tokens import tokens, tokens_in
from shared.core.response import Usage
from shared.core.text import json_text

# An index that is larger counts as missing.
MAX_CALL_INDEX = 10_000
# With these the provider says that it gave up, not that the answer is over. The last one is Zhipu's.
_GIVEN_UP = frozenset({"error", "insufficient_system_resource", "network_error"})
# In the place of arguments that cannot be written as a text. It is no JSON, so that the call is not run.
_TOO_DEEP = "(nested too deeply)"
# How some write that the answer goes on. DashScope's own API has the first one.
_NO_REASON = frozenset({"null", "none"})


@dataclass(frozen=True, slots=True)
class CallPiece:
    """A piece of a call as the provider names it. Any of its fields may be missing."""

    index: int | None
    call_id: str
    name: str
    arguments: str
    # Whether it follows another one in the same list.
    beside: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A piece of an answer. Its texts may begin or end with half a character."""

    # The number of the choice that it belongs to, if it names one.
    choice: object = None
    # Whether it has a choice at all.
    chosen: bool = False
    # Whether it is not a part of the answer but all of it.
    whole: bool = False
    reasoning: str = ""
    text: str = ""
    refusal: str = ""
    calls: tuple[CallPiece, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None
    # The error that it reports.
    error: Mapping[str, Any] | None = None


def read_piece(value: object, choice: object = None) -> Piece:
    """Return what a JSON value brings of one choice, or of the first one that it has if `choice` is None."""
    error = _error_in(value)
    if not isinstance(value, dict):
        return Piece(error=error)
    found = _choice(value, choice)
    usage = _usage(value, found)
    if found is None:
        return Piece(usage=usage, error=error)
    finish = _first_text(found.get("finish_reason"))
    if finish.lower() in _GIVEN_UP and error is None:
        error = {"message": f"The provider gave up: {finish}."}
    # A complete answer has a message in the place of the delta.
    whole = not _object(found.get("delta"))
    delta = _object(found.get("message" if whole else "delta"))
    text, thought = _content(delta.get("content"))
    return Piece(
        choice=found.get("index"),
        chosen=True,
        whole=whole,
        reasoning=_first_text(delta.get("reasoning_content"), delta.get("reasoning")) or thought,
        text=text,
        refusal=_first_text(delta.get("refusal")),
        calls=tuple(_calls(delta)),
        finish_reason=finish if finish.lower() not in _NO_REASON else None,
        usage=usage,
        error=error,
    )


def _error_in(value: object) -> Mapping[str, Any] | None:
    found = error_in(value)
    if not isinstance(value, dict):
        return found
    choices = value.get("choices")
    if not isinstance(choices, list):
        return found or (value if message_of(value) else None)
    if found is not None and found is not value:
        return found
    for each in choices:
        error = each.get("error") if isinstance(each, dict) else None
        if isinstance(error, dict | str) and error:
            return error if isinstance(error, dict) else {"code": error, "message": error}
    return None


def _choice(value: Mapping[str, Any], wanted: object) -> Mapping[str, Any] | None:
    """Return the choice with a number. One without a number is the only one."""
    choices = value.get("choices")
    for each in choices if isinstance(choices, list) else ():
        if isinstance(each, dict) and (wanted is None or each.get("index") in (None, wanted)):
            return each
    return None


def _content(value: object) -> tuple[str, str]:
    """Return the text of a content, and what of it is thoughts: some providers send a list of parts."""
    if isinstance(value, str):
        return value, ""
    parts = [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
    texts = [_first_text(part.get("text")) for part in parts if part.get("type") in ("text", "output_text")]
    thoughts = [_thought(part.get("thinking")) for part in parts if part.get("type") == "thinking"]
    return "".join(texts), "".join(thoughts)


def _thought(value: object) -> str:
    return value if isinstance(value, str) else _content(value)[0]


def _calls(delta: Mapping[str, Any]) -> Iterator[CallPiece]:
    value = delta.get("tool_calls")
    calls = [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
    # Before there could be several calls, the only one had a field of its own.
    only = _object(delta.get("function_call"))
    for number, call in enumerate(calls or ([{"function": only}] if only else [])):
        function = _object(call.get("function"))
        yield CallPiece(
            _index(call.get("index")),
            _first_text(call.get("id")),
            _first_text(function.get("name")),
            _arguments(function.get("arguments")),
            beside=number > 0,
        )


def _arguments(value: object) -> str:
    """Return the JSON text of arguments. Some providers send the object itself."""
    if isinstance(value, dict | list) and value != []:
        try:
            return json_text(value)
        except RecursionError:
            return _TOO_DEEP
    return _first_text(value)


def _usage(value: Mapping[str, Any], choice: Mapping[str, Any] | None) -> Usage | None:
    """Return the usage, where OpenAI, Moonshot or Groq report it. None when it is not reported."""
    for holder in (value, choice, value.get("x_groq")):
        found = _object(_object(holder).get("usage"))
        if any(isinstance(found.get(name), int) for name in _INPUT + _OUTPUT):
            return _read_usage(found)
    return None


_INPUT, _OUTPUT = ("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")


def _read_usage(usage: Mapping[str, Any]) -> Usage:
    read = max(tokens(usage.get(name)) for name in _INPUT)
    written = max(tokens(usage.get(name)) for name in _OUTPUT)
    cached = tokens_in(usage.get("prompt_tokens_details"), "cached_tokens")
    return Usage(
        read,
        written,
        tokens(usage.get("total_tokens")) or read + written,
        # The second is DeepSeek's.
        cached_tokens=cached or tokens(usage.get("prompt_cache_hit_tokens")),
        reasoning_tokens=tokens_in(usage.get("completion_tokens_details"), "reasoning_tokens"),
    )


def _index(value: object) -> int | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value < MAX_CALL_INDEX else None


def _first_text(*values: object) -> str:
    return next((value for value in values if isinstance(value, str) and value), "")


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
