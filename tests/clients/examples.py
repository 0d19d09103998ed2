"""Runs the examples of docs/clients.md, each followed by a line that calls its function."""

import asyncio
import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.site import ROOT

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Node has EventSource behind an option.
_COMMANDS = {
    "python": ((sys.executable, "-W", "error"), "example.py"),
    "js": (("node", "--experimental-eventsource", "--disable-warning=ExperimentalWarning"), "example.mjs"),
}


@dataclass(frozen=True)
class Example:
    language: str
    code: str

    @property
    def name(self) -> str:
        """Return the name of the function that a call needs."""
        return re.findall(r"(?:def|function) (\w+)\(", self.code)[-1]

    async def run(self, call: str, folder: Path, base: str, key: str) -> Any:
        """Return the value of a call, through JSON."""
        command, file = _COMMANDS[self.language]
        end = {
            "python": f"import json\nprint(json.dumps({call}))\n",
            # Node's EventSource does not keep the process alive while it waits.
            "js": f"const alive = setInterval(() => 0, 1000);\n"
            f"console.log(JSON.stringify(await {call}));\nclearInterval(alive);\n",
        }
        (folder / file).write_text(f"{self.code}\n{end[self.language]}")
        child = await asyncio.create_subprocess_exec(
            *command,
            file,
            cwd=folder,
            env={"PATH": os.environ["PATH"], "BATON_URL": base, "BATON_KEY": key},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(60):
                printed, errors = await child.communicate()
        finally:
            if child.returncode is None:
                child.kill()
        if child.returncode:
            raise ExampleFailed(errors.decode())
        return json.loads(printed)


class ExampleFailed(Exception):
    """An example ended with an error."""


def examples(language: str) -> list[Example]:
    """Return the examples in a language, in the order of the document."""
    text = (ROOT / "docs/clients.md").read_text(encoding="utf-8")
    return [Example(kind, code) for kind, code in _BLOCK.findall(text) if kind == language]


def together(language: str, *names: str) -> Example:
    """Return examples that go on from each other."""
    return Example(language, "\n".join(example(language, name).code for name in names))


def example(language: str, name: str) -> Example:
    [found] = [one for one in examples(language) if one.name == name]
    return found
