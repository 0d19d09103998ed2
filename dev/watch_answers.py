"""Calls that wait for an answer, in `watch`: asks on a terminal, and otherwise says how to answer."""

import json
import shlex
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from dev.client import Client, Refused
from dev.feed import Reader, WaitingCall
from dev.screen import spelled_out
from shared.core.structure import read_json

_APPROVAL = "  [a]pprove  [r]efuse  [c]hange the arguments  [l]ater: "
_OUTPUT = "  [o]utput  [e]rror  [l]ater: "
# Other words with these first letters, such as "abort", are no choice.
_WORDS = ("approve", "refuse", "change", "output", "error", "later")
# The caller corrects these: what was typed does not fit.
_WRONG = {400, 413, 422}


class Answers:
    """Asks for each waiting call of one run, once. `ask` shows a prompt and returns a line; None: nobody can be asked."""

    def __init__(
        self, client: Client, run_id: str, *, ask: Callable[[str], str] | None, say: Callable[[str], None]
    ) -> None:
        self._client = client
        self._run_id = run_id
        self._ask = ask
        self._say = say
        self._done: set[str] = set()

    def look_at(self, reader: Reader) -> None:
        for call in reader.waits:
            if call.id in self._done:
                continue
            try:
                server = self._server_of(call)
            except (OSError, Refused):
                # Nobody is asked before it is known whose tool it is. The feed is read again anyway.
                return
            whose = f" of {server}" if server else ""
            self._say(spelled_out(f"{call.name}{whose} waits for an {call.wait}: {call.arguments}"))
            answered = False
            try:
                answered = self._ask is not None and self._answer(call, self._ask)
            except EOFError:
                self._ask = None
            if not answered:
                self._say(f"Answer it with: {self._command(call)}")
            self._done.add(call.id)

    def _server_of(self, call: WaitingCall) -> str | None:
        """Return the hosted MCP server whose tool a call names, which is not in the feed."""
        required = self._client.get(self._run_id).get("required_action") or []
        return next((each["server_label"] for each in required if each["id"] == call.id), None)

    def _answer(self, call: WaitingCall, ask: Callable[[str], str]) -> bool:
        """Ask until there is an answer that can be sent; False for later."""
        while True:
            body = _body(call, ask)
            if body is None:
                return False
            if isinstance(body, str):
                self._say(body)
                continue
            try:
                self._client.answer(self._run_id, call.id, body)
            except Refused as refusal:
                self._say(str(refusal))
                if refusal.status not in _WRONG and not refusal.temporary:
                    # Somebody else was faster, or this key may not answer.
                    return True
            except OSError:
                self._say("The host does not answer; try again.")
            else:
                return True

    def _command(self, call: WaitingCall) -> str:
        body = {"approve": True} if call.wait == "approval" else {"output": "..."}
        path = f"/api/runs/{quote(self._run_id, safe='')}/calls/{call.id}"
        data = shlex.quote(json.dumps(body))
        return f'curl -s {shlex.quote(self._client.base + path)} -H "x-functions-key: $BATON_KEY" -d {data}'


def _body(call: WaitingCall, ask: Callable[[str], str]) -> dict[str, Any] | str | None:
    """Return the answer that somebody gives. None for later; a text says what is wrong with what was typed."""
    approval = call.wait == "approval"
    choice = ask(_APPROVAL if approval else _OUTPUT).strip().lower()
    match choice[:1] if len(choice) == 1 or choice in _WORDS else None:
        case "a" if approval:
            return {"approve": True}
        case "r" if approval:
            reason = ask("  Why? The model is told so; Enter for no reason: ").strip()
            return {"approve": False, "reason": reason} if reason else {"approve": False}
        case "c" if approval:
            return _changed(ask("  The arguments, as JSON: "))
        case "o" if not approval:
            return {"output": ask("  What it returned: ")}
        case "e" if not approval:
            return {"error": ask("  Why it failed: ")}
        case "l":
            return None
    return f"Type one of the letters, {'a, r, c' if approval else 'o, e'} or l."


def _changed(text: str) -> dict[str, Any] | str:
    try:
        arguments = read_json(text)
    except (ValueError, RecursionError) as fault:
        return f"That is no JSON: {fault}"
    if not isinstance(arguments, dict):
        # With null, the API would approve the arguments as they are.
        return "Arguments are a JSON object: they begin with { and end with }."
    return {"approve": True, "arguments": arguments}
