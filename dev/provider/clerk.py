"""The emulator as the refund clerk: it looks the order up, asks for the refund, and says what it was told."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dev.provider.script import Call, Turn
from dev.provider.wire import Json

ORDER_TOOL, REFUND_TOOL = "lookup_order", "refund"
_ORDER = re.compile(
    r"\b[A-Z]{1,3}-?\d{2,}\b|\border\s+(?:number\s+|no\.?\s*)?#?([\w-]*\d[\w-]*)", re.IGNORECASE
)
_AMOUNT = re.compile(
    r"(\d+(?:[.,]\d{1,2})?)\s*(?:euros?\b|eur\b|\u20ac)|\u20ac\s*(\d+(?:[.,]\d{1,2})?)", re.IGNORECASE
)


def clerk_turn(prompt: str, offered: Mapping[str, Json], answered: Sequence[tuple[str, str, str]]) -> Turn:
    """Return the clerk's next turn. `answered`: name, arguments and output of each call so far."""
    if not answered:
        found = _ORDER.search(prompt)
        if found is None:
            return Turn(text="Which order is it? Please give me its number.")
        return _call(ORDER_TOOL, offered, found[1] or found[0], 0)
    name, arguments, output = answered[-1]
    if name == ORDER_TOOL:
        return _after_lookup(prompt, offered, arguments, output)
    return Turn(text=_report(arguments, output))


def _after_lookup(prompt: str, offered: Mapping[str, Json], arguments: str, output: str) -> Turn:
    order, found = _text_in(arguments), _object(output)
    if "error" in found:
        return Turn(text=f"I have refunded nothing. {_why(found)}")
    asked = _AMOUNT.search(prompt)
    amount = float((asked[1] or asked[2]).replace(",", ".")) if asked else _left(found)
    return _call(REFUND_TOOL, offered, order, amount)


def _report(arguments: str, output: str) -> str:
    """Return what the clerk says about a refund: in each case with the words of whoever answered."""
    order, asked, found = _text_in(arguments), _number_in(arguments), _object(output)
    wanted = f"{asked:.2f} euros of order {order}"
    error = found.get("error")
    if not isinstance(error, dict):
        paid = _AMOUNT.search(output)
        differs = paid is not None and float(paid[1] or paid[2]) != asked
        return f"{output} I had asked for {asked:.2f} euros." if differs else output
    if error.get("code") == "outcome_unknown":
        return f"I do not know whether {wanted} were refunded. {_why(found)}"
    return f"I have not refunded {wanted}. {_why(found)}"


def _call(name: str, offered: Mapping[str, Json], order: str, amount: float) -> Turn:
    """Return a call of a tool: its texts get the order, its numbers the amount."""
    properties = (offered[name].get("parameters") or {}).get("properties") or {}
    whole = int(amount) if amount == int(amount) else amount
    arguments = {
        key: whole if schema.get("type") in ("number", "integer") else order
        for key, schema in properties.items()
    }
    return Turn(calls=(Call(name, json.dumps(arguments, ensure_ascii=False)),))


def _why(found: Json) -> str:
    error = found["error"]
    told = error.get("message") or error.get("code") if isinstance(error, dict) else error
    return f"I was told: {told}"


def _left(found: Json) -> float:
    price, refunded = found.get("euros"), found.get("refunded")
    return (price if isinstance(price, int | float) else 0) - (
        refunded if isinstance(refunded, int | float) else 0
    )


def _text_in(arguments: str) -> str:
    return next((value for value in _object(arguments).values() if isinstance(value, str)), "?")


def _number_in(arguments: str) -> float:
    return next((value for value in _object(arguments).values() if isinstance(value, int | float)), 0)


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
