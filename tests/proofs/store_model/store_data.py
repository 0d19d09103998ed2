"""The runs, sessions, deliveries and texts that these tests store."""

import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any

from hypothesis import strategies as st

from shared.core import ids, log
from shared.core.calls import AnswerType, CallStatus, ToolCall, Wait, WaitKind
from shared.core.delivery import WAIT, ClockRow, Delivery
from shared.core.response import RunError, Usage
from shared.core.run import Content, Continuation, Lease, OpenItem, Run, RunStatus, Session, Step
from shared.store.answers import StoredAnswer
from shared.store.keys import StoredKey
from shared.store.runs import StoredResult
from shared.store.waits import PausedRun
from tests.support.runs import NOW, a_delivery, a_logged_run, an_id

OWNERS = ("ann", "o'hara & 宇")
AGENTS = ("writer", "analyst")


# Two sessions in one shard and one in another, with two runs each: few enough to meet often.
SESSIONS = (an_id("ses", 3, 0), an_id("ses", 3, 1), an_id("ses", 15, 2))
RUNS = tuple(an_id("run", int(ids.shard_of(SESSIONS[n // 2]), 16), n) for n in range(6))
SHARDS = ("03", "0f")
KEYS = ("0" * 64, "f" * 64)
# The lengths of texts that are stored inline, in one row of chunks, and in two.
LENGTHS = (0, 300, 40_000, 40_000, 1_500_000, 1_500_000)

runs = st.integers(0, len(RUNS) - 1)
sessions = st.integers(0, len(SESSIONS) - 1)
shards = st.sampled_from(SHARDS)
TIMES = [NOW + timedelta(microseconds=n) for n in (0, 1, 10**6, 123_456_789)]
times = st.sampled_from(TIMES)
later_times = st.sampled_from([at + timedelta(hours=1) for at in TIMES])
# 0 is the newest version that was seen, 1 the one before and so on.
versions = st.sampled_from([0, 0, 0, 0, 1, 2])
# What is lost of a write.
losses = st.sampled_from(["", "", "", "", "reply", "request"])
texts = st.sampled_from(["", "\x00", "宇\U0001f469\U0001f3fd\u200d\U0001f680", "'"]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=9
)

CONTENTS = (Content(), Content(inline=b""), Content(inline=b"\xff\x00"), Content(name="turn-01-x", chunks=9))
CALL_IDS = ("call_1", "call/2?#", "宇")
CALLS = tuple(
    ToolCall(
        call_id=call_id,
        name="look_up",
        turn=turn,
        idempotent=turn == 1,
        status=status,
        started_at=at,
        completed_at=at,
    )
    for turn, (call_id, status, at) in enumerate(
        zip(CALL_IDS, CallStatus, [None, *TIMES[1:3]], strict=False), 1
    )
)
# Calls that wait, and one that no longer does.
WAITS = (
    Wait(WaitKind.APPROVAL, TIMES[0], TIMES[3]),
    Wait(WaitKind.OUTPUT, TIMES[1], TIMES[2]),
    Wait(WaitKind.APPROVAL, TIMES[2], TIMES[3], approved=True),
)
WAITING = tuple(
    ToolCall(call_id=call_id, name="pay", turn=1, status=status, wait=wait)
    for call_id, status, wait in zip(
        CALL_IDS, (CallStatus.WAITING, CallStatus.WAITING, CallStatus.REFUSED), WAITS, strict=True
    )
)
RESPONSES = ("resp_1", "resp_2")
# Each field of a run that a transition may change, with values for it.
FIELDS: Mapping[str, Sequence[object]] = {
    "due": TIMES,
    "lease": [None, Lease("l1", TIMES[0]), Lease("l2", TIMES[3])],
    "rev": [2, 2**33],
    "turn": [1, 2, 32],
    "turn_started_at": [None, *TIMES[:2]],
    "continuation": [None, Continuation("resp_1"), Continuation("resp_1", 0), Continuation("resp_2", 2**33)],
    "written": [0, 2**33],
    "items": [0, 3],
    "turn_items": [0, 2],
    "open_items": [(), (OpenItem(0, 1), OpenItem(2**33, 2, parts=2, part_open=True))],
    "activity": ["", "calling 宇 \x00"],
    "missing_since": [None, TIMES[2]],
    "responses": [(), RESPONSES[:1], RESPONSES],
    "abandoned": [(), RESPONSES],
    "previous_response_id": [None, *RESPONSES],
    "unknown_creates": [0, 3],
    "metadata": [{}, {"title": "宇 \U0001f680 \x00", "": "'"}],
    "updated_at": TIMES,
    "completed_at": [None, TIMES[1]],
    "turns": [(), CONTENTS[1:3], CONTENTS],
    "calls": [(), CALLS[:1], CALLS],
    "usage": [Usage(), Usage(2**40, 1, 2**40 + 1)],
    "error": [None, RunError("code", "it's 宇 \x00")],
    "incomplete_reason": [None, "max_turns"],
}
SESSION_FIELDS: Mapping[str, Sequence[object]] = {
    "updated_at": TIMES,
    "held_by": [None, *RUNS[:2]],
    "last_run_id": [None, *RUNS[:2]],
    "last_response_id": [None, *RESPONSES],
    "runs": [0, 2**33],
    "deleted": [False, True],
}


def _some(fields: Mapping[str, Sequence[object]], most: int) -> st.SearchStrategy[dict[str, object]]:
    each = [(name, value) for name, values in fields.items() for value in values]
    return st.lists(st.sampled_from(each), max_size=most).map(dict)


changes = _some(FIELDS, 8)
# Status, step, clock and calls have to agree about whether a run waits for people.
GOING = [
    {"status": status, "step": step, "paused_at": None}
    for status in RunStatus
    for step in Step
    if status is not RunStatus.REQUIRES_ACTION and step is not Step.ANSWER
]
ENDED = {"status": RunStatus.COMPLETED, "step": Step.NOTHING, "paused_at": None}
PAUSED = [
    {"status": RunStatus.REQUIRES_ACTION, "step": Step.ANSWER, "paused_at": at, "calls": calls}
    for at in TIMES[:2]
    for calls in (WAITING[:1], WAITING[1:], WAITING)
]
changes_of_new = st.builds(dict.__or__, changes, st.sampled_from(GOING))
# A third of the changes end the run, so that it is owed nothing, and a third let it wait.
changes_of_runs = st.builds(dict.__or__, changes, st.sampled_from([*GOING, *[ENDED] * 40, *PAUSED * 6]))
ANSWERS = [
    StoredAnswer(
        turn=1 + number % 2,
        call_id=CALL_IDS[number % 3],
        type=answer,
        at=TIMES[number % 4],
        by="ann",
        by_name=("", "Anna 宇")[number % 2],
        reason=("", "it's \x00")[number % 2],
        changed=(None, *CONTENTS)[number],
        approved=("", "a" * 64)[number % 2],
        fingerprint="print",
    )
    for number, answer in enumerate(AnswerType)
]
answers = st.lists(st.sampled_from(ANSWERS), max_size=1)
changes_of_sessions = _some(SESSION_FIELDS, 3)
numbers = st.integers(0, 2**40)
entries = st.lists(
    st.one_of(
        st.builds(log.RunInProgress),
        st.builds(log.TurnStarted, numbers, texts),
        st.builds(log.ToolCompleted, numbers, texts, texts, texts),
        st.builds(log.ItemStarted, numbers, numbers, texts, texts),
        st.builds(
            log.TextDelta,
            *[numbers] * 5,
            st.none() | st.builds(Content, name=st.just("slice-1"), chunks=numbers),
        ),
        st.builds(
            log.UnknownEntry, texts, st.dictionaries(texts.map("x".__add__), texts | numbers, max_size=1)
        ),
    ),
    max_size=2,
)


def _result(turn: int, call_id: str, output: Content) -> StoredResult:
    return StoredResult(turn, call_id, output, parts=bool(output.name))


results = st.lists(
    st.builds(_result, st.integers(1, 3), st.sampled_from(CALL_IDS), st.sampled_from(CONTENTS)),
    max_size=2,
    unique_by=lambda result: (result.turn, result.call_id),
)
# There are few names, so that two deliveries often have the same. In a real run every name is different.
DELIVERIES = tuple(f"{rev:08d}-{number}" for rev in range(2, 6) for number in (0, 1))
deliveries = st.lists(st.tuples(st.sampled_from(DELIVERIES), times), max_size=2, unique_by=itemgetter(0))
meanings = st.builds(
    StoredKey, st.sampled_from(RUNS), st.sampled_from(SESSIONS), st.sampled_from(["print-1", "print-2"])
)


def _long_text(length: int, seed: int) -> str:
    """Return a text that compression makes half as long, with characters that need escaping."""
    return random.Random(seed).randbytes(length // 2).hex() + "宇\x00\U0001f680"


long_texts = st.builds(_long_text, st.sampled_from(LENGTHS), st.integers(0, 2))

# The arguments of every operation. `which` chooses one of the texts or deliveries that exist.
ARGUMENTS: Mapping[str, Mapping[str, st.SearchStrategy]] = {
    "insert": {
        "run": runs,
        "version": st.sampled_from([0, 0, 0, 1, None]),
        "changes": changes_of_new,
        "session": changes_of_sessions,
    },
    "commit": {
        "run": runs,
        "version": versions,
        "changes": changes_of_runs,
        "entries": entries,
        "results": results,
        "answers": answers,
        "deliveries": deliveries,
    },
    "read": {"run": runs},
    "log": {"run": runs, "after": st.integers(0, 4), "limit": st.none() | st.integers(1, 3)},
    "results": {"run": runs, "turn": st.integers(1, 3)},
    "answers": {"run": runs},
    "approvals": {
        "owner": st.none() | st.sampled_from(OWNERS),
        "first": st.none() | st.builds(PausedRun, times, st.sampled_from(RUNS)),
        "limit": st.integers(1, 4),
    },
    "drop_clock": {"clock": st.builds(ClockRow, times, st.sampled_from(RUNS), st.just(WAIT))},
    "purge": {"run": runs},
    "owed": {"shard": shards, "now": times},
    "delivery": {"which": st.integers(0, 4), "due": st.none() | times},
    "move": {"which": st.integers(0, 4), "version": versions, "due": later_times},
    "remove": {"which": st.integers(0, 4), "version": versions},
    "claim_tick": {"shard": shards, "version": st.sampled_from([0, 0, 1, None]), "at": times},
    "listing": {
        "owner": st.sampled_from(OWNERS),
        "status": st.sampled_from([*[None] * 9, *map(str, RunStatus)]),
        "agent": st.sampled_from([*[None] * 4, *AGENTS]),
        "after": st.sampled_from([*[""] * 6, *map(ids.position, RUNS)]),
        "limit": st.integers(1, 4),
    },
    "read_session": {"session": sessions},
    "write_session": {"session": sessions, "version": versions, "changes": changes_of_sessions},
    "read_key": {"key": st.sampled_from(KEYS)},
    "claim_key": {"key": st.sampled_from(KEYS), "meant": meanings, "at": times},
    "save": {"run": runs, "text": long_texts},
    "load": {"which": st.integers(0, 4)},
    "drop": {"which": st.integers(0, 4)},
    "purge_content": {"which": st.integers(0, 4)},
}
# The operations of the two machines. A frequent one is listed several times.
OUTBOX = ("commit", "commit", "move", "move", "delivery", "remove", "owed", "purge")
OTHERS = (
    *(name for name in ARGUMENTS if name not in {"delivery", "move", "remove"}),
    *("commit", "commit", "write_session", "save", "save", "load", "load", "drop", "listing", "approvals"),
)
# The operations that the storage carries out atomically: two at once have the outcome of one after the other.
ATOMIC = (
    *("insert", "commit", "commit", "claim_tick", "write_session", "claim_key", "move", "remove"),
    *("read", "results", "answers", "drop_clock", "owed", "read_session", "read_key"),
)
# The argument that two operations of a kind must share to use the same row.
SAME = {
    "commit": "run",
    "insert": "run",
    "claim_tick": "shard",
    "write_session": "session",
    "claim_key": "key",
    "purge": "run",
    "move": "which",
    "remove": "which",
}

Operation = tuple[str, dict[str, Any]]


def _operation(draw: st.DrawFn, names: Sequence[str]) -> Operation:
    name = draw(st.sampled_from(names))
    return name, {argument: draw(values) for argument, values in ARGUMENTS[name].items()}


@st.composite
def one_or_two(draw: st.DrawFn, names: Sequence[str]) -> list[Operation]:
    """Draw one of the operations, or two that are carried out at once.

    Two are of any kind, or of one kind. Two of one kind know the same versions and use the same row.
    """
    match draw(st.sampled_from(["one", "one", "two of a kind", "two"])):
        case "one":
            return [_operation(draw, names)]
        case "two":
            return [_operation(draw, [name for name in ATOMIC if name in names]) for _ in range(2)]
    name = draw(st.sampled_from([name for name in SAME if name in names]))
    one, other = [_operation(draw, [name])[1] for _ in range(2)]
    newest = {"version": 0} if "version" in one else {}
    return [(name, one | newest), (name, other | newest | {SAME[name]: one[SAME[name]]})]


def new_run(number: int, changes: Mapping[str, object]) -> Run:
    fields = {
        "id": RUNS[number],
        "session_id": SESSIONS[number // 2],
        "owner": OWNERS[number % 2],
        "agent": AGENTS[number // 3],
        "created_at": NOW + timedelta(seconds=number),
    }
    return a_logged_run(**fields | changes)


def new_delivery(run_id: str, name: str, due: datetime) -> Delivery:
    return a_delivery(run_id, name, f"resp of {name} 宇 \x00", due)


def new_session(number: int) -> Session:
    return Session(
        id=SESSIONS[number], owner=OWNERS[0], agent=AGENTS[0], created_at=NOW, updated_at=NOW, runs=1
    )
