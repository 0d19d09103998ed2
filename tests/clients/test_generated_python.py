"""A Python client that is generated from openapi.json works with the deployed app."""

import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.e2e.site import ROOT, Site, script, wait_until

Generated = Callable[[str], ModuleType]
DONE = script(turns=[{"text": "The end."}])


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generated]:
    """Imports a module of the generated client."""
    folder = tmp_path_factory.mktemp("generated")
    # Formatting the code would need ruff in the PATH.
    (folder / "config.yaml").write_text("post_hooks: []\n")
    command = [
        sys.executable,
        "-m",
        "openapi_python_client",
        "generate",
        "--fail-on-warning",
        "--meta",
        "none",
    ]
    command += ["--path", str(ROOT / "shared/web/openapi.json"), "--config", str(folder / "config.yaml")]
    command += ["--output-path", str(folder / "generated_baton")]
    made = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert made.returncode == 0, made.stdout + made.stderr
    sys.path.insert(0, str(folder))
    yield lambda name: importlib.import_module(f"generated_baton.{name}")
    sys.path.remove(str(folder))


@pytest.fixture
def models(generated: Generated) -> ModuleType:
    return generated("models")


@pytest.fixture
def api(generated: Generated) -> SimpleNamespace:
    """Each operation by its name."""
    names = {
        "runs": (
            "start_run",
            "list_runs",
            "get_run",
            "get_run_events",
            "cancel_run",
            "retry_run",
            "delete_run",
        ),
        "calls": ("list_calls", "answer_call", "list_waits"),
        "sessions": ("get_session", "delete_session"),
        "app": ("list_agents", "get_health", "get_open_api", "get_dashboard"),
    }
    return SimpleNamespace(
        **{
            name: generated(f"api.{tag}.{name}").sync_detailed
            for tag, operations in names.items()
            for name in operations
        }
    )


@pytest.fixture
def client(generated: Generated, site: Site) -> Iterator[Any]:
    with a_client(generated, site, site.keys.host) as client:
        yield client


def a_client(generated: Generated, site: Site, key: str) -> Any:
    # An answer that the document does not describe is an error.
    return generated("client").AuthenticatedClient(
        base_url=f"{site.bases[0]}/api",
        token=key,
        prefix="",
        auth_header_name="x-functions-key",
        raise_on_unexpected_status=True,
    )


def start(api: SimpleNamespace, models: ModuleType, client: Any, text: str = DONE, **fields: Any) -> Any:
    body = models.NewRun.from_dict({"agent": "scripted", "input": text, **fields})
    return api.start_run(client=client, body=body)


def ended(api: SimpleNamespace, models: ModuleType, client: Any, text: str = DONE, **fields: Any) -> Any:
    """Return the outcome of a new run."""
    run_id = start(api, models, client, text, **fields).parsed.id
    wait_until(
        lambda: isinstance(api.get_run(run_id, client=client).parsed, models.EndedRun), f"{run_id} has ended"
    )
    return api.get_run(run_id, client=client).parsed


def test_a_run_is_started_and_its_outcome_is_read(api, models, client) -> None:
    body = models.NewRun(agent="scripted", input_=DONE)
    started = api.start_run(client=client, body=body, idempotency_key="order 4711")
    again = api.start_run(client=client, body=body, idempotency_key="order 4711")
    assert (started.status_code, started.parsed.id) == (202, again.parsed.id)
    assert isinstance(started.parsed, models.PendingRun)
    assert started.parsed.output_text is None
    run_id = started.parsed.id
    assert started.headers["Location"].endswith(f"/api/runs/{run_id}")
    wait_until(
        lambda: api.get_run(run_id, client=client).parsed.status == "completed", "the run is completed"
    )
    reply = api.get_run(run_id, client=client)
    assert isinstance(reply.parsed, models.EndedRun)
    assert reply.parsed.output_text == "The end."
    assert reply.parsed.output[0]["type"] == "message"
    assert reply.parsed.usage.total_tokens > 0
    assert reply.parsed.duration_seconds > 0
    assert reply.parsed.completed_at > reply.parsed.created_at
    unchanged = api.get_run(run_id, client=client, if_none_match=reply.headers["ETag"])
    assert (unchanged.status_code, unchanged.parsed) == (304, None)


