"""What the author of an agent writes: `Agent`, `@tool` above each function that it may call, `CallerTool`, and `ToolError`.

Importing this module is fast, which matters for cold starts. Pydantic is imported when the schema of a tool is made.
"""

import inspect
import json
import re
import textwrap
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from shared.author_faults import (
    faults_of_approval,
    faults_of_json,
    faults_of_name,
    faults_of_parameters,
    faults_of_value,
)
from shared.core.calls import WAIT_FOR
from shared.core.pace import MAX_DEADLINE, MIN_DEADLINE
from shared.ports.providers import RESERVED_OPTIONS
from shared.provider import AnyProvider, ChatCompletions

if TYPE_CHECKING:
    # A type checker then finds a misspelt hosted tool before the provider does. Nothing imports this at run time.
    from openai.types.responses import ToolParam
    from pydantic import BaseModel

MAX_TURNS = 32
# The host ends an invocation after half an hour (functionTimeout in host.json). The last minute is kept free, and two more
# are for what comes before and after a tool in the same invocation. `adapters.agents.timeouts` has the exact times.
MIN_TIMEOUT, MAX_TIMEOUT = timedelta(milliseconds=1), timedelta(minutes=27)
# How long a call waits for an answer.
MIN_WAIT, MAX_WAIT = timedelta(seconds=1), timedelta(days=30)

_ARGS_SECTION = re.compile(r"^Args:\n((?:[ \t]+.*(?:\n|\Z)|\n)+)", re.MULTILINE)
_ARG = re.compile(r"^(\w+)(?: \(.*?\))?:(.*(?:\n[ \t]+.*)*)", re.MULTILINE)

P = ParamSpec("P")
R = TypeVar("R")

# Whether calls of a tool need an approval, or the function that decides it for the arguments of one call.
Approval = bool | Callable[[dict[str, Any]], bool | Awaitable[bool]]


class IdempotencyKey(str):
    """The type of a tool's parameter that gets the key of the call. The model does not see the parameter.

    When a call is repeated its key is the same. No other call has this key.
    """

    __slots__ = ()


class ToolError(Exception):
    """Raise this in a tool to tell the model why the call failed. Clients can read the message too.

    Of any other exception, the model and clients get only its type, because its message may contain secrets.
    """


@dataclass(frozen=True, eq=False)
class Tool(Generic[P, R]):
    """A function that a model may call, made by `@tool`. It can still be called like the function."""

    function: Callable[P, R]
    name: str
    description: str
    # The descriptions of the parameters in the docstring.
    parameters: Mapping[str, str]
    timeout: timedelta
    idempotent: bool
    approval: Approval = False
    wait_for: timedelta = WAIT_FOR

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)


