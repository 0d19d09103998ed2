"""Parse ids, headers and bodies: each function returns checked values, or raises an error that names the wrong field."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from shared.core import ids, input_items, transcript
from shared.core.calls import CallerCalls
from shared.core.input_items import InputRules
from shared.core.limits import MAX_EXCERPT_CHARACTERS
from shared.core.pace import MAX_DEADLINE, MIN_DEADLINE
from shared.core.text import is_name
from shared.core.transcript import Item
from shared.errors import InvalidInput, Malformed, NotFound, TooLarge
from shared.usecases.continued import Answers
from shared.usecases.start import StartRequest
from shared.web.bodies import read_object
from shared.web.http import Request
from shared.web.runs_api.caller_tools import caller_tools

# About half a million tokens: more than the context of today's models.
MAX_INPUT_CHARACTERS = 2_000_000
MAX_INPUT_ITEMS = 1_000
# OpenAI's limits for metadata, so that the metadata of a run could be sent to OpenAI.
MAX_METADATA_PAIRS = 16
MAX_METADATA_KEY = 64
MAX_METADATA_VALUE = 512

_FIELDS = frozenset(
    {
        "agent",
        "input",
        "session_id",
        "metadata",
        "deadline_seconds",
        "stream",
        "tools",
        "caller_calls",
    }
)
_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")
# White space is what Python or JavaScript treats as such. openapi.json has the same pattern.
_NOT_BLANK = re.compile(r"[^\s\ufeff]")


def run_id(text: str) -> str:
    if not ids.is_id("run", text):
        raise NotFound("There is no such run.", code="run_not_found", field="run_id")
    return text


def session_id(text: str) -> str:
    if not ids.is_id("ses", text):
        raise NotFound("There is no such session.", code="session_not_found", field="session_id")
    return text


def start_request(request: Request, rules: InputRules) -> StartRequest:
    """Return the start request in a body. `rules` say what its input may hold."""
    body = read_object(request)
    check_fields(body, _FIELDS)
    agent, items = _agent(body), _items(body, rules)
    return StartRequest(
        agent=agent,
        input=_input_text(body, items),
        answers=Answers(input_items.answered(items), checked=not rules.anything),
        tools=caller_tools(body.get("tools")),
        caller_calls=_caller_calls(body.get("caller_calls")),
        session_id=_session(body),
        metadata=_metadata(body.get("metadata")),
        deadline=_deadline(body.get("deadline_seconds")),
        stream=_stream(body.get("stream")),
        excerpt=transcript.excerpt(items, MAX_EXCERPT_CHARACTERS),
        idempotency_key=idempotency_key(request),
        fingerprint=_fingerprint(body),
    )


def check_fields(body: Mapping[str, Any], known: frozenset[str]) -> None:
    """Check that a body has no other fields, because they would be ignored."""
    if unknown := sorted(set(body) - known):
        listed = ", ".join(sorted(known))
        raise InvalidInput(
            f"There is no field {unknown[0][:64]!r}; there are: {listed}.",
            code="unknown_field",
            field=unknown[0][:64],
        )


def no_fields(request: Request) -> None:
    """Check that the body of a request is empty or an empty object, because its fields would be ignored."""
    arrived = request.body.strip() or "transfer-encoding" in request.headers
    if arrived and (body := read_object(request)):
        name = next(iter(body))[:64]
        raise InvalidInput(
            f"There is no field {name!r}; this request has none.", code="unknown_field", field=name
        )


def _fingerprint(body: Mapping[str, Any]) -> str:
    """Return a hash that is equal for equal requests. A field that is null counts as left out."""
    given = {name: value for name, value in body.items() if value is not None}
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()


def _agent(body: Mapping[str, Any]) -> str:
    agent = body.get("agent")
    if not isinstance(agent, str) or not is_name(agent):
        raise InvalidInput(
            "agent must be the name of an agent of this app.", code="unknown_agent", field="agent"
        )
    return agent


def _session(body: Mapping[str, Any]) -> str | None:
    given = body.get("session_id")
    if given is None:
        return None
    if not isinstance(given, str):
        raise InvalidInput("session_id must be a string.", code="invalid_session_id", field="session_id")
    return session_id(given)


def _items(body: Mapping[str, Any], rules: InputRules) -> Sequence[Item]:
    """Return the input as input items of the Responses API."""
    given = body.get("input")
    match given:
        case str() if _NOT_BLANK.search(given):
            return [{"role": "user", "content": given}]
        case list() if given and all(isinstance(item, dict) for item in given):
            if len(given) > MAX_INPUT_ITEMS:
                raise _input_too_long(f"{MAX_INPUT_ITEMS} items")
            try:
                return input_items.check(given, rules)
            except input_items.NotAllowed as fault:
                raise InvalidInput(str(fault), code="input_not_allowed", field="input") from None
    raise InvalidInput(
        "input must be a text that is not empty, or a list of input items.",
        code="invalid_input",
        field="input",
    )


def _input_text(body: Mapping[str, Any], items: Sequence[Item]) -> str:
    """Return the JSON text of the input items."""
    given, text = body["input"], json.dumps(items, ensure_ascii=False)
    if len(given if isinstance(given, str) else text) > MAX_INPUT_CHARACTERS:
        raise _input_too_long(f"{MAX_INPUT_CHARACTERS} characters")
    return text


def _input_too_long(limit: str) -> TooLarge:
    return TooLarge(f"input has more than {limit}.", code="input_too_long", field="input")


def _metadata(given: Any) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise InvalidInput(
            "metadata must be an object whose values are strings.",
            code="invalid_metadata",
            field="metadata",
        )
    if (
        len(given) > MAX_METADATA_PAIRS
        or any(len(name) > MAX_METADATA_KEY for name in given)
        or any(len(value) > MAX_METADATA_VALUE for value in given.values())
    ):
        raise InvalidInput(
            f"metadata holds up to {MAX_METADATA_PAIRS} pairs, keys up to {MAX_METADATA_KEY} characters, "
            f"values up to {MAX_METADATA_VALUE}.",
            code="invalid_metadata",
            field="metadata",
        )
    return given


def _deadline(given: Any) -> timedelta | None:
    if given is None:
        return None
    least, most = MIN_DEADLINE.total_seconds(), MAX_DEADLINE.total_seconds()
    if isinstance(given, bool) or not isinstance(given, int | float) or not least <= given <= most:
        raise InvalidInput(
            f"deadline_seconds must be a number from {least:.0f} to {most:.0f}.",
            code="invalid_deadline",
            field="deadline_seconds",
        )
    return timedelta(seconds=given)


def _caller_calls(given: Any) -> CallerCalls:
    if given is None:
        return CallerCalls.WAIT
    if given not in list(CallerCalls):
        raise InvalidInput(
            f"caller_calls must be one of: {', '.join(CallerCalls)}.",
            code="invalid_caller_calls",
            field="caller_calls",
        )
    return CallerCalls(given)


def _stream(given: Any) -> bool | None:
    if given is not None and not isinstance(given, bool):
        raise InvalidInput("stream must be true or false.", code="invalid_stream", field="stream")
    return given


def idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        raise Malformed(
            "Idempotency-Key must be 1 to 255 printable ASCII characters.",
            code="invalid_idempotency_key",
            field="Idempotency-Key",
        )
    return key
