"""`python -m dev poison`: what it lists, what it puts back, and which account it opens."""

import asyncio
import base64
import json
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest
from azure.storage.queue import QueueServiceClient

from dev import poison
from shared.core.queues import POISON

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def names() -> dict[str, str]:
    return {
        f"{kind}_QUEUE": f"{kind.lower()}-{secrets.token_hex(6)}" for kind in ("WORK", "GENERATE", "DELIVER")
    }


@pytest.fixture
def run(
    connection_string: str,
    names: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Calls the command for an app whose settings file names the account and the queues."""
    values = {"AzureWebJobsStorage": connection_string, **names}
    (tmp_path / "local.settings.json").write_text(json.dumps({"Values": values}))
    (tmp_path / "host.json").write_text('{"extensions": {"queues": {"maxDequeueCount": 4}}}')
    monkeypatch.delenv("AzureWebJobsStorage", raising=False)

    def call(*options: str) -> tuple[int, str, str]:
        status = poison.main([*options, "--app", str(tmp_path)])
        return status, *capsys.readouterr()

    return call


def put(connection_string: str, queue: str, *messages: str) -> None:
    with QueueServiceClient.from_connection_string(connection_string) as service:
        client = service.get_queue_client(queue)
        client.create_queue()
        for message in messages:
            client.send_message(base64.b64encode(message.encode()).decode())


def test_nothing_is_listed_where_nothing_is(run: Run, names: dict[str, str]) -> None:
    for options in ((), ("--put-back",)):
        status, out, err = run(*options)
        assert (status, err) == (0, "")
        assert f"There is no poison message of {', '.join(names.values())}." in out


def test_messages_are_listed_printable_and_bounded(
    run: Run, names: dict[str, str], connection_string: str
) -> None:
    work, deliver = names["WORK_QUEUE"], names["DELIVER_QUEUE"]
    put(connection_string, work + POISON, "run_1", "a\x1b[31m\nb" + "x" * 10_000)
    put(connection_string, deliver + POISON, *["delivery"] * 40)
    status, out, _ = run()
    lines = out.splitlines()
    assert status == 0
    assert lines[0].startswith("account   http://127.0.0.1:")
    assert len([line for line in lines if line.startswith(f"{work}  20")]) == 2
    assert "  failed 4 times  " in lines[1]
    assert lines[1].endswith("  run_1")
    assert "a\u241b[31m\u240abxxx" in lines[2]
    assert lines[2].endswith("…")
    assert max(map(len, lines)) < 300
    assert f"and about 8 more of {deliver}" in lines
    assert "\x1b" not in out


def test_all_or_one_are_put_back(run: Run, names: dict[str, str], connection_string: str) -> None:
    work = names["WORK_QUEUE"]
    put(connection_string, work)
    put(connection_string, work + POISON, "run_1", "run_2", "run_3")
    second = run()[1].splitlines()[2].split("  ")[3]
    status, out, _ = run("--put-back", second)
    assert status == 0
    assert [line.split()[-1] for line in out.splitlines()[1:]] == ["run_2"]
    status, _, err = run("--put-back", second)
    assert (status, err) == (1, f"There is no poison message {second}.\n")
    status, out, _ = run("--put-back")
    assert status == 0
    assert [line.split()[-1] for line in out.splitlines()[1:]] == ["run_1", "run_3"]
    with QueueServiceClient.from_connection_string(connection_string) as service:
        texts = [base64.b64decode(each.content) for each in service.get_queue_client(work).receive_messages()]
    assert sorted(texts) == [b"run_1", b"run_2", b"run_3"]


def test_an_account_of_the_environment_is_not_mixed_with_that_of_the_file(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    async def note(self: poison.PoisonQueues, *_: object) -> dict[str, int]:
        opened.append(self._account.endpoint)
        return {}

    async def nothing(self: poison.PoisonQueues) -> list[object]:
        await asyncio.sleep(0)
        return []

    monkeypatch.setattr(poison.PoisonQueues, "poison_counts", note)
    monkeypatch.setattr(poison.PoisonQueues, "list", nothing)
    monkeypatch.setenv("AzureWebJobsStorage__accountName", "deployed")
    status, out, _ = run()
    assert (status, opened) == (0, ["https://deployed.queue.core.windows.net"])
    assert "account   https://deployed.queue.core.windows.net" in out


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("AccountName=a;AccountKey=s3cret!", "AzureWebJobsStorage is wrong"),
        ("AccountName=a;AccountKey=a2V5;QueueEndpoint=http://127.0.0.1:1/a", "cannot be used"),
    ],
)
def test_what_is_wrong_is_said_without_a_trace(
    run: Run, monkeypatch: pytest.MonkeyPatch, value: str, reason: str
) -> None:
    monkeypatch.setenv("AzureWebJobsStorage", value)
    status, _, err = run()
    assert status == 1
    assert reason in err
    assert "s3cret" not in err
    assert "Traceback" not in err
