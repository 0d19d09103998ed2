"""The clock of a host, compared with the Date of the storage's replies."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from shared.adapters.system import SystemClock
from shared.core.clock_offset import MOST, ClockOffset
from tests.support.log_lines import logged

TRUE = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Host:
    """A host whose clock is wrong by some seconds, and the storage's replies to it."""

    def __init__(self, wrong: float) -> None:
        self.true, self.wrong = TRUE, timedelta(seconds=wrong)
        self.clock = SystemClock(lambda: self.true + self.wrong)

    def request(self, after: float, takes: float = 0.0) -> None:
        """Send a request some seconds after the last one. The storage dates its reply half-way."""
        self.true += timedelta(seconds=after)
        sent = self.clock._local_time().timestamp()
        date = format_datetime((self.true + timedelta(seconds=takes / 2)).replace(microsecond=0), usegmt=True)
        self.true += timedelta(seconds=takes)
        self.clock.compare(date, sent, self.clock._local_time().timestamp())

    @property
    def error(self) -> float:
        return (self.clock.now() - self.true).total_seconds()


@pytest.mark.parametrize("wrong", [-1.4, -1, -0.1, 0, 0.4, 1, 1.4])
def test_a_clock_that_is_about_right_is_left_alone(wrong):
    host = Host(wrong)
    for _ in range(50):
        host.request(after=1.37, takes=0.2)
        assert host.clock.correction == timedelta()


@pytest.mark.parametrize("wrong", [-3000, -60, -5, -2.7, 2.7, 5, 60, 3000])
def test_a_clock_that_is_wrong_is_corrected_by_the_first_reply(wrong):
    host = Host(wrong)
    host.request(after=0.3, takes=0.1)
    assert abs(host.error) < 0.6
    for _ in range(50):
        host.request(after=1.37, takes=0.1)
    assert abs(host.error) < 0.1


def test_a_slow_reply_does_not_make_a_right_clock_wrong():
    host = Host(0)
    for takes in (10, 30, 3, 10):
        host.request(after=5, takes=takes)
        assert abs(host.error) < 2


@pytest.mark.parametrize("takes", [3, 10, 60])
@pytest.mark.parametrize("dated_at", ["the start", "the end"])
def test_a_first_reply_that_was_delayed_does_not_correct_a_right_clock(takes, dated_at):
    """The request waited before it was sent, or the event loop was blocked before the reply was read."""
    sent, received = TRUE, TRUE + timedelta(seconds=takes)
    date = sent if dated_at == "the start" else received
    assert ClockOffset().compared(date, sent, received).correction == timedelta()
    # A clock that cannot be right is corrected even so.
    wrong = timedelta(seconds=-100)
    correction = ClockOffset().compared(date, sent + wrong, received + wrong).correction
    assert abs(correction + wrong).total_seconds() <= (takes + 1) / 2


def test_a_clock_that_was_set_is_compared_anew():
    host = Host(60)
    for _ in range(20):
        host.request(after=1.1)
    host.wrong = timedelta()
    host.request(after=1.1)
    assert host.clock.correction == timedelta()
    host.wrong = timedelta(seconds=-90)
    host.request(after=1.1)
    assert abs(host.error) < 0.6


def test_a_clock_near_the_limit_does_not_jump_to_and_fro():
    host, corrections = Host(2.05), set()
    for number in range(100):
        # Now and then what is known starts anew, because the clock has drifted.
        host.wrong += timedelta(seconds=0.02 if number % 20 == 0 else 0)
        host.request(after=1.13, takes=0.3)
        corrections.add(host.clock.correction != timedelta())
    assert len(corrections) <= 2
    assert abs(host.error) < 2.5


@pytest.mark.parametrize(
    "date",
    [
        "",
        "yesterday",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Thu, 01 Jan 2026 12:00:00",
        "Thu, 01 Jan 2026 12:00:00 -0000",
        "Thu, 01 Jan 2026 99:00:00 GMT",
        "Thu, 01 Jan 99999999999 12:00:00 GMT",
        "\x00",
        "9" * 5000,
    ],
)
def test_a_date_that_cannot_be_right_changes_nothing(date):
    host = Host(0)
    host.clock.compare(date, TRUE.timestamp(), TRUE.timestamp())
    assert host.error == 0


@pytest.mark.parametrize("seconds", [MOST.total_seconds() + 2, -MOST.total_seconds() - 2, 86_400])
def test_a_correction_has_a_limit(seconds):
    offset = ClockOffset().compared(TRUE + timedelta(seconds=seconds), TRUE, TRUE)
    assert offset == ClockOffset()


def test_a_local_clock_that_was_set_back_during_a_request_is_not_used():
    assert ClockOffset().compared(TRUE, TRUE + timedelta(seconds=9), TRUE) == ClockOffset()


def test_a_correction_is_logged_once(caplog):
    host = Host(60)
    with caplog.at_level("WARNING"):
        for _ in range(20):
            host.request(after=1.37)
    [line] = logged(caplog)
    assert line.event == "clock.corrected"
    assert -61 < line.fields["seconds"] < -59
