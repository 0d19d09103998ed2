"""What has to be true of every trial. It knows only what clients, tools, provider and tables show."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from tests.proofs.crash.points import AFTER, CRASHED, FAILED, Point
from tests.proofs.crash.scenarios import Expected
from tests.proofs.crash.trial import Trial

_TERMINAL = {"completed", "failed", "cancelled", "incomplete", "expired"}


def faults_of(trial: Trial) -> list[str]:
    """Return a sentence for everything that is wrong."""
    wanted = (0,) if trial.point is None else (CRASHED, 0)
    if trial.exits != wanted or trial.findings is None:
        if trial.point and trial.exits == (0,):
            return ["the app never came to this point"]
        return [f"the app ended with {trial.exits}, not {wanted}: {trial.error or 'no error was noted'}"]
    return [
        *_faults_of_runs(trial),
        *_faults_of_tools(trial),
        *_faults_of_provider(trial),
        *_faults_of_answers(trial),
    ]


def lost_responses(trial: Trial) -> int:
    """Count the responses that the provider had created, and whose ids were not saved when the process died."""
    return list(_saved(trial).values()).count(False) if trial.point else 0


def extra_responses(trial: Trial) -> int:
    """Count the responses that would not have been created if the process had not died."""
    expected = trial.scenario.creates - len(trial.scenario.late) + _noted(trial)
    return trial.provider["created"] - expected


def _noted(trial: Trial) -> int:
    """Count the late responses whose ids were saved."""
    return len([number for number, saved in _saved(trial).items() if saved and number in trial.scenario.late])


def _saved(trial: Trial) -> dict[int, bool]:
    """Say of each response that life 1 created, by ordinal, whether life 1 saved its id.

    A late response is saved by the write that puts its cancellation into the outbox, any other by the next write.
    """
    saved: dict[int, bool] = {}
    for passed in trial.journal:
        point = Point.parse(passed["point"])
        if passed["life"] > 1 or point.side != AFTER or FAILED in passed["about"]:
            continue
        if point.method == "provider.create":
            saved[len(saved) + 1] = False
        elif point.method == "runs.write":
            by_outbox = "Insert delivery" in passed["about"]
            saved |= {number: True for number in saved if (number in trial.scenario.late) is by_outbox}
    return saved


def _faults_of_runs(trial: Trial) -> Iterator[str]:
    found = trial.findings
    if found["pending"]:
        yield f"pending rows are left behind: {found['pending']}"
    if found["outbox"]:
        yield f"rows of the outbox are left behind: {found['outbox']}"
    if found["run_rows"] != len(trial.scenario.runs):
        yield f"{len(trial.scenario.runs)} runs were asked for, {found['run_rows']} are stored"
    session = {
        "deleted": trial.scenario.session_deleted,
        "held_by": None,
        "runs": len(trial.scenario.runs),
    }
    if found["session"] != session:
        yield f"the session is {found['session']}, not {session}"
    for name, expected in trial.scenario.runs.items():
        run = found["runs"].get(name)
        if run is None:
            yield f"run {name} was never started"
        elif expected.status is None:
            yield from _faults_of_deleted(name, run)
        else:
            yield from _faults_of_ended(name, run, expected)
            if run["abandoned"] != ["cancelled"] * _noted(trial):
                yield f"run {name}: {_noted(trial)} responses came too late, and they are {run['abandoned']}"


def _faults_of_deleted(name: str, run: Any) -> Iterator[str]:
    left = {what: run[what] for what in ("content_rows", "log_rows") if run[what]}
    if run["status"] != 404 or run["stored"] != "deleted":
        yield f"run {name} was deleted and is answered by {run['status']}, stored as {run['stored']}"
    if left or run["responses"]:
        yield f"deleted run {name} left {left}, responses {run['responses']}"


def _faults_of_ended(name: str, run: Any, expected: Expected) -> Iterator[str]:
    body = run["body"]
    if run["status"] != 200 or body["status"] != expected.status:
        yield f"run {name} is answered by {run['status']} and {body.get('status')}, not {expected.status}"
        return
    if body["output_text"] != expected.text:
        yield f"run {name} has {len(body['output_text'] or '')} characters, not the provider's {len(expected.text or '')}"
    if run["told"] != body["output_text"]:
        yield f"the feed of run {name} comes to another text than its outcome"
    if body["usage"]["total_tokens"] != 2 * expected.tokens:
        yield f"run {name} used {body['usage']}, not {expected.tokens} in and out"
    if set(run["responses"]) != {expected.status}:
        yield f"run {name}: responses {run['responses']}"


def _faults_of_tools(trial: Trial) -> Iterator[str]:
    keys: dict[str, list[str]] = defaultdict(list)
    for effect in trial.effects:
        keys[effect["mark"]].append(effect["key"])
    first = {key for made in keys.values() for key in made}
    if len(first) != len(keys):
        yield f"{len(keys)} calls, {len(first)} idempotency keys"
    for name, expected in trial.scenario.runs.items():
        ended, restarted = _calls(trial, name, last=True), _calls(trial, name, last=False)
        if expected.calls and set(ended) != {f"call_{mark}" for mark in expected.calls}:
            yield f"run {name} shows the calls {sorted(ended)}"
        for mark, tool in expected.calls.items():
            status = ended.get(f"call_{mark}")
            open_at_restart = restarted.get(f"call_{mark}") == "in_progress"
            yield from _faults_of_call(f"{tool} {mark}", status, open_at_restart, len(keys[mark]))


def _faults_of_call(call: str, status: str | None, open_at_restart: bool, effects: int) -> Iterator[str]:
    repeatable = call.startswith("look_up")
    right = "unknown" if open_at_restart and not repeatable else "completed"
    if status != right:
        yield f"{call} is {status}, not {right}"
    least = 0 if status == "unknown" else 1
    most = 2 if open_at_restart and repeatable else 1
    if not least <= effects <= most:
        yield f"{call} took effect {effects} times and is {status}"


def _calls(trial: Trial, name: str, *, last: bool) -> dict[str, str]:
    """Return the calls of a run as a client last saw them, or as it first saw them after the restart."""
    seen = [
        one for one in trial.sightings if one["name"] == name and one["body"] and (last or one["life"] == 2)
    ]
    if not seen:
        return {}
    body = seen[-1 if last else 0]["body"]
    return {call["call_id"]: call["status"] for call in body["tool_calls"]}


def _faults_of_provider(trial: Trial) -> Iterator[str]:
    lost, extra = lost_responses(trial), extra_responses(trial)
    if extra != lost:
        yield f"{extra} extra responses at the provider, {lost} expected"
    counted = sum(run["unknown_creates"] for run in trial.findings["runs"].values())
    if not extra <= counted <= len(trial.exits) - 1 + len(trial.scenario.late):
        yield f"{counted} creates of unknown outcome are counted, {extra} led to an extra response"
    all_deleted = all(expected.status is None for expected in trial.scenario.runs.values())
    if all_deleted and trial.provider["alive"] != lost:
        yield f"the provider still has {trial.provider['alive']} responses, {lost} of unknown id"


def _faults_of_answers(trial: Trial) -> Iterator[str]:
    """A run keeps its id and its outcome, and what a client was told is deleted never comes back."""
    ids: dict[str, set[str]] = defaultdict(set)
    outcome: dict[str, Any] = {}
    gone = False
    for seen in trial.sightings:
        name, body = seen["name"], seen["body"]
        if seen["asked"] in {"delete", "delete_session"} and seen["status"] in {204, 404}:
            gone = True
        elif name and gone and seen["status"] not in {404, 409}:
            yield f"run {name} is deleted, and {seen['asked']} was answered by {seen['status']}"
        if name and body:
            ids[name].add(body["id"])
            if name in outcome and outcome[name] != body:
                yield f"run {name} had ended, and changed: {outcome[name]['status']} to {body['status']}"
            if body["status"] in _TERMINAL:
                outcome[name] = body
    for name, found in ids.items():
        if len(found) > 1:
            yield f"one Idempotency-Key gave several runs: {name}: {sorted(found)}"
