"""Reads what one event of a stream, or a complete answer, brings. Pure. No value raises an exception."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shared.adapters.http.provider_error import error_in
from shared.adapters.http.tokens import tokens, tokens_in
from shared.core.response import Usage
from shared.core.text import json_text

# An index that is larger counts as missing.
MAX_CALL_INDEX = 10_000
# With these the provider says that it gave up, not that the answer is over.
_GIVEN_UP = frozenset({"error", "insufficient_system_resource"})


@dataclass(frozen=True, slots=True)
class CallPiece:
    """A piece of a call as the provider names it. Any of its fields may be missing."""

    index: int | None
    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A piece of an answer. Its texts may begin or end with half a character."""

    # The number of the choice that it belongs to, if it names one.
    choice: object = None
    # Whether it has a choice at all.
    chosen: bool = False
    reasoning: str = ""
    text: str = ""
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
    if finish in _GIVEN_UP and error is None:
        error = {"message": f"The provider gave up: {finish}."}
    # A complete answer has a message in the place of the delta.
    delta = _object(found.get("delta")) or _object(found.get("message"))
    text, thought = _content(delta.get("content"))
    return Piece(
        choice=found.get("index"),
        chosen=True,
        reasoning=_first_text(delta.get("reasoning_content"), delta.get("reasoning")) or thought,
        text=text + _first_text(delta.get("refusal")),
        calls=tuple(_calls(delta.get("tool_calls"))),
        finish_reason=finish or None,
        usage=usage,
        error=error,
    )


def _error_in(value: object) -> Mapping[str, Any] | None:
    found = error_in(value)
    if not isinstance(value, dict):
        return found
    choices = value.get("choices")
    if not isinstance(choices, list):
        message = value.get("message") or value.get("detail")
        return found or (value if isinstance(message, str) else None)
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


def _calls(value: object) -> Iterator[CallPiece]:
    for call in value if isinstance(value, list) else ():
        if not isinstance(call, dict):
            continue
        function = _object(call.get("function"))
        yield CallPiece(
            _index(call.get("index")),
            _first_text(call.get("id")),
            _first_text(function.get("name")),
            _arguments(function.get("arguments")),
        )


def _arguments(value: object) -> str:
    """Return the JSON text of arguments. Some providers send the object itself."""
    if isinstance(value, dict):
        try:
            return json_text(value)
        except RecursionError:
            return ""
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
