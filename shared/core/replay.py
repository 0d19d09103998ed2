"""The conversation so far as input items that a provider accepts without the previous responses."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from shared.core.transcript import Item, arguments_text, call_id_of, name_of, sendable_name, shown_name

# OpenAI's limit for the call ids in a request.
_MAX_SENT_CALL_ID = 64
# What the model reads in the place of a file that is stored at another provider.
_FILE_ELSEWHERE = "(A file was here. It is stored at another provider.)"
# The fields of a content part that have a file without its id.
_SOURCES = ("image_url", "file_url", "file_data")


@dataclass
class Replay:
    """Collects the items of a conversation, oldest first.

    - What the client sent with this run is kept unchanged.
    - Messages and references of the conversation are kept. So are calls of every type with their outputs. They lose
      the id and the status that bind them to a response.
    - Calls without an output and outputs without a call are left out, because providers refuse them.
    - Reasoning is left out: it has no content without its id, and it is refused without the item after it.
    - Items of hosted tools are left out: they are refused without their id, and the messages contain their
      results. So are their approvals once the provider has acted on them: it could take them for new ones, and run the
      tool again.
    - What names something that is stored at another provider is left out. In the place of a file, a text says so.
    """

    _left_out: Counter[str] = field(default_factory=Counter)
    _kept: list[Item] = field(default_factory=list)
    # The positions in `_kept` of calls that have no output yet, by the id that the output names.
    _open: dict[str, int] = field(default_factory=dict)
    # The positions of calls that are left out unless an output comes.
    _unanswered: set[int] = field(default_factory=set)
    # The positions of approvals and of what they approve: those that the provider has not acted on, and the others.
    _approved: set[int] = field(default_factory=set)
    _spent: set[int] = field(default_factory=set)
    # The call ids as they are sent. A model may use the same id in each turn, but a request must not.
    _sent: dict[str, str] = field(default_factory=dict)
    _used: set[str] = field(default_factory=set)
    # The number that the next repetition of a call id gets.
    _numbers: Counter[str] = field(default_factory=Counter)

    @property
    def items(self) -> list[Item]:
        """The input items. Calls that got no output are left out."""
        hidden = self._unanswered | self._spent
        return [item for position, item in enumerate(self._kept) if position not in hidden]

    @property
    def left_out(self) -> Counter[str]:
        """How many items of each type are left out."""
        hidden = self._unanswered | self._spent
        return self._left_out + Counter(_name(self._kept[position]) for position in hidden)

    def add(self, items: Iterable[Item], *, foreign: bool = False) -> None:
        """Add items of the conversation that came together: an input, an output, or the answers to one.

        `foreign`: another provider had them.
        """
        items, begin = [self._without_files(item) if foreign else item for item in items], len(self._kept)
        if items:
            # What was approved before has run, because the conversation went on.
            self._spent |= self._approved
            self._approved = set()
        for item in items:
            kind = item.get("type", "message")
            if kind == "message":
                self._keep(kind, self._message(item))
            elif kind == "item_reference":
                self._keep(kind, None if foreign else item)
            elif (answered := answered_id(item)) is not None:
                self._keep(kind, self._output(item, answered))
            elif (call_id := asked_id(item)) is not None and self._open.get(call_id, -1) < begin:
                # Of calls that came together, the first with an id counts. A later output uses the id again.
                self._unanswered.add(len(self._kept))
                self._add_call(_sendable(item), call_id, _short(call_id))
            else:
                self._keep(kind, None)

    def add_own(self, items: Iterable[Item]) -> None:
        """Add the input of the run itself. It may answer calls of the conversation."""
        for item in items:
            if (call_id := asked_id(item)) is not None:
                self._add_call(item, call_id, call_id)
            elif (answered := answered_id(item)) is not None:
                self._kept.append(self._answer(item, answered) or item)
            else:
                self._kept.append(item)

    def _without_files(self, item: Item) -> Item:
        """Return an item without the ids of files in its content parts."""
        lists = {name: value for name in ("content", "output") if isinstance(value := item.get(name), list)}
        return item | {name: [self._without_file(part) for part in parts] for name, parts in lists.items()}

    def _without_file(self, part: object) -> object:
        if not isinstance(part, dict) or not part.get("file_id"):
            return part
        rest = {name: value for name, value in part.items() if name != "file_id"}
        if any(rest.get(name) for name in _SOURCES):
            return rest
        self._left_out[f"part {_name(part)}"] += 1
        return {"type": "input_text", "text": _FILE_ELSEWHERE}

    def _keep(self, kind: object, item: Item | None) -> None:
        if item is None:
            self._left_out[name_of(kind)] += 1
        else:
            self._kept.append(item)

    def _add_call(self, item: Item, call_id: str, wanted: str) -> None:
        self._open[call_id] = len(self._kept)
        self._sent[call_id] = sent = self._unique(wanted)
        self._used.add(sent)
        self._kept.append(item | {"call_id": sent} if "call_id" in item else item)

    def _unique(self, wanted: str) -> str:
        """Return an id that was not sent yet: the one that is wanted, or one with a number."""
        if wanted not in self._used:
            return wanted
        start = _short(wanted, _MAX_SENT_CALL_ID - 9)
        number = max(self._numbers[start], 2)
        while f"{start}_{number}" in self._used:
            number += 1
        self._numbers[start] = number + 1
        return f"{start}_{number}"

    def _output(self, item: Item, answered: str) -> Item | None:
        found = self._answer(item, answered)
        return found and _without_id(found)

    def _answer(self, item: Item, answered: str) -> Item | None:
        """Return the output of a call that has none yet, with the id under which the call is sent."""
        position = self._open.pop(answered, None)
        if position is None:
            return None
        self._unanswered.discard(position)
        if item.get("type") == "mcp_approval_response" and item.get("approve") is not False:
            self._approved |= {position, len(self._kept)}
        return item | {"call_id": self._sent[answered]} if "call_id" in item else item

    def _message(self, item: Item) -> Item | None:
        role, content = item.get("role"), item.get("content")
        if role != "assistant" or not isinstance(content, list):
            return _without_id(item) if isinstance(role, str) else None
        parts = []
        for part in content:
            if kept := _part(part):
                parts.append(kept)
            else:
                self._left_out[f"part {_name(part)}"] += 1
        return _without_id(item) | {"type": "message", "content": parts} if parts else None


def _short(call_id: str, longest: int = _MAX_SENT_CALL_ID) -> str:
    """Return an id that is no longer than this. Another provider may have given a longer one."""
    return call_id if len(call_id) <= longest else hashlib.sha256(call_id.encode()).hexdigest()[:32]


def asked_id(item: Item) -> str | None:
    """Return the id that the answer to this item names; None when nobody answers it."""
    found = item.get("id") if item.get("type") == "mcp_approval_request" else call_id_of(item)
    return found if isinstance(found, str) and found and not _is_output(item) else None


def answered_id(item: Item) -> str | None:
    """Return the id of the call that this item answers; None when it answers none."""
    if item.get("type") == "mcp_approval_response":
        found = item.get("approval_request_id")
    else:
        found = item.get("call_id") if _is_output(item) else None
    return found if isinstance(found, str) else None


def _is_output(item: Item) -> bool:
    return str(item.get("type")).endswith("_output")


def _sendable(item: Item) -> Item:
    """Return a call that a provider accepts as input."""
    match item.get("type"):
        case "mcp_approval_request":
            # Its answer names its id.
            return {name: value for name, value in item.items() if name != "status"}
        case "function_call":
            sendable = {
                "call_id": call_id_of(item),
                "name": sendable_name(shown_name(item.get("name"))),
                "arguments": arguments_text(item.get("arguments")),
            }
            return _without_id(item) | sendable
    return _without_id(item)


def _without_id(item: Item) -> Item:
    return {name: value for name, value in item.items() if name not in {"id", "status"}}


def _name(value: object) -> str:
    return name_of(value.get("type") if isinstance(value, dict) else None)


def _part(part: object) -> Item | None:
    """Return a part of an assistant's message without annotations, because their targets may be deleted."""
    match part:
        case {"type": "output_text", "text": str(text)}:
            return {"type": "output_text", "text": text}
        case {"type": "refusal", "refusal": str(text)}:
            return {"type": "refusal", "refusal": text}
    return None
