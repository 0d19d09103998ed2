"""The keys of a folder: random, the same for all of its hosts, and readable by their owner only."""

import json
import os
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from dev import stack, watch
from dev.host import key_file
from dev.host.errors import StartupError
from dev.host.key_file import FILE, load_keys
from dev.host.keys import Keys
from tests.dev.local_host import APPS, KEYS, LONG, ROOT, Host, ready, start

NO_STORAGE = "UseDevelopmentStorage=true"
ADVICE = r"Delete it, .*; or set FUNCTIONS_HOST_KEY and FUNCTIONS_MASTER_KEY"


@pytest.fixture(autouse=True)
def no_keys_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*KEYS, "BATON_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return shutil.copytree(APPS / "bare", tmp_path / "app")


def status(host: Host, key: str, path: str = "/api/work") -> int:
    return host.call("GET", path, headers={"x-functions-key": key}).status


def test_hosts_that_start_at_once_in_one_folder_share_its_keys(app: Path) -> None:
    with start(app, NO_STORAGE, {}, keys={}) as first, start(app, NO_STORAGE, {}, keys={}) as second:
        hosts = [ready(first), ready(second)]
        keys = load_keys(app, {})
        for host in hosts:
            printed = host.child.wait_for(r"^x-functions-key: (\S+) \(functions\), (\S+) \(everything\)$")
            assert printed.groups() == (keys.host, keys.master)
            assert status(host, keys.host) == 200
            assert status(host, keys.host, "/admin/host/status") == 401
            assert status(host, keys.master, "/admin/host/status") == 200


def test_no_key_is_known_before_the_first_start(app: Path) -> None:
    with start(app, NO_STORAGE, {}, keys={}) as child:
        host = ready(child)
        for known in ("local-host-key", "local-master-key", "host-key", "master-key", ""):
            assert status(host, known) == 401
            assert status(host, known, "/admin/host/status") == 401