@dataclass(frozen=True, eq=False)
class CallerTool:
    """A tool that whoever started the run carries out. The run waits for its output, at most `wait_for`.

    `parameters` is the JSON schema of its arguments. The provider gets it as it is. Nothing here compares the arguments
    that the model writes with it, so the caller has to check them.

    Raises ValueError when a field is wrong.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    wait_for: timedelta = WAIT_FOR

    def __post_init__(self) -> None:
        if faults := [*_faults_of_caller_tool(self)]:
            raise ValueError(f"CallerTool {self.name}: " + "; ".join(faults))
        # A copy, because what was checked must not change.
        object.__setattr__(self, "parameters", json.loads(json.dumps(dict(self.parameters))))


@overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...


@overload
def tool(
    *, timeout: timedelta = ..., idempotent: bool = ..., approval: Approval = ..., wait_for: timedelta = ...
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    timeout: timedelta = timedelta(seconds=60),
    idempotent: bool = False,
    approval: Approval = False,
    wait_for: timedelta = WAIT_FOR,
) -> Any:
    """Make a function, sync or async, a tool.

    The model gets its name, the types of its parameters and its docstring. An `Args:` section in the
    docstring describes the parameters. The model may leave out a parameter that has a default.

    The model gets a text as it is, and any other result as JSON. A number that JSON does not have, such as NaN, is
    null. A list of content parts, such as `{"type": "input_image", "image_url": ...}`, is sent as these parts. A
    tool that returned has taken effect, so its call is completed even if its result cannot be shown to the model.

    A tool that raises fails its call. The model gets the message of a `ToolError`, and only the type of any other
    exception.

    After `timeout` the call fails, and the model gets an error. An async tool is then cancelled. A sync tool
    runs in a thread, which cannot be stopped: it runs on, and its result is ignored.

    `idempotent` means that a call may be repeated, with the same `IdempotencyKey`, when it is unknown whether
    it finished. Other calls are never repeated.

    With `approval` a call does not run before a person has approved it. A function, sync or async, decides that for
    each call: it gets the arguments as a dict, with defaults and without keys, and returns whether an approval is
    needed. It is needed too when the function raises, returns no bool, or takes too long. After `wait_for` without
    an answer the call does not run, and the model is told.

    Raises TypeError when the function cannot be a tool.
    """

    def make(function: Callable[P, R]) -> Tool[P, R]:
        name = getattr(function, "__name__", repr(function))
        description, parameters = _read_docstring(function)
        made = Tool(function, name, description, parameters, timeout, idempotent, approval, wait_for)
        if faults := [*_faults_of_tool(made)]:
            raise TypeError(f"Tool {name}: " + "; ".join(faults))
        return made

    return make if function is None else make(function)


@dataclass(frozen=True, eq=False, kw_only=True)
class Agent:
    """A model with instructions, tools and limits.

    Raises ValueError when a field is wrong.
    """

    name: str
    # May name settings, as in "%NOVELIST_MODEL%".
    model: str
    instructions: str
    description: str = ""
    # Functions with `@tool`, tools of the caller, and hosted tools as the dicts that the Responses API expects. `cast` a
    # dict that the openai package does not know yet to its `ToolParam`.
    tools: Sequence["Tool[..., Any] | CallerTool | ToolParam"] = ()
    # The most responses that a run may have.
    max_turns: int = 8
    # A run that is not finished after this time is `expired`.
    deadline: timedelta = timedelta(minutes=30)
    # Whether clients can read the text while the model writes it. A start request can set it differently.
    stream: bool = False
    # Further fields of each request to the provider, such as `max_output_tokens` or `reasoning`.
    options: Mapping[str, Any] = field(default_factory=dict)
    # An option `tool_choice` that forces the model to call a tool applies to the first turn of a run only, because
    # a model that must always call a tool never answers. True applies it to every turn.
    tool_choice_every_turn: bool = False
    # A pydantic model. The answers are then JSON of this type: the provider is told its schema, and an answer that does
    # not fit ends the run as failed, with the code `output_invalid`.
    output_type: "type[BaseModel] | None" = None
    # A provider of its own. None: the one of the app's settings.
    provider: AnyProvider | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tools", tuple(self.tools))
        if faults := [*_faults_of_agent(self), *_faults_of_tools(self)]:
            raise ValueError(f"Agent {self.name}: " + "; ".join(faults))

    @property
    def function_tools(self) -> tuple[Tool[..., Any], ...]:
        return tuple(each for each in self.tools if isinstance(each, Tool))

    @property
    def named_tools(self) -> tuple[Tool[..., Any] | CallerTool, ...]:
        """The tools that the model calls by a name."""
        return tuple(each for each in self.tools if isinstance(each, Tool | CallerTool))


def _read_docstring(function: Callable[..., object]) -> tuple[str, dict[str, str]]:
    """Return the description of a tool, and the descriptions of its parameters in the `Args:` section."""
    text = inspect.getdoc(function) or ""
    section = _ARGS_SECTION.search(text)
    if section is None:
        return text.strip(), {}
    parameters = {
        name: " ".join(meaning.split()) for name, meaning in _ARG.findall(textwrap.dedent(section[1]))
    }
    rest = (text[: section.start()].strip(), text[section.end() :].strip())
    return "\n\n".join(part for part in rest if part), parameters


def _faults_of_tool(made: Tool[..., Any]) -> Iterator[str]:
    if not inspect.isfunction(made.function) and not inspect.ismethod(made.function):
        yield "only a function can be a tool"
        return
    yield from faults_of_name(made.name)
    if not made.description:
        yield "it needs a docstring, which describes it to the model"
    if inspect.isasyncgenfunction(made.function):
        yield "an async generator cannot be a tool; return a list"
    yield from faults_of_value("its timeout", made.timeout, timedelta, MIN_TIMEOUT, MAX_TIMEOUT)
    yield from faults_of_approval(made.approval)
    yield from faults_of_value("its wait_for", made.wait_for, timedelta, MIN_WAIT, MAX_WAIT)
    parameters = inspect.signature(made.function).parameters
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    for parameter in parameters.values():
        if parameter.kind not in by_name:
            yield f"parameter {parameter} cannot be given by name, but models give arguments by name"
        elif parameter.annotation is parameter.empty:
            yield f"parameter {parameter.name} needs a type annotation"
    for name in sorted(made.parameters.keys() - parameters.keys()):
        yield f"its docstring explains {name}, which is not a parameter"


def _faults_of_caller_tool(made: CallerTool) -> Iterator[str]:
    yield from faults_of_name(made.name)
    if not isinstance(made.description, str) or not made.description.strip():
        yield "it needs a description, which describes it to the model"
    yield from faults_of_parameters(made.parameters)
    yield from faults_of_value("its wait_for", made.wait_for, timedelta, MIN_WAIT, MAX_WAIT)


def _faults_of_agent(agent: Agent) -> Iterator[str]:
    yield from faults_of_name(agent.name)
    if not agent.model.strip():
        yield "it needs a model"
    if not agent.instructions.strip():
        yield "it needs instructions"
    yield from faults_of_value("max_turns", agent.max_turns, int, 1, MAX_TURNS)
    yield from faults_of_value("deadline", agent.deadline, timedelta, MIN_DEADLINE, MAX_DEADLINE)
    if agent.provider is not None and not isinstance(agent.provider, AnyProvider):
        yield "its provider must be Responses(...) or ChatCompletions(...) of shared.provider, or None"
    if isinstance(agent.provider, ChatCompletions):
        yield from _faults_of_chat(agent)
    text = agent.options.get("text")
    if agent.output_type is not None and isinstance(text, Mapping) and "format" in text:
        yield "options cannot set text.format beside output_type, which sets it"
    for reserved in sorted(RESERVED_OPTIONS & agent.options.keys()):
        yield f"options cannot set {reserved}, which Baton sets itself"
    yield from faults_of_json("options", agent.options)


def _faults_of_chat(agent: Agent) -> Iterator[str]:
    from shared.core.chat.options import RESERVED_CHAT_OPTIONS  # noqa: PLC0415 - for apps that need it

    for reserved in sorted((RESERVED_CHAT_OPTIONS - RESERVED_OPTIONS) & agent.options.keys()):
        yield f"options cannot set {reserved}, which Baton sets itself"
    for each in agent.tools:
        if not isinstance(each, Tool | CallerTool):
            yield f"its provider has no hosted tools, and {each.get('type', 'one of its tools')!r} is one"


def _faults_of_tools(agent: Agent) -> Iterator[str]:
    names = [each.name for each in agent.named_tools]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"two of its tools are called {name}"
    for each in agent.tools:
        match each:
            case Tool() | CallerTool():
                pass
            case {"type": "function"}:
                yield (
                    "a dict cannot define a function tool; write the function and put @tool above it, or use CallerTool "
                    "when the caller runs it"
                )
            case {"type": str(kind)}:
                yield from faults_of_json(f"hosted tool {kind}", each)
            case Mapping():
                yield "a hosted tool is a dict with a type, such as {'type': 'web_search'}"
            case _:
                yield f"{getattr(each, '__name__', repr(each))} is not a tool; put @tool above it"
