"""What must be true of runs that are over, judged by what clients read, tools did, and provider and storage still have.

The proofs and the tests of deployed apps share it. The simulation has its own auditor, which sees every state of a run.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.core.run import OUTCOMES
from shared.store.rows import TICK_KEY
from tests.support.client import Client
from tests.support.feeds import text_after

TERMINAL = frozenset(status.value for status in OUTCOMES)
ABSENT = "Absent"

# The name of the idempotent tool of every agent of the tests. Their other tools must not run twice.
_IDEMPOTENT = "look_up"
# These events may come several times with the same fields.
_REPEATED_EVENTS = {"text.delta", "text.replaced", "turn.create_repeated", "run.requires_action"}


@dataclass(frozen=True)
class Finding:
    """Something that is wrong: what kind of fault it is, and where."""

    kind: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


@dataclass(frozen=True, kw_only=True)
class Expected:
    """How a run must end. A call is named by its tool and what it marks, as in "pay rent"."""

    # None for a run that is deleted.
    status: str | None = "completed"
    text: str = ""
    # None when the usage is not known.
    total_tokens: int | None = None
    calls: Collection[str] = ()
    # Those of them that people or the caller answer so that no tool runs, each with its status.
    closed: Mapping[str, str] = field(default_factory=dict)
    # Whether its provider has no background mode, so that it has no responses.
    generated: bool = False


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is seen of a run when it is over."""

    name: str
    # The status and the body of the answer to a client that reads the run.
    answer: int = 200
    run: Mapping[str, Any] | None
    # Its calls, each with the status that a client read last.
    calls: Sequence[tuple[str, str]] = ()
    # The calls that were running when their process ended. None when that is not known.
    interrupted: Collection[str] | None = ()
    # Its complete feed, or None when no client read it.
    events: Sequence[Mapping[str, Any]] | None = None
    # The provider's status of each of its responses, or ABSENT. None when the provider was not asked.
    responses: Sequence[str] | None = None


@dataclass(frozen=True)
class Effects:
    """The idempotency keys with which each call had its effect, in order."""

    keys: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, effects: Iterable[tuple[str, str, str]]) -> "Effects":
        """Take the tool, mark and key of each effect."""
        keys = defaultdict[str, list[str]](list)
        for tool, mark, key in effects:
            keys[f"{tool} {mark}"].append(key)
        return cls(keys)

    @classmethod
    def parse(cls, lines: Iterable[str]) -> "Effects":
        """Read lines that begin with tool, mark and key."""
        return cls.of((tool, mark, key) for tool, mark, key, *_ in map(str.split, lines))

    def count(self, call: str) -> int:
        return len(self.keys.get(call, ()))


async def read_as_client(client: Client, run_id: str, **fields: Any) -> Seen:
    """Read a run and its complete feed; `fields` are what else is seen of it."""
    reply = await client.get("/runs/{run_id}", run_id)
    events: list[Mapping[str, Any]] = []
    while reply.status == 200:
        after = str(events[-1]["id"] if events else 0)
        page = (await client.get("/runs/{run_id}/events", run_id, after=after, limit="1000")).json
        events += page["data"]
        if not page["data"] or page["done"]:
            break
    return Seen(answer=reply.status, run=reply.json, events=events, **fields)


def judge_run(expected: Expected, seen: Seen, effects: Effects) -> Iterator[Finding]:
    """Compare a run with what it was expected to be."""
    if expected.status is None:
        if seen.answer != 404:
            yield Finding("deleted run is readable", f"{seen.name}: answered with {seen.answer}")
    elif seen.answer != 200 or seen.run is None or seen.run["status"] not in TERMINAL:
        status = seen.run and seen.run.get("status")
        yield Finding("lost", f"{seen.name}: answered with {seen.answer}, status {status}")
        return
    elif seen.run["status"] != expected.status:
        error = seen.run.get("error")
        yield Finding("wrong outcome", f"{seen.name}: {seen.run['status']} {error}, not {expected.status}")
    else:
        yield from _judge_outcome(expected, seen, seen.run)
    yield from _judge_responses(expected, seen)
    yield from _judge_calls(expected, seen, effects)


def _judge_outcome(expected: Expected, seen: Seen, run: Mapping[str, Any]) -> Iterator[Finding]:
    if run["output_text"] != expected.text:
        lengths = f"{len(run['output_text'] or '')} characters, not the {len(expected.text)} of the provider"
        yield Finding("wrong text", f"{seen.name}: {lengths}")
    if expected.total_tokens is not None and run["usage"]["total_tokens"] != expected.total_tokens:
        yield Finding("wrong usage", f"{seen.name}: {run['usage']}, not {expected.total_tokens} in all")
    if seen.events is not None:
        yield from _judge_feed(seen.name, seen.events, run)


def _judge_feed(name: str, events: Sequence[Mapping[str, Any]], run: Mapping[str, Any]) -> Iterator[Finding]:
    """A reader of the feed misses no event, has the text of the outcome, and sees the end last."""
    ids = [event["id"] for event in events]
    if ids != list(range(1, len(ids) + 1)):
        yield Finding("gap in the feed", f"{name}: {ids}")
    text = ""
    for event in events:
        text = text_after(text, event)
    if text != run["output_text"]:
        yield Finding("wrong text in the feed", f"{name}: {len(text)} characters")
    if not events or events[-1]["type"] != f"run.{run['status']}":
        yield Finding("wrong end of the feed", f"{name}: {events and events[-1]['type']}")
    said = Counter(
        str({field: value for field, value in sorted(event.items()) if field not in {"id", "at"}})
        for event in events
        if event["type"] not in _REPEATED_EVENTS
    )
    for event, times in said.items():
        if times > 1:
            yield Finding("repeated event in the feed", f"{name}: {event} {times} times")


