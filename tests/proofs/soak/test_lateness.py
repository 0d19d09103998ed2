"""How the lateness of polls is measured."""

from datetime import timedelta
from typing import Any

import pytest

from dev.provider.plan import QUEUED_SECONDS
from shared.core.pace import Schedule
from tests.proofs.soak.figures import percentile
from tests.proofs.soak.lateness import ProviderLog

# Poll points at 5, 10, 15, ... seconds; a timer at every even second.
SCHEDULE, TICK = Schedule(timedelta(seconds=5), timedelta(seconds=5)), timedelta(seconds=2)


def request(operation: str, at: float, **changes: Any) -> dict[str, Any]:
    name = f"{operation} {at}"
    fields = {
        "operation": operation,
        "response_id": "resp_1",
        "at": at,
        "seconds": 0.0,
        "status": 200,
        "fault": None,
    }
    return fields | {"request_id": name} | changes


def log(*requests: dict[str, Any], **counters: int) -> ProviderLog:
    made = ProviderLog()
    made.take({"counters": counters, "requests": list(requests)})
    return made


def test_lateness_is_counted_from_the_end_of_the_response() -> None:
    seen = log(request("create", 100.0), request("retrieve", 106.0), request("retrieve", 113.0))
    late = seen.lateness("resp_1", 7.0, SCHEDULE, TICK)
    assert late is not None
    # It finished at 107. The next poll point is at 110, and the timer fires then too.
    assert late.noticed == pytest.approx(6.0 - QUEUED_SECONDS)
    assert late.scheduled == pytest.approx(3.0 - QUEUED_SECONDS)
    assert late.excess == pytest.approx(3.0)


def test_the_timer_fires_after_the_poll_point() -> None:
    seen = log(request("create", 101.0), request("retrieve", 112.0))
    late = seen.lateness("resp_1", 8.0, SCHEDULE, TICK)
    assert late is not None
    # It finished at 109. The next poll point is at 111, and the timer fires at 112.
    assert late.scheduled == pytest.approx(3.0 - QUEUED_SECONDS)
    assert late.excess == pytest.approx(0.0)


def test_a_response_whose_create_is_answered_late_begins_then() -> None:
    seen = log(request("create", 90.0, seconds=10.0, fault="slow"), request("retrieve", 113.0))
    late = seen.lateness("resp_1", 7.0, SCHEDULE, TICK)
    assert late is not None
    assert late.excess == pytest.approx(3.0)


def test_a_response_that_no_run_waited_for_has_no_lateness() -> None:
    assert log(request("create", 100.0)).lateness("resp_1", 7.0, SCHEDULE, TICK) is None
    abandoned = log(request("create", 100.0), request("retrieve", 105.0))
    assert abandoned.lateness("resp_1", 7.0, SCHEDULE, TICK) is None


def test_a_log_that_is_read_several_times_counts_each_request_once() -> None:
    first, second = request("create", 100.0), request("retrieve", 105.0)
    running = request("retrieve", 110.0, seconds=None, status=None)
    made = log(first, running, create=1, retrieve=1)
    assert made.missed == 1
    made.take(
        {
            "counters": {"create": 1, "retrieve": 2},
            "requests": [first, second, running | {"seconds": 1.0, "status": 200}],
        }
    )
    assert made.missed == 0
    assert made.last_read["resp_1"] == 111.0


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.99, 1)] == [50.0, 99.0, 100.0]
    assert percentile([7.0], 0.99) == 7.0
