"""The figures and violations of a soak, as text."""

import random
from datetime import timedelta

from shared.core.pace import Schedule
from tests.proofs.soak.audit import Verdict
from tests.proofs.soak.course import Course
from tests.proofs.soak.figures import spread
from tests.proofs.soak.fleet import HOSTS
from tests.proofs.soak.lateness import Lateness
from tests.proofs.soak.orders import Ending

# So many responses are looked at: for each, a request to the emulator finds its run.
_SAMPLE = 1_500


def figures(course: Course, verdict: Verdict, schedule: Schedule, tick: timedelta) -> list[str]:
    """Return the measurements, one on each line."""
    load, fleet, log = course.load, course.fleet, course.log
    late = _lateness(course, schedule, tick)
    created = log.counters["created"]
    adopted = sum(run["turn"] for run in load.runs.values())
    ended = ", ".join(f"{count} {status}" for status, count in sorted(verdict.ended.items()))
    lines = [
        f"runs: {len(load.orders)} accepted, {ended}; {fleet.kills} kills",
        f"tool calls: {verdict.unknown_calls} of unknown outcome, {verdict.repeated_look_ups} idempotent ones repeated",
        f"calls that waited for a person: {load.answers['approved']} approved, {load.answers['refused']} refused",
        f"responses: {created} created, {created - adopted} of them extra; {log.counters['retrieve']} polls",
        f"noticed after the response had finished: {spread([one.noticed for one in late], 's')}",
        f"  by the schedule alone: {spread([one.scheduled for one in late], 's')}",
        f"  later than the schedule: {spread([one.excess for one in late], 's')}",
        *course.watcher.revivals.figures(),
        f"status read, idle: {spread(load.idle_latencies, 'ms', 1000)}",
        f"status read, under load: {spread(load.latencies, 'ms', 1000)}",
    ]
    for host in range(HOSTS):
        most, growth = fleet.most_memory(host), fleet.growth(host)
        lines.append(
            f"memory of host {host}: at most {most:.0f} MiB, {growth:+.1f} MiB a minute after its start-up"
        )
    if load.unanswered:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(load.unanswered.items()))
        lines.append(f"requests without an answer or with a 503: {counts}")
    if log.missed:
        lines.append(f"the emulator's log was incomplete: {log.missed} requests are missing")
    return lines


def _lateness(course: Course, schedule: Schedule, tick: timedelta) -> list[Lateness]:
    """Return the lateness of responses drawn at random."""
    responses, load = sorted(course.log.created), course.load
    found = []
    for response in random.Random(0).sample(responses, min(_SAMPLE, len(responses))):
        seen = course.fleet.site.provider_sees(response)
        order = load.orders.get(seen["request"]["metadata"]["baton_run"]) if "request" in seen else None
        # Deleted responses are gone, and the script of a run that a client ends has no end.
        if order is None or order.ending is not Ending.ANSWERED:
            continue
        late = course.log.lateness(response, order.turn_seconds, schedule, tick)
        if late:
            found.append(late)
    return found


def violations(course: Course, verdict: Verdict, tick: timedelta) -> list[str]:
    """Return a line for each broken promise."""
    lines = verdict.lines() + course.watcher.revivals.violations(tick)
    lines += [f"VIOLATION request refused: {one}" for one in course.load.refused]
    lines += [f"VIOLATION error in a host's log:\n{record}" for record in course.fleet.errors]
    return lines
