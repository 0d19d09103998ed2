"""The app in Microsoft's worker library: every trigger, every binding."""

import shutil
from pathlib import Path

import pytest

from dev import stack
from dev.processes import ChildFailed
from tests.e2e.site import ROOT, Site, call, script, wait_until


def test_every_trigger_is_invoked(site: Site) -> None:
    run_id = site.start(script(turns=[{"text": "a"}]))
    for method, path, status in [
        ("GET", "runs", 200),
        ("GET", f"runs/{run_id}", 200),
        ("POST", f"runs/{run_id}/cancel", None),
        ("GET", "agents", 200),
        ("GET", "health", 200),
        ("GET", "openapi.json", 200),
    ]:
        reply = site.api(method, path)
        assert reply.status == status or (status is None and reply.status in {200, 202, 409}), (path, reply)
    run = site.get(run_id)
    assert site.api("GET", f"sessions/{run['session_id']}").status == 200
    assert site.api("DELETE", f"runs/{run_id}").status == 204
    assert site.api("DELETE", f"sessions/{run['session_id']}").status == 204
    master = {"x-functions-key": site.keys.master}
    for function, message in (("poll", ""), ("work", run_id), ("work", "gibberish \x00")):
        fired = call("POST", f"{site.bases[0]}/admin/functions/{function}", {"input": message}, master)
        assert fired.status == 202


def test_nothing_is_served_without_a_key(site: Site) -> None:
    for method, path in (("GET", "runs"), ("POST", "runs"), ("GET", "health"), ("GET", "openapi.json")):
        assert call(method, f"{site.bases[0]}/api/{path}").status == 401


@pytest.mark.parametrize(
    ("right", "wrong", "function"),
    [
        ("async def poll(timer: func.TimerRequest", "async def poll(clock: func.TimerRequest", "poll"),
        ("message: func.QueueMessage, more", "note: func.QueueMessage, more", "work"),
        (
            "async def start_run(req: func.HttpRequest, work",
            "async def start_run(req: func.HttpRequest, out",
            "start_run",
        ),
    ],
)
def test_a_wrong_parameter_name_is_found_at_the_start(
    new_site, right: str, wrong: str, function: str
) -> None:
    site: Site = new_site()
    _replace(site, right, wrong)
    with pytest.raises(ChildFailed, match=function):
        site.add_host()


def test_a_timer_that_returns_a_value_fails(new_site) -> None:
    site: Site = new_site()
    _replace(site, "    work.set(await baton.tick())", "    return work.set(await baton.tick()) or 1")
    site.add_host()
    wait_until(lambda: "non-None value" in site.hosts[0].output, "the worker reports the value")


def test_a_wrong_setting_stops_the_start_and_all_are_listed(new_site) -> None:
    site: Site = new_site(POLL_MIN_SECONDS="often", CHAINING="magic", TRUST_FORWARDED="maybe")
    with pytest.raises(ChildFailed) as failure:
        site.add_host()
    for name in ("POLL_MIN_SECONDS", "CHAINING", "TRUST_FORWARDED"):
        assert name in str(failure.value)


def test_a_status_read_imports_nothing_that_it_does_not_need(site: Site, tmp_path: Path) -> None:
    run_id = site.start(script(turns=[{"text": "a"}]))
    program = tmp_path / "status.py"
    program.write_text(
        "import asyncio, sys\n"
        "import azure.functions as func\n"
        "import function_app\n"
        f"request = func.HttpRequest('GET', 'http://x/api/runs/{run_id}', route_params={{'run_id': '{run_id}'}}, body=b'')\n"
        "async def main():\n"
        "    reply = await function_app.get_run.build().get_user_function()(request, None)\n"
        "    assert reply.status_code == 200, reply.get_body()\n"
        "    await function_app.baton.close()\n"
        "asyncio.run(main())\n"
        "print('imported:', sorted({'openai', 'azure.identity', 'shared.web.callers.credentials'} & set(sys.modules)))\n"
    )
    child = stack.ChildProcess(
        "status",
        [stack.sys.executable, str(program)],
        env=site.settings | {"PYTHONPATH": str(site.app)},
        cwd=site.app,
    )
    with child:
        assert child.wait_for(r"^imported: (.*)$")[1] == "[]"


def _replace(site: Site, right: str, wrong: str) -> None:
    """Plant a fault in the app's own copy of the triggers."""
    source = (ROOT / "function_app.py").read_text()
    assert right in source
    (site.app / "function_app.py").unlink()
    (site.app / "function_app.py").write_text(source.replace(right, wrong))
    shutil.rmtree(site.app / "__pycache__", ignore_errors=True)
