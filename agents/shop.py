"""The shop of the refund clerk. It stands for two services of yours: one knows the orders, the other one pays.

A refund is a file in REFUNDS_FOLDER, by default in the folder for temporary files, because a deployed app cannot write to
its own folder. Whoever counts the files counts the refunds.
"""

import hashlib
import json
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any

from shared.agent import ToolError

ORDERS = json.loads((Path(__file__).parent / "data/orders.json").read_text(encoding="utf-8"))


def order(number: str) -> dict[str, Any]:
    """Return an order, with what of its price was paid back. Raises ToolError."""
    if number not in ORDERS:
        raise ToolError(f"There is no order {number!r}.")
    return {"order": number, **ORDERS[number], "refunded": _refunded(number)}


def refund(number: str, euros: float, key: str) -> str:
    """Pay back a part of an order's price, or all of it. The same key pays once. Raises ToolError."""
    found = order(number)
    file = _folder(number) / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
    if not file.exists():
        left = found["euros"] - found["refunded"]
        if not 0 < euros <= left:
            raise ToolError(f"{euros:.2f} euros of order {number} cannot be refunded: {left:.2f} are left.")
        file.parent.mkdir(parents=True, exist_ok=True)
        # Whoever reads the folder sees complete files only. A call that is repeated writes the same file.
        draft = file.with_suffix(f".{secrets.token_hex(4)}")
        draft.write_text(json.dumps({"order": number, "euros": euros, "key": key}), encoding="utf-8")
        draft.replace(file)
    return f"{euros:.2f} euros of order {number} were refunded."


def _refunded(number: str) -> float:
    files = _folder(number).glob("*.json")
    return float(sum(json.loads(file.read_text(encoding="utf-8"))["euros"] for file in files))


def _folder(number: str) -> Path:
    return Path(os.environ.get("REFUNDS_FOLDER") or Path(tempfile.gettempdir(), "baton-refunds"), number)
