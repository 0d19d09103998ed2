import random
from datetime import UTC, datetime, timedelta

import pytest

from shared.core import ids

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_ids_sort_newest_first():
    made = [ids.new_id("run", 3, NOW + timedelta(milliseconds=n), random.randbytes(10)) for n in range(100)]
    assert sorted(made, reverse=True) == made


def test_an_id_names_the_shard_of_its_row():
    made = ids.new_id("ses", 15, NOW, bytes(10))
    assert ids.shard_of(made) == "0f"
    assert ids.is_id("ses", made)
    assert not ids.is_id("run", made)
    assert len(ids.position(made)) == 26


def test_all_random_bits_are_kept():
    made = {ids.new_id("run", 0, NOW, (1 << bit).to_bytes(10, "big")) for bit in range(80)}
    assert len(made) == 80


@pytest.mark.parametrize(
    "text",
    [
        "",
        "run_",
        "run_00",
        "run_10" + "0" * 26,
        "run_00" + "u" * 26,
        "run_00" + "0" * 27,
        "run_00" + "0" * 26 + "\n",
        "run_0F" + "0" * 26,
    ],
)
def test_nothing_else_is_an_id(text):
    assert not ids.is_id("run", text)


def test_key_rows_of_two_owners_differ_whatever_they_are_called():
    assert ids.key_hash("a", "bc") != ids.key_hash("ab", "c")
    assert ids.key_shard(ids.key_hash("a", "b")) in ids.all_shards()
