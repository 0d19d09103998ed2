"""What the author of an agent writes: `Agent`, and `@tool` above each function that it may call.

Importing this costs a cold start next to nothing: pydantic comes in with the first use of a tool.
"""

import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from shared.core.pace import MAX_DEADLINE, MIN_DEADLINE
from shared.core.text import is_name

if TYPE_CHECKING:
    # A type checker then finds a misspelt hosted tool before the provider does. Nothing imports this at run time.
    from openai.types.responses import ToolParam

MAX_TURNS = 32
# A function invocation is ended after ten minutes (functionTimeout in host.json).
MIN_TIMEOUT, MAX_TIMEOUT = timedelta(milliseconds=1), timedelta(minutes=9)
# Fields of a response that Baton sets itself.
RESERVED_OPTIONS = frozenset(
    {
        "background",
        "conversation",
        "input",
        "instructions",
        "metadata",
        "model",
        "previous_response_id",
        "store",
        "stream",
        "stream_options",
        "tools",
    }
)

_ARGS_SECTION = re.compile(r"^Args:\n((?:[ \t]+.*(?:\n|\Z)|\n)+)", re.MULTILINE)
_ARG = re.compile(r"^(\w+)(?: \(.*?\))?:(.*(?:\n[ \t]+.*)*)", re.MULTILINE)

P = ParamSpec("P")
R = TypeVar("R")


class IdempotencyKey(str):
    """Annotate a tool's parameter with this to be given the call's key; the model does not see it.

    The key is the same each time the same call is repeated, and no other call has it.
    """

    __slots__ = ()


@dataclass(frozen=True, eq=False)
class Tool(Generic[P, R]):
    """A function that a model may call; made by `@tool`. It can still be called like the function."""

    function: Callable[P, R]
    name: str
    description: str
    # What the docstring says of each parameter.
    parameters: Mapping[str, str]
    timeout: timedelta
    idempotent: bool

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)


@overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...


@overload
def tool(*, timeout: timedelta = ..., idempotent: bool = ...) -> Callable[[Callable[P, R]], Tool[P, R]]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    timeout: timedelta = timedelta(seconds=60),
    idempotent: bool = False,
) -> Any:
    """Make a function, sync or async, a tool.

    The model is told its name, the types of its parameters and its docstring, in which an `Args:`
    section explains the parameters one by one. A parameter with a default may be left out.

    After `timeout` the model is told that the call failed. An async tool is cancelled then; a sync
    one runs in a thread, which cannot be stopped: it goes on and its result is dropped.

    `idempotent` says that a call may safely be made again, with the same `IdempotencyKey`, when
    nobody knows whether it finished. Other calls are never repeated.

    Raises TypeError when the function cannot be a tool.
    """

    def make(function: Callable[P, R]) -> Tool[P, R]:
        name = getattr(function, "__name__", repr(function))
        description, parameters = _read_docstring(function)
        made = Tool(function, name, description, parameters, timeout, idempotent)
        if faults := [*_faults_of_tool(made)]:
            raise TypeError(f"Tool {name}: " + "; ".join(faults))
        return made

    return make if function is None else make(function)


@dataclass(frozen=True, eq=False, kw_only=True)
class Agent:
    """A model with instructions, tools and limits.

    `model` may name settings, as in "%NOVELIST_MODEL%". `tools` holds functions made tools by `@tool`
    and hosted tools as the dicts that the Responses API expects; `cast` one that the openai package does not
    know yet to its `ToolParam`. A run of the agent has at most `max_turns` responses and ends by its
    `deadline`. With `stream` its text can be watched while it is written, unless a request says otherwise.
    `options` are further fields of each response, such as `max_output_tokens` or `reasoning`.

    Raises ValueError when anything of this is wrong.
    """

    name: str
    model: str
    instructions: str
    description: str = ""
    tools: Sequence["Tool[..., Any] | ToolParam"] = ()
    max_turns: int = 8
    deadline: timedelta = timedelta(minutes=30)
    stream: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tools", tuple(self.tools))
        if faults := [*_faults_of_agent(self), *_faults_of_tools(self)]:
            raise ValueError(f"Agent {self.name}: " + "; ".join(faults))

    @property
    def function_tools(self) -> tuple[Tool[..., Any], ...]:
        return tuple(each for each in self.tools if isinstance(each, Tool))


