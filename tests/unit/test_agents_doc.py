"""What docs/agents.md lists is what the code has."""

import inspect
import re
from dataclasses import MISSING, Field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from dev.provider.script import Turn, split_script
from shared.adapters.agents import results, threads
from shared.adapters.agents.timeouts import APPROVAL_TIMEOUT
from shared.agent import MAX_TIMEOUT, MAX_TURNS, MAX_WAIT, MIN_TIMEOUT, MIN_WAIT, Agent, CallerTool, tool
from shared.author_faults import MAX_PARAMETERS_BYTES
from shared.core.life.calling import MAX_CALLS_PER_RUN
from shared.core.limits import MAX_RESULTS_BYTES, MAX_TOOL_OUTPUT_BYTES
from shared.core.pace import MAX_DEADLINE, MIN_DEADLINE
from shared.core.tool_choice import after_outputs
from shared.ports.providers import RESERVED_OPTIONS

PAGE = (Path(__file__).parents[2] / "docs/agents.md").read_text(encoding="utf-8")
TEXT = " ".join(PAGE.split())
# How the page calls the types whose names are too long for a table.
KINDS = {
    "tools": "sequence",
    "options": "mapping",
    "output_type": "pydantic model",
    "provider": "`Responses` or `ChatCompletions`",
    "approval": "`bool` or function",
    "parameters": "mapping",
}
KiB = 2**10
MiB = 2**20


def rows(heading: str) -> dict[str, list[str]]:
    """Return the other cells of each row of the first table after a heading, by the name in the first cell."""
    table = re.search(r"(?:^\|.*\n)+", PAGE.split(f"\n## {heading}\n")[1], re.MULTILINE)[0]
    cells = [[cell.strip() for cell in line.strip("|\n").split(" | ")] for line in table.splitlines()[2:]]
    return {first.strip("| `"): others for first, *others in cells}


def shown(default: object) -> str:
    match default:
        case _ if default is MISSING:
            return "required"
        case timedelta() if default >= timedelta(days=2):
            return f"{default // timedelta(days=1)} days"
        case timedelta() if default >= timedelta(minutes=2):
            return f"{default // timedelta(minutes=1)} minutes"
        case timedelta():
            return f"{default // timedelta(seconds=1)} seconds"
        case str():
            return f'`"{default}"`'
        case _:
            return f"`{default}`"


def kind_of(name: str, kind: Any) -> str:
    return KINDS.get(name) or f"`{kind.__name__}`"


@pytest.mark.parametrize("kind", [Agent, CallerTool])
def test_each_field_is_listed_with_its_type_and_default(kind: type):
    listed = [(name, kind, default) for name, (kind, default, _) in rows(kind.__name__).items()]
    assert listed == [
        (each.name, kind_of(each.name, each.type), shown(default_of(each))) for each in fields(kind)
    ]


def default_of(each: Field) -> object:
    return each.default if each.default_factory is MISSING else each.default_factory()


def test_each_argument_of_a_tool_is_listed_with_its_type_and_default():
    arguments = [
        each
        for each in inspect.signature(tool).parameters.values()
        if each.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    assert rows("@tool") == {
        each.name: [kind_of(each.name, each.annotation), shown(each.default), rows("@tool")[each.name][2]]
        for each in arguments
    }


@pytest.mark.parametrize(
    "sentence",
    [
        f"responses that a run may have, 1 to {MAX_TURNS};",
        f"{MIN_DEADLINE.seconds} seconds to {MAX_DEADLINE // timedelta(hours=1)} hours;",
        f"{MIN_TIMEOUT // timedelta(milliseconds=1)} millisecond to {MAX_TIMEOUT // timedelta(minutes=1)} minutes;",
        f"{MIN_WAIT.seconds} second to {MAX_WAIT.days} days; how long a call waits for that",
        f"{MIN_WAIT.seconds} second to {MAX_WAIT.days} days; how long a call waits for its output",
        f"takes longer than {APPROVAL_TIMEOUT.seconds} seconds:",
        f"up to {MAX_PARAMETERS_BYTES // KiB} KiB |",
        f"one of {threads.TOOL_THREADS} threads",
        f"longer than {MAX_TOOL_OUTPUT_BYTES // MiB} MiB |",
        f"All results of a turn may have {MAX_RESULTS_BYTES // MiB} MiB together",
        f"Messages have up to {results.MAX_MESSAGE_CHARACTERS:,} characters",
        f"at most {MAX_CALLS_PER_RUN} tool calls and {MAX_TURNS} turns",
    ],
)
def test_a_limit_is_that_of_the_code(sentence: str):
    assert sentence in TEXT


def test_the_reserved_options_are_listed():
    listed = re.search(r"Baton sets (.*?) itself, so these are refused", TEXT)[1]
    assert set(re.findall(r"`(\w+)`", listed)) == RESERVED_OPTIONS


def test_the_content_parts_of_a_result_are_listed():
    table = PAGE.split("| part | needs one of |")[1].split("\n\n")[0]
    listed = re.findall(r'\{"type": "(\w+)"\}` \| (.*) \|', table)
    assert {kind: set(re.findall(r"`(\w+)`", names)) for kind, names in listed} == results._PARTS


class Finding(BaseModel):
    cause: str


def test_what_the_page_says_of_options_holds():
    assert after_outputs({"tool_choice": "required"}) == {"tool_choice": "auto"}
    with pytest.raises(ValueError, match=r"options cannot set text\.format"):
        Agent(name="a", model="m", instructions="i", output_type=Finding, options={"text": {"format": {}}})


def test_the_script_of_the_page_is_one():
    block = PAGE.split("## Testing an agent")[1].split("```\n")[1]
    script, prompt = split_script(block)
    assert prompt == "Why did the shop stop?"
    assert [len(turn.calls) for turn in script.turns] == [1, 0]


def test_the_keys_of_scripts_are_those_of_the_emulator():
    table = PAGE.split("| the model | in a turn of the script |")[1].split("\n\n")[0]
    keys = set(re.findall(r'"(\w+)": ', table))
    inner = {"name", "arguments", "code", "message", "loop"}
    assert inner < keys
    assert keys - inner <= {each.name for each in fields(Turn)}
