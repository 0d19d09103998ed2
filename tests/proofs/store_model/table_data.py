"""Operations on tables: writes that succeed and writes that fail, queries, and the limits of both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from shared.adapters.azure_tables import limits
from shared.ports.tables import Delete, Insert, Merge, Put, Row, Value, Write
from tests.proofs.store_model.twin import LAST_KEY, Twin

PARTITIONS = ("00", "it's 50%")
KEYS = ("", "a", "A", "a|", "a|b", "it's 50% + a&b=c; $x", "{[(|)]}", "%7C", "..", "ü宇\ufb01")
BOUNDS = (*KEYS, "a}", "b", "~", LAST_KEY)
FRAME = "--batch_baton\r\nHTTP/1.1 500 no\r\n\r\n"
# An etag of a version that never existed, in memory and in the storage.
NEVER = ("never", "W/\"datetime'2020-01-01T00%3A00%3A00Z'\"")
LARGEST = limits.MAX_VALUE_BYTES

texts = st.sampled_from(["", "x", "\x00", "'", FRAME, "宇\U0001f469\U0001f3fd\u200d\U0001f680"]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=9
)
edges = st.sampled_from([0, -1, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**63 - 1, -(2**63)])
any_value: st.SearchStrategy[Value] = texts | edges | st.booleans() | st.binary(max_size=9)
# Queries select by text only, as in Baton. Azurite finds integers beyond 32 bits and bytes by the text that it stores
# for them; the storage itself does not.
owners = st.sampled_from(["ann", "ann", "o'hara", ""])
others = st.tuples(st.sampled_from(["x", "ETag", "宇"]), any_value)
values = st.builds(
    lambda owner, status, some: dict(some) | {"owner": owner} | status,
    owners,
    st.sampled_from([{}, {"status": ""}, {"status": "done"}]),
    st.lists(others, max_size=3),
)
_conditions = [{"owner": owner} for owner in ("ann", "ann", "o'hara", "", "' or '1' eq '1")]
where = st.sampled_from(
    [*_conditions, {"status": "done"}, {"status": ""}, {"owner": "ann", "status": "done"}]
)
limit = st.none() | st.integers(0, 5)
partitions = st.sampled_from(PARTITIONS)
bounds = st.one_of(
    st.just(("", LAST_KEY)),
    st.tuples(st.sampled_from(["", "A", "a"]), st.sampled_from(BOUNDS)),
    st.tuples(st.sampled_from(BOUNDS), st.sampled_from(BOUNDS)),
)
# No comma: in a batch, Azurite reads a key that begins with a comma as two keys. No key of Baton has a comma.
odd_keys = st.text(
    st.characters(max_codepoint=0xFFFE, exclude_categories=["Cs", "Cc"], exclude_characters="/\\#?\ufeff,"),
    max_size=40,
)


@dataclass(frozen=True)
class Planned:
    """A write that gets the etags of its side, and is adapted to the present row, when it is carried out.

    `version` 0 is the newest that was seen, 1 the one before and so on; None is no condition. With `fits`
    the write becomes one that succeeds unless another writer is faster.
    """

    kind: type[Write]
    key: str
    values: Mapping[str, Value]
    version: int | None
    fits: bool

    def on(self, side: int, twin: Twin, partition: str) -> Write:
        kind, version = self.kind, self.version
        if self.fits:
            there = self.key in twin.present.get(partition, ())
            version = None if version is None else 0
            if there and kind is Insert:
                kind, version = Put, 0
            elif not there and (kind in (Merge, Delete) or version is not None):
                kind = Insert
        row = Row(self.key, self.values)
        if kind in (Put, Merge) and version is not None:
            seen = twin.versions(partition, self.key)
            return kind(row, seen[-1 - version][side].etag if version < len(seen) else NEVER[side])
        return Delete(self.key) if kind is Delete else kind(row)


def planned(most: int, keys: Sequence[str] = KEYS) -> st.SearchStrategy[list[Planned]]:
    """Draw the writes of one transaction, at most `most`."""
    plan = st.builds(
        Planned,
        st.sampled_from([Insert, Put, Put, Merge, Delete]),
        st.sampled_from(keys),
        values,
        st.sampled_from([None, 0, 0, 1, 2, 9]),
        st.sampled_from([True, True, True, True, False]),
    )
    return st.lists(plan, min_size=1, max_size=most, unique_by=lambda each: each.key)


# With few rows, so that two writers often use the same one.
_crowded = planned(4, KEYS[:4])
two_writers = st.tuples(planned(1, KEYS[:2]), planned(1, KEYS[:2])) | st.tuples(_crowded, _crowded)


def _row(key: str = "k", **values: object) -> Put:
    return Put(Row(key, values))  # type: ignore[arg-type]


TOO_MUCH: dict[str, Sequence[Write]] = {
    "nothing": [],
    "101 writes": [Delete(f"{n}") for n in range(101)],
    "one row twice": [_row("a"), Delete("a")],
    "long text": [_row(x="x" * (LARGEST // 2 + 1))],
    "long text beyond the BMP": [_row(x="\U0001f469" * (LARGEST // 4 + 1))],
    "long data": [_row(x=b"x" * (LARGEST + 1))],
    "long data among others": [_row("a"), Delete("b"), _row(x=b"x" * (LARGEST + 1))],
    "253 properties": [_row(**{f"x{n}": n for n in range(253)})],
    "a row over 1 MiB": [_row(**{f"x{n}": b"x" * LARGEST for n in range(16)})],
    "a transaction over 4 MiB": [
        _row(f"{n}", **{f"x{m}": b"x" * LARGEST for m in range(15)}) for n in range(4)
    ],
    "an int beyond 64 bits": [_row(x=2**63)],
    "no value": [_row(x=None)],
    "a fraction": [_row(x=0.5)],
    "a lone surrogate": [_row(x="\ud800")],
    "a reserved name": [_row(RowKey="k")],
    "a name that is not an identifier": [_row(**{"a-b": 1})],
    "a long name": [_row(**{"x" * 256: 1})],
}
BAD_KEYS = ("a/b", "a\\b", "a#", "a?", "\t", "\x00", "\x7f", "\x9f", "\ud800", "x" * 513, "\U0001f469" * 257)
FULL: dict[str, Sequence[Write]] = {
    "100 writes": [_row(f"n{n:02d}", n=n) for n in range(100)],
    "252 properties": [_row("wide", **{f"x{n}": n for n in range(252)})],
    "a name of 255": [_row("named", **{"x" * 255: 1})],
    "a key of 512": [_row("k" * 512)],
    "64 KiB of data": [_row("data", x=b"\xff" * LARGEST), _row("more", x=b"\x00" * LARGEST, y=b"")],
    "64 KiB of text": [_row("text", x="x" * (LARGEST // 2), y="宇" * (LARGEST // 2))],
}


# The arguments of each kind of step.
STEPS: Mapping[str, Mapping[str, st.SearchStrategy]] = {
    "write": {"partition": partitions, "plans": planned(1)},
    "transaction": {"partition": partitions, "plans": planned(6)},
    "get": {"partition": partitions, "key": st.sampled_from(KEYS)},
    "query": {"partition": partitions, "ends": bounds, "where": st.none() | where, "limit": limit},
    "query_each": {
        "ends": st.dictionaries(partitions, bounds, min_size=1),
        "where": where,
        "limit": st.integers(0, 5),
    },
    "any_key": {"key": odd_keys},
    "limit": {"what": st.sampled_from([*BAD_KEYS, *TOO_MUCH, *FULL])},
    "two_at_once": {"partition": partitions, "writers": two_writers},
}


@st.composite
def any_step(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    often = (*["write"] * 4, "transaction", *["query"] * 3, *["two_at_once"] * 3)
    name = draw(st.sampled_from([*STEPS, *often]))
    return name, {argument: draw(values) for argument, values in STEPS[name].items()}
