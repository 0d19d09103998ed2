"""What the model does in one response, decided from the complete conversation when the request arrives."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from zlib import crc32

from dev.provider.clerk import ORDER_TOOL, REFUND_TOOL, clerk_turn
from dev.provider.conversation import answered_id, asked_id
from dev.provider.hosted_mcp import asking_server, mcp_turn
from dev.provider.research import research_calls
from dev.provider.script import Turn, split_script
from dev.provider.wire import Json, encode

FACTS_TOOL = "research_space_facts"
CAST_TOOL = "generate_character_profiles"
QUEUED_SECONDS = 0.05


@dataclass(frozen=True)
class Plan:
    """`outputs`: name and output of every call answered since the last message of the user."""

    turn: Turn
    prompt: str
    outputs: tuple[tuple[str, str], ...]
    is_novel: bool
    streamed: bool
    seed: int
    input_tokens: int
    created: float

    @property
    def in_progress_at(self) -> float:
        queued = self.turn.queued_seconds
        return self.created + (QUEUED_SECONDS if queued is None else queued)


def make_plan(request: Json, conversation: Sequence[Json]) -> Plan:
    """Raises ApiError where the script in the user's input is not valid."""
    text, after = _since_last_user_message(conversation)
    asked = {call_id: item for item in after if (call_id := asked_id(item))}
    outputs = {call_id: _answer_text(item) for item in after if (call_id := answered_id(item))}
    answered = tuple(
        (asked.get(call_id, {}).get("name", ""), asked.get(call_id, {}).get("arguments", ""), output)
        for call_id, output in outputs.items()
    )
    script, prompt = split_script(text)
    turn = script.turn_after(len(outputs))
    if turn.writes_prose and (own := _own_turn(request, prompt, answered, after)):
        turn = replace(own, seconds=turn.seconds, queued_seconds=turn.queued_seconds)
    return Plan(
        turn=turn,
        prompt=prompt,
        outputs=tuple((name, output) for name, _, output in answered),
        is_novel=_offered(request).keys() >= {FACTS_TOOL, CAST_TOOL},
        streamed=request.get("stream") is True,
        seed=crc32("\0".join([text, *outputs.values()]).encode("utf-8", "surrogatepass")),
        input_tokens=_estimate_tokens(request, conversation),
        created=time.time(),
    )


def _own_turn(
    request: Json, prompt: str, answered: Sequence[tuple[str, str, str]], after: Sequence[Json]
) -> Turn | None:
    """Return what the model does without a script. None when it writes prose.

    `answered`: name, arguments and output of each call since the last message of the user; `after`: all items since then.
    """
    offered = _offered(request)
    if offered.keys() >= {FACTS_TOOL, CAST_TOOL}:
        calls = research_calls((FACTS_TOOL, CAST_TOOL), offered, topic_of(prompt))
        return None if answered else Turn(calls=calls)
    if offered.keys() >= {ORDER_TOOL, REFUND_TOOL}:
        return clerk_turn(prompt, offered, answered)
    if server := asking_server(request.get("tools") or ()):
        return mcp_turn(server, topic_of(prompt), after)
    named = [name for name in offered if re.search(rf"\b{re.escape(name)}\b", prompt)]
    if named and answered:
        return Turn(text="\n".join(f"{name} returned: {output}" for name, _, output in answered))
    return Turn(calls=research_calls(named, offered, topic_of(prompt))) if named else None


def _offered(request: Json) -> Mapping[str, Json]:
    """Return the function tools of a request, by name."""
    return {tool["name"]: tool for tool in request.get("tools") or () if tool.get("type") == "function"}


def topic_of(prompt: str) -> str:
    """Return what a request is about, as a phrase."""
    sentence = re.split(r"[.!?\n]", prompt, maxsplit=1)[0].strip()
    about = re.search(r"\babout\s+(.+)", sentence, re.IGNORECASE)
    return (about.group(1) if about else sentence)[:120] or "the unknown"


def _since_last_user_message(conversation: Sequence[Json]) -> tuple[str, Sequence[Json]]:
    for index in range(len(conversation) - 1, -1, -1):
        item = conversation[index]
        if item.get("type") == "message" and item["role"] == "user":
            return _content_text(item.get("content", "")), conversation[index + 1 :]
    return "", conversation


def _content_text(content: str | list[Json]) -> str:
    if isinstance(content, str):
        return content
    return "".join(text for part in content if isinstance(text := part.get("text"), str))


def _answer_text(item: Json) -> str:
    """Return what a call was answered with, as text."""
    if item["type"] == "function_call_output":
        return _content_text(item["output"])
    return f"{'approved' if item['approve'] else 'refused'}: {item.get('reason') or ''}"


def _estimate_tokens(request: Json, conversation: Sequence[Json]) -> int:
    """At four characters a token, the usual rule of thumb for English."""
    return len(encode([request.get("instructions"), *conversation])) // 4
