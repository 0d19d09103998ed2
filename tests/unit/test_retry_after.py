from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.adapters.http.retry_after import MAX_RETRY_AFTER, retry_after

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": " 7 "}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": format_datetime(NOW + timedelta(seconds=40), usegmt=True)}, 40),
        ({"retry-after": "Thu, 01 Jan 2026 12:00:40"}, 40),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7),
        ({"retry-after-ms": "0", "retry-after": "7"}, 7),
    ],
)
def test_retry_after_may_be_seconds_milliseconds_or_a_date(headers, seconds):
    assert retry_after(headers, NOW) == timedelta(seconds=seconds)


@pytest.mark.parametrize("value", ["301", "86400", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_an_absurdly_long_wait_is_shortened(value):
    assert retry_after({"retry-after": value}, NOW) == MAX_RETRY_AFTER
    assert retry_after({"retry-after-ms": "9" * 400}, NOW) == MAX_RETRY_AFTER


@pytest.mark.parametrize(
    "value",
    [
        *("", "0", "0.0", "-5", "nan", "inf", "-inf", "1e3", "1_0", "٣", "soon", "5 s", "\x00", "1,2"),
        "Thu, 01 Jan 2026 11:59:59 GMT",
        "Thu, 99 Jan 2026 12:00:40 GMT",
        "Thu, 01 Jan 2026 12:00:40 +9999999",
        "Thu, 01 Jan 99999999999999999999 12:00:40 GMT",
        "Thu, 01 Jan 2026 12:00:40 +99999999999999999999",
    ],
)
def test_a_header_without_a_wait_is_ignored(value):
    assert retry_after({"retry-after": value}, NOW) is None
    assert retry_after({"retry-after-ms": value}, NOW) is None


def test_without_a_header_there_is_no_wait():
    assert retry_after({}, NOW) is None


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,5} \d{1,3}:\d\d:\d\d.{0,6}"))
def test_no_value_raises(value):
    wait = retry_after({"retry-after": value, "retry-after-ms": value}, NOW)
    assert wait is None or timedelta() < wait <= MAX_RETRY_AFTER