def test_a_list_is_filtered_and_each_of_its_runs_read(api, models, client) -> None:
    run = ended(api, models, client, metadata={"order": "4711"})
    other = ended(api, models, client)
    page = api.list_runs(client=client).parsed
    assert [one.id for one in page.data] == [other.id, run.id]
    assert all(isinstance(one, models.RunSummary) for one in page.data)
    assert page.data[0].input_excerpt.startswith("Do it.")
    order = models.ListRunsMetadata.from_dict({"metadata[order]": "4711"})
    assert [one.id for one in api.list_runs(client=client, metadata=order).parsed.data] == [run.id]
    completed = models.RunStatus.COMPLETED
    assert len(api.list_runs(client=client, status=completed, agent="scripted").parsed.data) == 2
    soon = datetime.now(UTC) + timedelta(hours=1)
    assert api.list_runs(client=client, created_after=soon).parsed.data == []
    assert len(api.list_runs(client=client, created_before=soon).parsed.data) == 2
    assert "&cursor=" in api.list_runs(client=client, limit=1).parsed.next_link


def test_a_run_is_repeated(api, models, client) -> None:
    run = ended(api, models, client)
    reply = api.retry_run(run.id, client=client)
    assert reply.status_code == 202
    assert (reply.parsed.retry_of, reply.parsed.agent) == (run.id, "scripted")


def test_a_failed_run_has_its_error(api, models, client) -> None:
    failing = [{"text": "half", "status": "failed", "error": {"code": "server_error", "message": "broken"}}]
    run = ended(api, models, client, script(turns=failing))
    assert (run.status, run.error.code, run.output_text) == ("failed", "server_error", "half")


def test_the_feed_and_the_session_of_a_run_are_read(api, models, client) -> None:
    run = ended(api, models, client)
    feed = api.get_run_events(run.id, client=client).parsed
    assert [event.id for event in feed.data] == list(range(1, len(feed.data) + 1))
    assert (feed.data[-1].type_, feed.done) == ("run.completed", True)
    session = api.get_session(run.session_id, client=client).parsed
    assert [one.id for one in session.runs] == [run.id]
    assert session.transcript[-1]["role"] == "assistant"


def test_a_run_is_cancelled_and_deleted(api, models, client) -> None:
    run = start(api, models, client, script(turns=[{"text": "late"}], seconds=30)).parsed
    reply = api.cancel_run(run.id, client=client)
    kind = {200: models.EndedRun, 202: models.PendingRun}[reply.status_code]
    assert isinstance(reply.parsed, kind)
    assert api.delete_run(run.id, client=client).status_code == 204
    ended_run = ended(api, models, client)
    assert api.delete_session(ended_run.session_id, client=client).status_code == 204


def waiting(
    api: SimpleNamespace, models: ModuleType, client: Any, call: dict[str, Any], **fields: Any
) -> Any:
    """Return a new run that waits for an answer to a call."""
    text = script(turns=[{"calls": [call]}, {"text": "The end."}])
    run_id = start(api, models, client, text, agent="asking", **fields).parsed.id
    wait_until(
        lambda: api.get_run(run_id, client=client).parsed.status == "requires_action", f"{run_id} waits"
    )
    return api.get_run(run_id, client=client).parsed


TRANSFER = {"name": "transfer", "arguments": {"mark": "a", "euros": 500}}


