"""A message that fails again and again is put aside, counted, listed, put back, and then carried out."""

import pytest

from dev import poison
from tests.e2e.site import ROOT, Site, script, wait_until
from tests.e2e.test_fresh_account import NO_TICKS

# What is planted in the app: its functions for queues fail while there is this file.
READS = '    return message.get_body().decode(errors="replace")'
FAILS = (
    f'    import os, pathlib\n    assert not pathlib.Path(os.environ["BROKEN"]).exists(), "planted"\n{READS}'
)


@pytest.fixture
def broken(new_site, tmp_path) -> Site:
    """An app without a timer, so that only a message can move a run, and whose workers fail."""
    (tmp_path / "broken").touch()
    site: Site = new_site(
        POLL_SCHEDULE=NO_TICKS,
        BROKEN=str(tmp_path / "broken"),
        AzureFunctionsJobHost__extensions__queues__visibilityTimeout="00:00:00",
    )
    source = (ROOT / "function_app.py").read_text()
    assert READS in source
    (site.app / "function_app.py").unlink()
    (site.app / "function_app.py").write_text(source.replace(READS, FAILS))
    site.add_host()
    return site


def test_a_poison_message_is_counted_listed_put_back_and_carried_out(
    broken: Site, tmp_path, monkeypatch, capsys
) -> None:
    run_id = broken.start(script(turns=[{"text": "a"}], seconds=60))
    [created] = broken.provider_log()["requests"][-1:]
    assert broken.api("GET", "health").body["poison_messages"] == 0
    # Its session with all its runs: workers have to forget them at the provider.
    assert broken.api("DELETE", f"sessions/{broken.get(run_id)['session_id']}").status == 204
    wait_until(lambda: broken.api("GET", "health").body["poison_messages"] == 1, "the message is put aside")
    assert broken.api("GET", "health").status == 200

    for name, value in broken.settings.items():
        monkeypatch.setenv(name, value)
    assert poison.main([]) == 0
    [listed] = [line for line in capsys.readouterr().out.splitlines() if run_id in line]
    assert listed.startswith(broken.settings["WORK_QUEUE"])
    assert "failed 5 times" in listed

    (tmp_path / "broken").unlink()
    assert poison.main(["--put-back"]) == 0
    assert run_id in capsys.readouterr().out

    def forgotten() -> bool:
        done = {(each["operation"], each["response_id"]) for each in broken.provider_log()["requests"]}
        return ("delete", created["response_id"]) in done

    wait_until(forgotten, "a worker deletes the response at the provider")
    assert broken.api("GET", "health").body["poison_messages"] == 0
