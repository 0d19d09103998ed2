"""Reads the files of cases. README.md describes their fields."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

DATA = Path(__file__).parent / "data"

_Made = TypeVar("_Made")
Table = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class AgentTable:
    """What differs from an agent that only has instructions."""

    # Names of functions in functions.py.
    functions: tuple[str, ...] = ()
    # Tools that the provider runs, or that it only describes.
    hosted: tuple[Table, ...] = ()
    # Tools that the client runs: `name`, `description` and `parameters` of each.
    caller_tools: tuple[Table, ...] = ()
    options: Table = field(default_factory=dict)
    stream: bool = False
    max_turns: int = 8
    deadline_seconds: float = 30


@dataclass(frozen=True, kw_only=True)
class Step:
    """What the client does next. Exactly one of the first five fields has a value."""

    wait: float | None = None
    # The input of a new run: a text, or input items.
    start: Any = None
    # A method and a path below /api. `{run}` and `{session}` become the ids of the newest run.
    send: str = ""
    # The answer to a call that the newest run waits for, as it is posted.
    answer: Mapping[str, Any] | None = None
    until_ended: bool = False

    name: str = ""
    # Of a start: continue the session of the newest run; its deadline.
    in_session: bool = False
    deadline_seconds: float | None = None
    # Of a start: tools that the client runs, and what the run does with calls of them.
    tools: tuple[Table, ...] = ()
    caller_calls: str = ""
    # Of an answer: which of the calls that wait, counted from 1.
    call: int = 1
    # Of `send`.
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    text: str = ""
    charset: str = "utf-8"
    gzip: bool = False

    def __post_init__(self) -> None:
        given = (self.wait, self.start, self.answer)
        if sum((*(each is not None for each in given), bool(self.send), self.until_ended)) != 1:
            raise ValueError("a step of a client has one of: wait, start, send, answer, until_ended")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """An answer of the provider, and the requests that get it. The first rule that fits is used."""

    # create, read, slice (of a stream), cancel, delete, or any.
    request: str
    # The id in the path, decoded.
    id: str | None = None
    # Parameters that the query has.
    query: Mapping[str, str] = field(default_factory=dict)
    # Of the create that made the response, and of the create itself: the client's run, its turn, conditions.
    run: int | None = None
    turn: int | None = None
    when: tuple[str, ...] = ()
    # The create has an input item of this type.
    carries: str = ""
    without_header: str = ""
    # How many requests get this answer; 0 for all.
    times: int = 0

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    # One of: a body; the events of a stream; output items or a text of a completed response; its status alone.
    body: str = ""
    events: str = ""
    output: str = ""
    says: str = ""
    state: str = ""
    # How many letters @LONG@ stands for.
    long: int = 0
    # How many seconds the complete answer takes.
    slow: float = 0
    # The connection breaks before an answer.
    lost: bool = False


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case. `expect` holds, for each kind of thing, what has to be true of it."""

    name: str
    about: str
    client: tuple[Step, ...]
    expect: Mapping[str, Any]
    agent: AgentTable = field(default_factory=AgentTable)
    provider: tuple[Rule, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    # False: the timer does not fire. HTTP and the queue work.
    timer: bool = True
    # How long after the end of all runs the app goes on, and when it stops although a run has not ended.
    after_seconds: int = 2
    last_second: int = 200
    # What of this case other tests check.
    elsewhere: str = ""

    @classmethod
    def read(cls, path: Path) -> "Case":
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        table["client"] = tuple(_made(Step, step, path) for step in table.get("client", ()))
        table["provider"] = tuple(_made(Rule, rule, path) for rule in table.get("provider", ()))
        table["agent"] = _made(AgentTable, table.get("agent", {}), path)
        return _made(cls, {"name": path.stem, **table}, path)


def _made(kind: type[_Made], table: Table, path: Path) -> _Made:
    known = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    if strange := sorted(set(table) - known):
        raise ValueError(f"{path.name}: {kind.__name__} has no field {', '.join(strange)}")
    return kind(**{name: tuple(value) if _is_row(name, value) else value for name, value in table.items()})


def _is_row(name: str, value: object) -> bool:
    return isinstance(value, list) and name in {"functions", "hosted", "when", "tools", "caller_tools"}


def cases() -> dict[str, Case]:
    """Return all cases by name."""
    return {path.stem: Case.read(path) for path in sorted(DATA.glob("*.toml"))}
