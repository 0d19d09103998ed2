import json
from datetime import timedelta
from pathlib import Path

import pytest

from dev.host.errors import StartupError
from dev.host.keys import AuthLevel, Keys, presented_key
from dev.host.queue_service import Account
from dev.host.settings import load_app_settings, load_host_settings, parse_timespan, substitute

KEYS = Keys(host="host", master="master")


def write(folder: Path, name: str, document: object) -> None:
    (folder / name).write_text(json.dumps(document))


def test_host_json_is_read(tmp_path: Path) -> None:
    queues = {"batchSize": 8, "visibilityTimeout": "00:00:30"}
    write(
        tmp_path,
        "host.json",
        {"functionTimeout": "00:10:00", "extensions": {"http": {"routePrefix": ""}, "queues": queues}},
    )
    settings = load_host_settings(tmp_path, {})
    assert settings.route_prefix == ""
    assert settings.function_timeout == timedelta(minutes=10)
    assert settings.queues.batch_size == 8
    assert settings.queues.new_batch_threshold == 4
    assert settings.queues.visibility_timeout == timedelta(seconds=30)


def test_the_environment_overrides_host_json(tmp_path: Path) -> None:
    write(tmp_path, "host.json", {"extensions": {"queues": {"batchSize": 8}}})
    settings = load_host_settings(tmp_path, {"AzureFunctionsJobHost__extensions__queues__batchSize": "1"})
    assert settings.queues.batch_size == 1


def test_everything_wrong_in_host_json_is_named_at_once(tmp_path: Path) -> None:
    write(tmp_path, "host.json", {"functionTimeout": "10", "extensions": {"queues": {"batchSize": 33}}})
    with pytest.raises(StartupError) as refused:
        load_host_settings(tmp_path, {})
    assert "functiontimeout" in str(refused.value)
    assert "batchsize" in str(refused.value)


def test_a_folder_without_host_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"host\.json is missing"):
        load_host_settings(tmp_path, {})


def test_the_environment_overrides_local_settings(tmp_path: Path) -> None:
    write(tmp_path, "local.settings.json", {"Values": {"A": "file", "B": "file"}})
    environ = {"A": "environment"}
    load_app_settings(tmp_path, environ)
    assert environ == {"A": "environment", "B": "file"}


@pytest.mark.parametrize("document", [{"IsEncrypted": True}, {"Values": {"A": 1}}, []])
def test_unusable_local_settings_are_refused(tmp_path: Path, document: object) -> None:
    write(tmp_path, "local.settings.json", document)
    with pytest.raises(StartupError, match=r"local\.settings\.json"):
        load_app_settings(tmp_path, {})


def test_settings_replace_their_names_between_percent_signs() -> None:
    assert substitute("%A%-x", {"A": "queue"}) == "queue-x"
    with pytest.raises(StartupError, match="no setting B"):
        substitute("%B%", {"A": "queue"})


def test_time_spans() -> None:
    assert parse_timespan("1.02:03:04") == timedelta(days=1, hours=2, minutes=3, seconds=4)
    with pytest.raises(ValueError):
        parse_timespan("5 minutes")


@pytest.mark.parametrize(
    ("level", "key", "allowed"),
    [
        (AuthLevel.ANONYMOUS, "", True),
        (AuthLevel.FUNCTION, "host", True),
        (AuthLevel.FUNCTION, "master", True),
        (AuthLevel.FUNCTION, "Host", False),
        (AuthLevel.FUNCTION, "", False),
        (AuthLevel.ADMIN, "master", True),
        (AuthLevel.ADMIN, "host", False),
    ],
)
def test_a_key_allows_its_levels_only(level: AuthLevel, key: str, allowed: bool) -> None:
    assert KEYS.allow(level, key) is allowed


def test_a_key_in_the_header_has_priority_over_one_in_the_address() -> None:
    assert presented_key({"x-functions-key": "wrong"}, {"code": "host"}) == "wrong"
    assert presented_key({}, {"code": "host"}) == "host"


def test_connection_strings() -> None:
    cloud = Account.parse("DefaultEndpointsProtocol=https;AccountName=a;AccountKey=aw==;EndpointSuffix=x.net")
    assert str(cloud.endpoint) == "https://a.queue.x.net"
    assert (
        str(Account.parse("UseDevelopmentStorage=true").endpoint) == "http://127.0.0.1:10001/devstoreaccount1"
    )
    with pytest.raises(ValueError, match="AccountKey"):
        Account.parse("AccountName=a")