def test_a_call_is_approved(api, models, client) -> None:
    run = waiting(api, models, client, TRANSFER)
    assert isinstance(run, models.PendingRun)
    assert (run.expires_at, run.tool_calls[0].status) == (None, "waiting")
    [required] = run.required_action
    assert (required.type_, required.name, required.id) == ("approval", "transfer", run.tool_calls[0].id)
    [listed] = api.list_waits(client=client).parsed.data
    assert (listed.id, listed.run_id, listed.agent, listed.arguments) == (
        required.id,
        run.id,
        "asking",
        required.arguments,
    )
    arguments = models.DecisionArgumentsType0.from_dict({"mark": "a", "euros": 60})
    body = models.Decision(approve=True, arguments=arguments)
    reply = api.answer_call(run.id, required.id, client=client, body=body)
    assert (reply.status_code, reply.parsed.answer.type_, reply.parsed.run_status) == (
        200,
        "approved",
        "in_progress",
    )
    assert reply.parsed.answer.arguments.to_dict() == {"mark": "a", "euros": 60}
    again = api.answer_call(run.id, required.id, client=client, body=body)
    assert again.parsed.answer.at == reply.parsed.answer.at
    other = api.answer_call(run.id, required.id, client=client, body=models.Decision(approve=False))
    assert (other.status_code, other.parsed.code) == (409, "call_answered")
    wait_until(
        lambda: isinstance(api.get_run(run.id, client=client).parsed, models.EndedRun), f"{run.id} has ended"
    )
    [call] = api.list_calls(run.id, client=client).parsed.data
    assert (call.status, call.answer.type_) == ("completed", "approved")
    feed = {event.type_: event for event in api.get_run_events(run.id, client=client).parsed.data}
    assert feed["call.waiting"].wait == "approval"
    assert feed["call.answered"].answer == "approved"


def test_a_tool_of_the_caller_is_run(api, models, client) -> None:
    tools = [{"type": "function", "name": "read_clock", "parameters": {"type": "object"}}]
    run = waiting(api, models, client, {"name": "read_clock", "arguments": {}}, tools=tools)
    [required] = run.required_action
    assert required.type_ == "output"
    wrong = api.answer_call(run.id, required.id, client=client, body=models.Decision(approve=True))
    assert (wrong.status_code, wrong.parsed.code, wrong.parsed.field) == (
        422,
        "answer_does_not_fit",
        "approve",
    )
    body = models.CallOutput(output={"time": "12:00"})
    assert api.answer_call(run.id, required.id, client=client, body=body).parsed.status == "completed"
    run = waiting(api, models, client, {"name": "read_meter", "arguments": {}})
    body = models.CallError(error="There is no meter.")
    reply = api.answer_call(run.id, run.required_action[0].id, client=client, body=body)
    assert reply.parsed.status == "failed"


def test_what_is_said_of_the_app_is_read(api, client) -> None:
    agents = {agent.name: agent for agent in api.list_agents(client=client).parsed.data}
    assert (agents["scripted"].ready, agents["scripted"].missing_settings) == (True, [])
    assert api.get_health(client=client).parsed.status == "ok"
    assert api.get_open_api(client=client).parsed.openapi == "3.1.0"
    assert api.get_dashboard(client=client).parsed.startswith("<!doctype html>")


def test_problems_are_read(api, models, client) -> None:
    reply = api.get_run("run_0" + "0" * 27, client=client)
    assert (reply.status_code, reply.parsed.code, reply.parsed.field) == (404, "run_not_found", "run_id")
    reply = start(api, models, client, agent="nobody")
    assert (reply.status_code, reply.parsed.code) == (422, "unknown_agent")
    pending = start(api, models, client, script(turns=[{"text": "late"}], seconds=30)).parsed
    reply = api.retry_run(pending.id, client=client)
    assert (reply.status_code, reply.parsed.code) == (409, "run_pending")


def test_a_wrong_key_is_an_answer_without_content(generated, site, api, models) -> None:
    with a_client(generated, site, "wrong") as stranger:
        for reply in (
            start(api, models, stranger),
            api.list_runs(client=stranger),
            api.get_run("run_0" + "0" * 27, client=stranger),
            api.get_health(client=stranger),
        ):
            assert (reply.status_code, reply.parsed, reply.content) == (401, None, b"")


def test_a_missing_owner_is_a_problem_in_the_content(generated, new_site, api) -> None:
    site = new_site(OWNER_HEADER="X-Owner")
    site.add_host()
    with a_client(generated, site, site.keys.host) as client:
        reply = api.list_runs(client=client)
        assert (reply.status_code, reply.parsed) == (401, None)
        assert b'"owner_missing"' in reply.content
