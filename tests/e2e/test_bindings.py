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
    # Each queue carries out whatever arrives, also what is meant for another.
    delivery = f"delivery 2026-01-01T00:00:00.000000Z {run_id} 00000001-0"
    queues = ("work", "generate", "deliver")
    messages = (run_id, f"poll {run_id}", delivery, f"{run_id}\n{delivery}", "gibberish \x00")
    for function, message in (("poll", ""), *((queue, message) for queue in queues for message in messages)):
        fired = call("POST", f"{site.bases[0]}/admin/functions/{function}", {"input": message}, master)
        assert fired.status == 202


def test_nothing_is_served_without_a_key(site: Site) -> None:
    for method, path in (("GET", "runs"), ("POST", "runs"), ("GET", "health"), ("GET", "openapi.json")):
        assert call(method, f"{site.bases[0]}/api/{path}").status == 401


@pytest.mark.parametrize(
    ("right", "wrong", "function"),
    [
        ("    timer: func.TimerRequest", "    clock: func.TimerRequest", "poll"),
        ("async def work(\n    message: func", "async def work(\n    note: func", "work"),
        ("async def deliver(\n    message: func", "async def deliver(\n    note: func", "deliver"),
        (
            "async def start_run(\n    req: func.HttpRequest, to_work",
            "async def start_run(\n    req: func.HttpRequest, out",
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
    ticks = "    _send(await baton.tick(), to_work, to_generate, to_deliver)"
    _replace(site, ticks, ticks.replace("_send", "return _send") + " or 1")
    site.add_host()
    wait_until(lambda: "non-None value" in site.hosts[0].output, "the worker reports the value")


def test_a_wrong_setting_stops_the_start_and_all_are_listed(new_site) -> None:
    site: Site = new_site(POLL_MIN_SECONDS="often", CHAINING="magic", TRUST_FORWARDED="maybe")
    with pytest.raises(ChildFailed) as failure:
        site.add_host()
    for name in ("POLL_MIN_SECONDS", "CHAINING", "TRUST_FORWARDED"):
        assert name in str(failure.value)


def test_a_tool_that_may_outlast_its_function_stops_the_start(new_site) -> None:
    site: Site = new_site(AzureFunctionsJobHost__functionTimeout="00:02:00")
    with pytest.raises(ChildFailed) as failure:
        site.add_host()
    assert "but the time-out of functions leaves 0:00:05 for it" in str(failure.value)


def test_each_message_goes_to_its_own_queue(new_site, tmp_path: Path) -> None:
    site: Site = new_site()
    program = tmp_path / "send.py"
    program.write_text(
        "import function_app\n"
        "class Out:\n"
        "    sent = []\n"
        "    def set(self, messages): self.sent = messages\n"
        "outputs = Out(), Out(), Out()\n"
        f"delivery = 'delivery 2026-01-01T00:00:00.000000Z run_00{'0' * 26} 00000001-0'\n"
        "function_app._send(['anything', delivery, 'run_1', delivery + chr(10) + delivery], *outputs)\n"
        "bound = [b.get_dict_repr() for b in function_app.start_run.build().get_bindings()]\n"
        "names = [b['queueName'] for b in bound if b['type'] == 'queue']\n"
        "print('sent:', [len(out.sent) for out in outputs], sorted(names))\n"
    )
    env = site.settings | {"PYTHONPATH": str(site.app)}
    with stack.ChildProcess("send", [stack.sys.executable, str(program)], env=env, cwd=site.app) as child:
        sent = child.wait_for(r"^sent: (.*)$")[1]
    names = sorted(site.settings[f"{kind}_QUEUE"] for kind in ("WORK", "GENERATE", "DELIVER"))
    assert sent == f"[2, 0, 2] {names}"


def test_neither_a_status_read_nor_a_tick_imports_what_is_slow(site: Site, tmp_path: Path) -> None:
    run_id = site.start(script(turns=[{"text": "a"}]))
    program = tmp_path / "status.py"
    program.write_text(
        "import asyncio, sys\n"
        "import azure.functions as func\n"
        "import function_app\n"
        f"request = func.HttpRequest('GET', 'http://x/api/runs/{run_id}', route_params={{'run_id': '{run_id}'}}, body=b'')\n"
        "async def main():\n"
        "    reply = await function_app.get_run.build().get_user_function()(request, None, None, None)\n"
        "    assert reply.status_code == 200, reply.get_body()\n"
        "    await function_app.baton.tick()\n"
        "    await function_app.baton.close()\n"
        "asyncio.run(main())\n"
        "slow = {'openai', 'azure.identity', 'azure.storage.queue', 'shared.web.callers.credentials'}\n"
        "print('imported:', sorted(slow & set(sys.modules)))\n"
    )
    child = stack.ChildProcess(
        "status",
        [stack.sys.executable, str(program)],
        env=site.settings | {"PYTHONPATH": str(site.app)},
        cwd=site.app,
    )
    with child:
        assert child.wait_for(r"^imported: (.*)$")[1] == "[]"


def test_the_ids_of_a_path_may_come_in_any_order(site: Site, tmp_path: Path) -> None:
    run_id = site.start(script(turns=[{"text": "a"}]))
    call_id = f"call_01_{'0' * 32}"
    program = tmp_path / "ids.py"
    program.write_text(
        "import asyncio, json\n"
        "import azure.functions as func\n"
        "import function_app\n"
        f"ids = [('run_id', '{run_id}'), ('call_id', '{call_id}')]\n"
        "async def main():\n"
        "    codes = []\n"
        "    for order in (ids, ids[::-1]):\n"
        "        request = func.HttpRequest('POST', 'http://x/', route_params=dict(order), body=b'{\"approve\": true}')\n"
        "        reply = await function_app.post_answer.build().get_user_function()(request, None, None, None)\n"
        "        codes.append(json.loads(reply.get_body())['code'])\n"
        "    print('codes:', *codes)\n"
        "    await function_app.baton.close()\n"
        "asyncio.run(main())\n"
    )
    env = site.settings | {"PYTHONPATH": str(site.app)}
    with stack.ChildProcess("ids", [stack.sys.executable, str(program)], env=env, cwd=site.app) as child:
        assert child.wait_for(r"^codes: (.*)$")[1] == "call_not_found call_not_found"


def _replace(site: Site, right: str, wrong: str) -> None:
    """Plant a fault in the app's own copy of the triggers."""
    source = (ROOT / "function_app.py").read_text()
    assert right in source
    (site.app / "function_app.py").unlink()
    (site.app / "function_app.py").write_text(source.replace(right, wrong))
    shutil.rmtree(site.app / "__pycache__", ignore_errors=True)