def _judge_responses(expected: Expected, seen: Seen) -> Iterator[Finding]:
    if seen.responses is None:
        return
    earlier, last = ("completed", expected.status) if expected.status else (ABSENT, ABSENT)
    wanted = [] if expected.generated else [*[earlier] * (len(seen.responses) - 1), last]
    if list(seen.responses) != wanted:
        yield Finding("wrong responses at the provider", f"{seen.name}: {seen.responses}, not {wanted}")


def _judge_calls(expected: Expected, seen: Seen, effects: Effects) -> Iterator[Finding]:
    names = [call for call, _ in seen.calls]
    if sorted(names) != sorted(expected.calls):
        yield Finding("wrong tool calls", f"{seen.name}: {sorted(names)}, not {sorted(expected.calls)}")
    for call, status in dict(seen.calls).items():
        closed = {expected.closed[call]} if call in expected.closed else None
        right = closed or _right_statuses(call, seen.interrupted)
        if status not in right:
            yield Finding("wrong status of a tool call", f"{seen.name}: {call} {status}, not {right}")
        elif closed:
            continue
        elif status == "completed" and not effects.count(call):
            yield Finding("tool call completed without effect", f"{seen.name}: {call}")


def _right_statuses(call: str, interrupted: Collection[str] | None) -> set[str]:
    """A call that was interrupted is run again if it may be. Otherwise nobody knows its outcome."""
    if call.startswith(_IDEMPOTENT):
        return {"completed"}
    if interrupted is None:
        return {"completed", "unknown"}
    return {"unknown"} if call in interrupted else {"completed"}


def judge_effects(
    effects: Effects, expected: Iterable[Expected], interrupted: Collection[str] | None = ()
) -> Iterator[Finding]:
    """Each call has its effect at most once, an idempotent one again after an interruption, always with its own key."""
    wanted = {call for one in expected for call in one.calls if call not in one.closed}
    calls_of_key = defaultdict[str, set[str]](set)
    for call, keys in effects.keys.items():
        repeatable = call.startswith(_IDEMPOTENT) and (interrupted is None or call in interrupted)
        # After one known interruption a call is repeated once.
        most = 1 if not repeatable else len(keys) if interrupted is None else 2
        if call not in wanted:
            yield Finding("effect that nobody asked for", call)
            continue
        if len(keys) > most:
            yield Finding("effect doubled", f"{call}: {len(keys)} times")
        elif len(set(keys)) > 1:
            yield Finding("effect repeated with another key", f"{call}: {', '.join(keys)}")
        for key in keys:
            calls_of_key[key].add(call)
    for key, calls in calls_of_key.items():
        if len(calls) > 1:
            yield Finding("one key for several calls", f"{key}: {sorted(calls)}")


def judge_rows(
    keys: Iterable[str], runs: Collection[str], deleted: Collection[str] = (), texts_of_deleted: int = 0
) -> Iterator[Finding]:
    """Judge the keys of the runs table: nothing is owed any more, and of a deleted run only its tombstone is left."""
    stored: list[str] = []
    for key in keys:
        kind, _, rest = key.partition("|")
        run_id = rest.partition("|")[0]
        owed = kind in {"pending", "delivery", "paused"} or kind.startswith("pending~")
        if (owed and key != TICK_KEY) or (run_id in deleted and kind in {"event", "tool", "answer"}):
            yield Finding("row left over", key)
        if kind == "run":
            stored.append(run_id)
    if sorted(stored) != sorted(runs):
        yield Finding("wrong runs in storage", f"{sorted(stored)}, not {sorted(runs)}")
    if texts_of_deleted:
        yield Finding("text left over", f"{texts_of_deleted} rows")


def judge_session(stored: Mapping[str, Any], runs: int, *, deleted: bool = False) -> Iterator[Finding]:
    """Judge a session after all of its runs."""
    found = {name: stored[name] for name in ("deleted", "held_by", "runs")}
    wanted = {"deleted": deleted, "held_by": None, "runs": runs}
    if found != wanted:
        yield Finding("wrong session", f"{found}, not {wanted}")


def judge_answers(answers: Iterable[Mapping[str, Any]]) -> Iterator[Finding]:
    """Judge all answers in order: a run keeps its id and its outcome, and a deleted one does not come back.

    An answer has the `name` of its run, what was `asked`, its `status`, and its `body` without texts.
    """
    ids: dict[str, set[str]] = defaultdict(set)
    outcomes: dict[str, Any] = {}
    gone = False
    for answer in answers:
        name, body = answer["name"], answer["body"]
        if answer["asked"] in {"delete", "delete_session"} and answer["status"] in {204, 404}:
            gone = True
        elif name and gone and answer["status"] not in {404, 409}:
            yield Finding(
                "deleted run comes back", f"{name}: {answer['asked']} answered with {answer['status']}"
            )
        if name and body:
            ids[name].add(body["id"])
            if name in outcomes and outcomes[name] != body:
                yield Finding("outcome changed", f"{name}: {outcomes[name]['status']} to {body['status']}")
            if body["status"] in TERMINAL:
                outcomes[name] = body
    for name, found in ids.items():
        if len(found) > 1:
            yield Finding("several runs for one Idempotency-Key", f"{name}: {sorted(found)}")
