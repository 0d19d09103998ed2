"""What the model does in one response, decided from the complete conversation when the request arrives."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

from dev.provider.research import research_calls
from dev.provider.script import Turn, split_script
from dev.provider.wire import Json, encode

FACTS_TOOL = "research_space_facts"
CAST_TOOL = "generate_character_profiles"
QUEUED_SECONDS = 0.05


@dataclass(frozen=True)
class Plan:
    """`outputs`: name and output of every call answered since the last user message."""

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
    names = {item["call_id"]: item["name"] for item in after if item.get("type") == "function_call"}
    outputs = {
        item["call_id"]: _content_text(item["output"])
        for item in after
        if item.get("type") == "function_call_output"
    }
    script, prompt = split_script(text)
    offered = {tool.get("name"): tool for tool in request.get("tools") or ()}
    is_novel = {FACTS_TOOL, CAST_TOOL} <= set(offered)
    turn = script.turn_after(len(outputs))
    if is_novel and turn.writes_prose and not outputs:
        calls = research_calls((FACTS_TOOL, CAST_TOOL), offered, topic_of(prompt))
        turn = Turn(calls=calls, seconds=turn.seconds, queued_seconds=turn.queued_seconds)
    return Plan(
        turn=turn,
        prompt=prompt,
        outputs=tuple((names.get(call_id, ""), output) for call_id, output in outputs.items()),
        is_novel=is_novel,
        streamed=request.get("stream") is True,
        seed=crc32("\0".join([text, *outputs.values()]).encode("utf-8", "surrogatepass")),
        input_tokens=_estimate_tokens(request, conversation),
        created=time.time(),
    )


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


def _estimate_tokens(request: Json, conversation: Sequence[Json]) -> int:
    """At four characters a token, the usual rule of thumb for English."""
    return len(encode([request.get("instructions"), *conversation])) // 4
