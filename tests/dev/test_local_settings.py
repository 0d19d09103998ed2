"""Which settings `make up` gives to the host, where they come from, and what of them it shows."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from dev import local_settings, up_text
from dev.host.errors import StartupError
from dev.local_settings import LOCAL_SETTINGS, SAMPLE, LocalSettings
from shared.core.queues import Queue
from shared.errors import InvalidSettings
from shared.settings import load
from tests.dev.local_host import ROOT

STORAGE = "connection of this stack"
EMULATOR = "http://127.0.0.1:1/v1"
SECRET = "sk-do-not-show"
SAMPLE_VALUES = json.loads((ROOT / SAMPLE).read_text())["Values"]


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / SAMPLE).write_text((ROOT / SAMPLE).read_text())
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "novelist.py").write_text('Agent(model="%NOVELIST_MODEL%")\n')
    return tmp_path


def write(app: Path, **values: str) -> None:
    (app / LOCAL_SETTINGS).write_text(json.dumps({"IsEncrypted": False, "Values": values}))


def read(app: Path, **environ: str) -> tuple[LocalSettings, dict[str, str]]:
    """Return the settings, and what the host gets."""
    found = local_settings.read(app, environ)
    return found, found.for_host(environ, STORAGE, None if found.provider else EMULATOR)


def origins(found: LocalSettings) -> dict[str, str]:
    return {name: setting.origin for name, setting in found.found.items()}


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "AZURE_OPENAI_ENDPOINT"])
def test_a_key_in_the_environment_meets_the_models_of_the_sample(app: Path, name: str) -> None:
    found, host = read(app, **{name: "https://mine.example"})
    assert found.provider is not None
    assert host[name] == "https://mine.example"
    assert host["NOVELIST_MODEL"] == SAMPLE_VALUES["NOVELIST_MODEL"]
    assert host["ANALYST_MODEL"] == SAMPLE_VALUES["ANALYST_MODEL"]
    assert EMULATOR not in host.values()


def test_the_key_of_the_sample_is_no_key(app: Path) -> None:
    for _ in range(2):
        found, host = read(app)
        assert found.provider is None
        assert (host["OPENAI_BASE_URL"], host["OPENAI_API_KEY"]) == (EMULATOR, "local")
        (app / LOCAL_SETTINGS).write_text((app / SAMPLE).read_text())
    assert found.placeholder


def test_a_file_of_ones_own_counts_as_a_whole(app: Path) -> None:
    write(app, WORK_QUEUE="mine", OPENAI_API_KEY=SECRET)
    found, host = read(app)
    assert origins(found) == {
        "OPENAI_API_KEY": LOCAL_SETTINGS,
        "POLL_SCHEDULE": local_settings.STACK,
        "WORK_QUEUE": LOCAL_SETTINGS,
    }
    assert found.provider == ("OPENAI_API_KEY", found.found["OPENAI_API_KEY"])
    assert "NOVELIST_MODEL" not in host
    assert load({**host, "POLL_SCHEDULE": ""}).storage.queues[Queue.WORK] == "mine"


def test_a_file_with_nothing_but_a_key_is_enough(app: Path) -> None:
    write(app, OPENAI_API_KEY=SECRET)
    _, host = read(app)
    settings = load(host, ["NOVELIST_MODEL"])
    assert settings.provider.openai_api_key == SECRET
    assert settings.poll.schedule == local_settings.SCHEDULE["POLL_SCHEDULE"]
    assert "models NOVELIST_MODEL is missing: add it to Values in local.settings.json" in shown(app, {})
    write(app, OPENAI_API_KEY=SECRET, POLL_SCHEDULE="* * * * * *")
    _, host = read(app)
    assert load(host).poll.schedule == "* * * * * *"


def test_a_file_without_a_provider_is_used_with_the_emulator(app: Path) -> None:
    write(app, WORK_QUEUE="mine", NOVELIST_MODEL="small", OPENAI_BASE_URL="http://x", PROVIDER_HEADERS="{}")
    found, host = read(app)
    assert (host["WORK_QUEUE"], host["NOVELIST_MODEL"]) == ("mine", "small")
    assert (host["OPENAI_BASE_URL"], host["OPENAI_API_KEY"]) == (EMULATOR, "local")
    assert "PROVIDER_HEADERS" not in host
    assert found.unused == ["OPENAI_BASE_URL", "PROVIDER_HEADERS"]


def test_the_environment_has_priority_name_by_name(app: Path) -> None:
    write(app, WORK_QUEUE="mine", OPENAI_API_KEY=SECRET)
    found, host = read(
        app, WORK_QUEUE="theirs", NOVELIST_MODEL="n", POLL_FANOUT="on", HOME="/", OPENAI_API_KEY=""
    )
    assert host["WORK_QUEUE"] == "theirs"
    assert found.provider is None
    assert host["HOME"] == "/"
    environment = local_settings.ENVIRONMENT
    assert origins(found) == {"POLL_SCHEDULE": local_settings.STACK} | dict.fromkeys(
        ("NOVELIST_MODEL", "OPENAI_API_KEY", "POLL_FANOUT", "WORK_QUEUE"), environment
    )


def test_the_storage_is_always_that_of_the_stack(app: Path) -> None:
    name = "AzureWebJobsStorage"
    write(app, **{name: "UseDevelopmentStorage=true", f"{name}__accountName": "mine"})
    _, host = read(app, **{name: "theirs", f"{name}__tableServiceUri": "https://theirs.example"})
    assert {key: value for key, value in host.items() if key.startswith(name)} == {name: STORAGE}


@pytest.mark.parametrize("text", ["{", '{"Values": []}', '{"Values": {"A": 1}}', '{"IsEncrypted": true}'])
def test_a_file_that_cannot_be_used_is_refused_and_never_ignored(app: Path, text: str) -> None:
    (app / LOCAL_SETTINGS).write_text(text)
    with pytest.raises(StartupError, match=r"local\.settings\.json"):
        local_settings.read(app, {})


class Recorded(dict[str, str]):
    """Notes which settings are read."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def get(self, name: str, default: str = "") -> str:  # type: ignore[override]
        self.names.add(name)
        return default