def test_each_folder_has_other_keys_and_keeps_them(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    first, again = ([load_keys(folder, {}) for folder in folders] for _ in range(2))
    assert first == again
    values = [value for keys in first for value in (keys.host, keys.master)]
    assert len(set(values)) == 4
    for value in values:
        assert len(bytes.fromhex(value)) * 8 >= 128


def test_only_the_owner_can_read_the_keys(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        load_keys(tmp_path, {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / FILE).parent.stat().st_mode) == 0o700
    assert list((tmp_path / FILE).parent.iterdir()) == [tmp_path / FILE]


def test_many_that_load_at_once_get_the_same_keys(tmp_path: Path) -> None:
    together = Barrier(8)

    def load(folder: Path) -> Keys:
        together.wait(LONG.total_seconds())
        return load_keys(folder, {})

    with ThreadPoolExecutor(together.parties) as pool:
        for number in range(50):
            folder = tmp_path / str(number)
            folder.mkdir()
            assert len(set(pool.map(load, [folder] * together.parties))) == 1


def test_the_keys_of_the_faster_process_stay(tmp_path: Path) -> None:
    """Both found no file. The slower one writes its keys after the faster one has begun to use its own."""
    faster = load_keys(tmp_path, {})
    key_file._create(tmp_path / FILE)
    assert load_keys(tmp_path, {}) == faster
    assert list((tmp_path / FILE).parent.iterdir()) == [tmp_path / FILE]


def test_the_environment_has_priority(tmp_path: Path) -> None:
    both = {"FUNCTIONS_HOST_KEY": "h", "FUNCTIONS_MASTER_KEY": "m"}
    assert load_keys(tmp_path, both) == Keys("h", "m")
    assert list(tmp_path.iterdir()) == []
    kept = load_keys(tmp_path, {})
    assert load_keys(tmp_path, {"FUNCTIONS_HOST_KEY": "h"}) == Keys("h", kept.master)
    assert load_keys(tmp_path, {"FUNCTIONS_MASTER_KEY": "m"}) == Keys(kept.host, "m")


KEY = "0123456789abcdef" * 2 + "01234567"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"{}",
        json.dumps({"host": KEY}).encode(),
        json.dumps({"host": KEY, "master": ""}).encode(),
        json.dumps({"host": KEY, "master": 1}).encode(),
        json.dumps({"host": "local-host-key", "master": "local-master-key"}).encode(),
        json.dumps({"host": KEY + "\n", "master": KEY}).encode(),
    ],
)
def test_a_broken_file_is_refused_and_left_as_it_is(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / FILE
    file.parent.mkdir()
    file.touch(mode=0o600)
    file.write_bytes(content)
    with pytest.raises(StartupError, match=rf"host-keys\.json does not hold the keys of a host\. {ADVICE}"):
        load_keys(tmp_path, {})
    assert file.read_bytes() == content


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_that_others_can_read_is_refused(mode: int, tmp_path: Path) -> None:
    load_keys(tmp_path, {})
    (tmp_path / FILE).chmod(mode)
    with pytest.raises(StartupError, match=rf"host-keys\.json is open to other users .*\. {ADVICE}"):
        load_keys(tmp_path, {})


@pytest.mark.parametrize("obstacle", ["a folder in place of the file", "a file in place of the folder"])
def test_a_file_that_cannot_be_read_or_written_is_refused(obstacle: str, tmp_path: Path) -> None:
    if obstacle.startswith("a folder"):
        (tmp_path / FILE).mkdir(parents=True)
    else:
        (tmp_path / FILE).parent.touch()
    with pytest.raises(StartupError, match=rf"host-keys\.json cannot be used: .*\. {ADVICE}"):
        load_keys(tmp_path, {})


def test_a_host_without_usable_keys_does_not_start(app: Path) -> None:
    (app / FILE).mkdir(parents=True)
    with start(app, NO_STORAGE, {}, keys={}) as child:
        child.wait_for(ADVICE, timeout=LONG)
        assert child.wait(timeout=LONG) == 1
        assert "The host cannot start." in child.output


def test_the_keys_are_left_out_of_git_and_of_deployments() -> None:
    for name in (".gitignore", ".funcignore"):
        entries = (ROOT / name).read_text().split()
        assert FILE.parts[0] in {entry.removesuffix("/") for entry in entries}, name


def test_the_stack_knows_the_keys_that_a_host_will_use(app: Path) -> None:
    settings = {"Values": {"FUNCTIONS_HOST_KEY": "from-the-file"}}
    (app / "local.settings.json").write_text(json.dumps(settings))
    keys = stack.keys(app)
    assert keys == Keys("from-the-file", load_keys(app, {}).master)
    with start(app, NO_STORAGE, {}, keys={}) as child:
        host = ready(child)
        assert status(host, keys.host) == 200
        assert status(host, keys.master, "/admin/host/status") == 200


def test_a_host_of_the_stack_takes_its_settings_from_the_stack_only(app: Path) -> None:
    settings = {"Values": {"FUNCTIONS_HOST_KEY": "from-the-file"}}
    (app / "local.settings.json").write_text(json.dumps(settings))
    child, base = stack.start_host({**os.environ, "AzureWebJobsStorage": NO_STORAGE}, app=app)
    with child:
        host = Host(child, base.removeprefix("http://"))
        assert status(host, "from-the-file") == 401
        assert status(host, load_keys(app, {}).host) == 200


def test_a_watch_sends_the_key_of_this_folder_to_this_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNCTIONS_HOST_KEY", "h")
    monkeypatch.setenv("FUNCTIONS_MASTER_KEY", "m")
    for url in ("http://127.0.0.1:7071", "http://localhost", "http://[::1]:7071/api"):
        assert watch._key(url) == "h"
    for url in ("https://app.example", "http://127.0.0.1.app.example", "http://localhost@app.example"):
        assert watch._key(url) == ""
    monkeypatch.setenv("BATON_KEY", "given")
    assert watch._key("https://app.example") == watch._key("http://localhost") == "given"
