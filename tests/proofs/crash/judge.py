"""What must be true of every trial, judged by what clients, tools, provider and tables show."""

from collections.abc import Iterator

from tests.proofs.crash.points import AFTER, CRASHED, FAILED, Point
from tests.proofs.crash.revival import PROMISED
from tests.proofs.crash.scenarios import APPROVED
from tests.proofs.crash.trial import Trial
from tests.support.oracle import (
    Effects,
    Expected,
    Finding,
    Seen,
    judge_answers,
    judge_effects,
    judge_rows,
    judge_run,
    judge_session,
)

# How the journal describes the write of a renewed lease. Nothing else changes a run's row without writing all of it.
RENEWAL = "Merge run"


def faults_of(trial: Trial) -> list[str]:
    """Return a sentence for everything that is wrong."""
    wanted = (0,) if trial.point is None else (CRASHED, 0)
    if trial.exits != wanted or trial.findings is None:
        if trial.point and trial.exits == (0,):
            return ["the app never came to this point"]
        return [f"the app ended with {trial.exits}, not {wanted}: {trial.error or 'no error was noted'}"]
    return [
        *_not_taken_up(trial),
        *_not_approved(trial),
        *map(str, _faults_of_runs(trial)),
        *_faults_of_provider(trial),
        *map(str, judge_answers(trial.sightings)),
    ]


def _not_taken_up(trial: Trial) -> Iterator[str]:
    for held in trial.revival.held:
        if not held.taken_up:
            yield (
                f"{held.run_id} was owed {held.step} under a lease until {held.leased_until} when its process died, and "
                f"one tick {PROMISED.seconds} seconds later it was not taken up"
            )


def _not_approved(trial: Trial) -> Iterator[str]:
    """Each transfer follows an answer that was stored, and has the amount that was approved. It is the first one answered."""
    stored = False
    for passed in trial.journal:
        point = Point.parse(passed["point"])
        if point.method == "runs.write" and "Put answer" in passed["about"] and FAILED not in passed["about"]:
            stored = True
        if point.method in {"tool.transfer", "tool.donate"} and not stored:
            yield f"{passed['point']} came before an approval was stored"
    for effect in trial.effects:
        if effect.get("amount", APPROVED) != APPROVED:
            yield f"{effect['tool']} {effect['mark']} ran with {effect['amount']}, which nobody approved"


def lost_responses(trial: Trial) -> int:
    """Count the responses that the provider had created, and whose ids were not saved when the process died."""
    return list(_saved(trial).values()).count(False) if trial.point else 0


def extra_responses(trial: Trial) -> int:
    """Count the responses that would not have been created if the process had not died."""
    expected = trial.scenario.creates - len(trial.scenario.delays.late) + _noted(trial)
    return trial.provider["created"] - expected


def renewals(trial: Trial) -> int:
    """Count the leases that were renewed."""
    return sum(
        passed["about"] == f"{RENEWAL}, Merge pending" and Point.parse(passed["point"]).side == AFTER
        for passed in trial.journal
    )


def _noted(trial: Trial) -> int:
    """Count the late responses whose ids were saved."""
    return len(
        [number for number, saved in _saved(trial).items() if saved and number in trial.scenario.delays.late]
    )


def _saved(trial: Trial) -> dict[int, bool]:
    """Return for each response that life 1 created, by ordinal, whether life 1 saved its id.

    A late response is saved by the write that puts its cancellation into the outbox, any other by the next write that
    is not a renewal.
    """
    saved: dict[int, bool] = {}
    for passed in trial.journal:
        point = Point.parse(passed["point"])
        if passed["life"] > 1 or point.side != AFTER or FAILED in passed["about"]:
            continue
        if point.method == "provider.create":
            saved[len(saved) + 1] = False
        elif point.method == "runs.write" and not passed["about"].startswith(RENEWAL):
            by_outbox = "Insert delivery" in passed["about"]
            saved |= {number: True for number in saved if (number in trial.scenario.delays.late) is by_outbox}
    return saved


def _faults_of_runs(trial: Trial) -> Iterator[Finding]:
    scenario, found = trial.scenario, trial.findings
    runs, effects = found["runs"], Effects.of((one["tool"], one["mark"], one["key"]) for one in trial.effects)
    deleted = {run["id"] for run in runs.values() if run["stored"] == "deleted"}
    texts = sum(run["content_rows"] for run in runs.values() if run["stored"] == "deleted")
    yield from judge_rows(found["rows"], [run["id"] for run in runs.values()], deleted, texts)
    yield from judge_session(found["session"], len(scenario.runs), deleted=scenario.session_deleted)
    interrupted = trial.revival.interrupted
    yield from judge_effects(effects, scenario.runs.values(), interrupted)
    for name, expected in scenario.runs.items():
        if name not in runs:
            yield Finding("lost", f"run {name} was never started")
            continue
        seen = {**runs[name]["seen"], "calls": _calls(trial, name), "interrupted": interrupted}
        if expected.status is None:
            seen["responses"] = None
        yield from judge_run(expected, Seen(**seen), effects)
        yield from _faults_of_stored(trial, name, expected)
        if expected.generated:
            yield from _faults_of_joins(trial, name)


def _faults_of_stored(trial: Trial, name: str, expected: Expected) -> Iterator[Finding]:
    """What no client sees: the tombstone of a deleted run, and responses that came too late."""
    run = trial.findings["runs"][name]
    if expected.status is None:
        if run["stored"] != "deleted" or run["seen"]["responses"]:
            yield Finding("no tombstone", f"{name}: {run['stored']}, responses {run['seen']['responses']}")
    elif run["abandoned"] != ["cancelled"] * _noted(trial):
        yield Finding("late responses", f"{name}: {run['abandoned']}, not {_noted(trial)} cancelled ones")


def _faults_of_joins(trial: Trial, name: str) -> Iterator[Finding]:
    """The text that was stored before the crash is continued, or taken back and written anew."""
    stored = sum(held.written or 0 for held in trial.revival.held)
    events = trial.findings["runs"][name]["seen"]["events"]
    joins = [event["characters"] for event in events if event["type"] == "turn.joined"]
    replaced = sum(event["type"] == "text.replaced" for event in events)
    wanted = ([stored] if stored else [], 0) if trial.scenario.continues else ([], int(stored > 0))
    if (joins, replaced) != wanted:
        yield Finding("wrong join", f"{name}: joined at {joins}, {replaced} times anew, {stored} were stored")


def _calls(trial: Trial, name: str) -> list[tuple[str, str]]:
    """Return the calls of a run as a client last saw them."""
    seen = [one for one in trial.sightings if one["name"] == name and one["body"]]
    calls = seen[-1]["body"]["tool_calls"] if seen else []
    return [(f"{call['name']} {call['call_id'].removeprefix('call_')}", call["status"]) for call in calls]


def _faults_of_provider(trial: Trial) -> Iterator[str]:
    lost, extra = lost_responses(trial), extra_responses(trial)
    if extra != lost:
        yield f"{extra} extra responses at the provider, {lost} expected"
    counted = sum(run["unknown_creates"] for run in trial.findings["runs"].values())
    if not extra <= counted <= len(trial.exits) - 1 + len(trial.scenario.delays.late):
        yield f"{counted} creates of unknown outcome are counted, {extra} led to an extra response"
    all_deleted = all(expected.status is None for expected in trial.scenario.runs.values())
    if all_deleted and trial.provider["alive"] != lost:
        yield f"the provider still has {trial.provider['alive']} responses, {lost} of unknown id"