def _read_docstring(function: Callable[..., object]) -> tuple[str, dict[str, str]]:
    """Return what a tool does, and what each parameter means that its `Args:` section explains."""
    text = inspect.getdoc(function) or ""
    section = _ARGS_SECTION.search(text)
    if section is None:
        return text.strip(), {}
    parameters = {name: " ".join(said.split()) for name, said in _ARG.findall(textwrap.dedent(section[1]))}
    rest = (text[: section.start()].strip(), text[section.end() :].strip())
    return "\n\n".join(part for part in rest if part), parameters


def _faults_of_tool(made: Tool[..., Any]) -> Iterator[str]:
    if not inspect.isfunction(made.function) and not inspect.ismethod(made.function):
        yield "only a function can be a tool"
        return
    yield from _faults_of_name(made.name)
    if not made.description:
        yield "it needs a docstring that tells the model what it does"
    if inspect.isasyncgenfunction(made.function):
        yield "an async generator cannot be a tool; return a list"
    yield from _faults_of_value("its timeout", made.timeout, timedelta, MIN_TIMEOUT, MAX_TIMEOUT)
    parameters = inspect.signature(made.function).parameters
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    for parameter in parameters.values():
        if parameter.kind not in by_name:
            yield f"parameter {parameter} cannot be given by name, as a model gives it"
        elif parameter.annotation is parameter.empty:
            yield f"parameter {parameter.name} needs a type annotation"
    for name in sorted(made.parameters.keys() - parameters.keys()):
        yield f"its docstring explains {name}, which is not a parameter"


def _faults_of_agent(agent: Agent) -> Iterator[str]:
    yield from _faults_of_name(agent.name)
    if not agent.model.strip():
        yield "it needs a model"
    if not agent.instructions.strip():
        yield "it needs instructions"
    yield from _faults_of_value("max_turns", agent.max_turns, int, 1, MAX_TURNS)
    yield from _faults_of_value("deadline", agent.deadline, timedelta, MIN_DEADLINE, MAX_DEADLINE)
    for reserved in sorted(RESERVED_OPTIONS & agent.options.keys()):
        yield f"options cannot set {reserved}, which Baton sets itself"
    yield from _faults_of_json("options", agent.options)


def _faults_of_tools(agent: Agent) -> Iterator[str]:
    names = [each.name for each in agent.function_tools]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"two of its tools are called {name}"
    for each in agent.tools:
        match each:
            case Tool():
                pass
            case {"type": "function"}:
                yield "a dict cannot define a function tool; write the function and put @tool above it"
            case {"type": str(kind)}:
                yield from _faults_of_json(f"hosted tool {kind}", each)
            case Mapping():
                yield "a hosted tool is a dict with a type, such as {'type': 'web_search'}"
            case _:
                yield f"{getattr(each, '__name__', repr(each))} is not a tool; put @tool above it"


def _faults_of_name(name: str) -> Iterator[str]:
    if not is_name(name):
        yield "its name must be 1 to 64 letters, digits, underscores or hyphens of ASCII"


def _faults_of_value(what: str, value: Any, kind: type, low: Any, high: Any) -> Iterator[str]:
    if not isinstance(value, kind) or not low <= value <= high:
        yield f"{what} must be of type {kind.__name__}, from {low} to {high}, and is {value!r}"


def _faults_of_json(what: str, value: Mapping[str, Any]) -> Iterator[str]:
    try:
        json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError) as error:
        yield f"{what} cannot be written as JSON ({error})"