def test_every_setting_of_the_app_is_told_from_the_rest_of_the_environment() -> None:
    recorded = Recorded()
    with pytest.raises(InvalidSettings):
        load(recorded)
    assert len(recorded.names) > 20
    assert [name for name in recorded.names if not local_settings._SETTING.fullmatch(name)] == []
    for other in ("HOME", "PATH", "HOST", "ANTHROPIC_MODEL", "POLLS", "MY_OPENAI_API_KEY"):
        assert not local_settings._SETTING.fullmatch(other)


def shown(app: Path, environ: Mapping[str, str]) -> str:
    found = local_settings.read(app, environ)
    text = "\n".join(up_text.settings(found, None if found.provider else EMULATOR))
    assert max(map(len, text.splitlines())) < 120
    return re.sub(r"\s+", " ", text)


def test_what_counts_is_shown_and_no_secret(app: Path) -> None:
    (app / "agents" / "second.py").write_text("Agent(model='%REVIEWER_MODEL%')\ndef broken(:\n")
    (app / "agents" / "third.py").write_text(
        "Responses('far', base_url='%FAR_URL%', api_key='%FAR_KEY%', headers={'x-key': \"%FAR_HEADER%\"})\n"
    )
    names = ("AZURE_OPENAI_API_KEY", "OPENAI_API_KEY", "PROVIDER_HEADERS", "FUNCTIONS_HOST_KEY")
    environ = dict.fromkeys(names, SECRET)
    write(
        app,
        AZURE_OPENAI_ENDPOINT=f"https://u:{SECRET}@mine.example/a?code={SECRET}",
        NOVELIST_MODEL="gpt\x1b",
        FAR_URL=f"https://{SECRET}",
        FAR_KEY=SECRET,
        FAR_HEADER=SECRET,
    )
    text = shown(app, environ)
    assert SECRET not in text
    assert "settings local.settings.json" in text
    assert f"the environment: {', '.join(sorted(names))}" in text
    assert "this stack: AzureWebJobsStorage, POLL_SCHEDULE provider" in text
    assert "provider https://mine.example/a, because of AZURE_OPENAI_ENDPOINT in local.settings.json" in text
    assert "models NOVELIST_MODEL=gpt\u241b, REVIEWER_MODEL is missing: add it to Values" in text


def test_it_is_shown_why_the_emulator_is_used(app: Path) -> None:
    assert "settings local.settings.sample.json (there is no local.settings.json)" in shown(app, {})
    assert f"provider {EMULATOR}, an emulator: neither OPENAI_API_KEY nor AZURE" in shown(app, {})
    assert "not sent to the emulator: OPENAI_BASE_URL" in shown(app, {"OPENAI_BASE_URL": "http://x"})
    (app / LOCAL_SETTINGS).write_text((app / SAMPLE).read_text())
    assert "an emulator: OPENAI_API_KEY in local.settings.json is still that of the sample" in shown(app, {})


def test_the_link_opens_the_page_with_the_key_and_is_alone_on_its_line() -> None:
    lines = up_text.page("http://127.0.0.1:7071", "a/b&c=d e'").splitlines()
    assert "  http://127.0.0.1:7071/api/dashboard#key=a%2Fb%26c%3Dd%20e%27" in lines
    assert "  make watch RUN=run_..." in lines
    assert """  export BATON_URL=http://127.0.0.1:7071 BATON_KEY='a/b&c=d e'"'"''""" in lines
    assert max(map(len, up_text.page("http://127.0.0.1:65535", "0" * 40).splitlines())) < 120


def test_the_key_of_the_folder_is_not_shown_where_it_opens_nothing():
    text = up_text.page("http://127.0.0.1:65535", "s3cret", callers=True)
    assert "s3cret" not in text
    assert "python -m dev key" in text
    assert max(map(len, text.splitlines())) < 120
