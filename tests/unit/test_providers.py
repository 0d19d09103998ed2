"""Providers that authors declare: their rules, how they are found, and the settings that they name."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.adapters.agents.discover import InvalidAgents, discover, discover_all
from shared.adapters.agents.running import InstalledAgents
from shared.adapters.http.transport import Pool
from shared.agent import Agent
from shared.app import Baton
from shared.errors import InvalidSettings
from shared.ports.providers import DEFAULT_PROVIDER
from shared.provider import ChatCompletions, Responses, filled_in, settings_in
from shared.settings import Settings, load
from tests.support.log_lines import logged

URL = "https://gateway.example/v1"
GOOD = {"AzureWebJobsStorage": "UseDevelopmentStorage=true", "OPENAI_API_KEY": "k"}
SECRET = "s3cret-of-the-gateway"
GATEWAY = Responses(
    "gateway", base_url="%GATEWAY_URL%", api_key="%GATEWAY_KEY%", headers={"x-team": "%TEAM%", "x-plain": "a"}
)
SET = {"GATEWAY_URL": URL, "GATEWAY_KEY": SECRET, "TEAM": "blue team"}


def loaded(*providers: Responses | ChatCompletions, **settings: str) -> Settings:
    return load(GOOD | settings, providers=providers)


def faults_of(*providers: Responses | ChatCompletions, **settings: str) -> tuple[str, ...]:
    with pytest.raises(InvalidSettings) as caught:
        loaded(*providers, **settings)
    return caught.value.faults


# The rules of a declaration


@pytest.mark.parametrize("kind", [Responses, ChatCompletions])
@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"name": "a b"}, "its name must be"),
        ({"name": ""}, "its name must be"),
        ({"name": 7}, "its name must be"),
        ({"name": "default"}, "its name cannot be default"),
        ({"base_url": "gateway.example"}, "its base_url must be an http or https address"),
        ({"base_url": f"{URL}?a=b"}, "its base_url must be an http or https address"),
        ({"base_url": "https://me:pw@gateway.example"}, "its base_url must be an http or https address"),
        ({"base_url": "https://:pw@gateway.example"}, "its base_url must be an http or https address"),
        ({"base_url": "https://%GATEWAY-HOST%/v1"}, "its base_url must be an http or https address"),
        ({"base_url": ""}, "its base_url must be"),
        ({"base_url": None}, "its base_url must be"),
        ({"api_key": ""}, "its api_key must be"),
        ({"api_key": " a"}, "its api_key must be"),
        ({"api_key": "a\nb"}, "its api_key must be"),
        ({"api_key": b"a"}, "its api_key must be"),
        ({"headers": [("a", "b")]}, "its headers must be a dict"),
        ({"headers": {"a b": "c"}}, "its headers must give header 1 a name"),
        ({"headers": {7: "c"}}, "its headers must give header 1 a name"),
        ({"headers": {"a": 7}}, "its headers must give a a string"),
        ({"headers": {"a": "b\n"}}, "its headers must give a a value of 1 to"),
        ({"headers": {"Authorization": "Basic x"}}, "its headers must not have Authorization"),
        ({"headers": {"Host": "%TEAM%"}}, "its headers must not have Host"),
        ({"headers": {"a": "b", "A": "c"}}, "its headers must not have A twice"),
        ({"headers": {f"h{n}": "a" for n in range(17)}}, "its headers must have at most 16"),
    ],
)
def test_a_wrong_field_is_refused_where_it_is_written(kind, fields, fault):
    with pytest.raises(ValueError, match=fault):
        kind(
            fields.get("name", "gateway"),
            **({"base_url": URL} | {k: v for k, v in fields.items() if k != "name"}),
        )


def test_all_faults_are_listed_at_once_and_show_no_value():
    with pytest.raises(ValueError, match="ChatCompletions") as caught:
        ChatCompletions(
            "default",
            base_url=f"https://{SECRET}@gateway.example",
            api_key=f"{SECRET}\n",
            headers={"x-team": f" {SECRET}"},
            resume="anew",
            echoes="yes",
        )
    text = str(caught.value)
    assert all(name in text for name in ("name", "base_url", "api_key", "x-team", "resume", "echoes"))
    assert SECRET not in text
    with pytest.raises(ValueError) as misplaced:
        Responses(f"sk {SECRET}", base_url=URL)
    assert SECRET not in str(misplaced.value)


def test_a_declaration_does_not_change_and_shows_no_secret():
    headers = {"x-key": SECRET}
    declared = [
        Responses("a", base_url=URL, api_key=SECRET, headers=headers),
        ChatCompletions("b", base_url=URL, api_key=SECRET, headers=headers, resume="prefix", echoes=True),
    ]
    headers["x-key"] = "b"
    assert all(each.headers == {"x-key": SECRET} for each in declared)
    assert SECRET not in repr(declared)
    with pytest.raises(AttributeError):
        declared[0].name = "c"
    assert len({*declared, *declared}) == 2


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("%A_1%", ("A_1",)),
        ("https://%HOST%:%PORT%/%HOST%", ("HOST", "PORT")),
        ("https://a.example/%E4%BD%A0/%20", ()),
        ("https://a.example/%E4%BD%A0%HOST%", ("HOST",)),
        ("100%", ()),
        ("%%", ()),
        ("%a b%", ()),
    ],
)
def test_settings_are_named_between_per_cent_signs(text, names):
    assert settings_in(text) == names
    assert settings_in(filled_in(text, dict.fromkeys(names, "x"))) == ()


@pytest.mark.parametrize("provider", [GATEWAY, ChatCompletions("c", base_url=URL), None])
def test_an_agent_names_a_provider(provider):
    assert Agent(name="a", model="m", instructions="i", provider=provider).provider is provider


@pytest.mark.parametrize("provider", ["gateway", Responses, {"name": "gateway"}])
def test_an_agent_names_nothing_else(provider):
    with pytest.raises(ValueError, match=r"its provider must be Responses\(\.\.\.\)"):
        Agent(name="a", model="m", instructions="i", provider=provider)


# Discovery


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    name = f"providers_{tmp_path.name}"
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / name
    folder.mkdir()

    def write(**modules: str) -> str:
        head = "from shared.agent import Agent\nfrom shared.provider import ChatCompletions, Responses\n"
        for module, source in ({"__init__": ""} | modules).items():
            (folder / f"{module}.py").write_text(f"{head}{source}\n", encoding="utf-8")
        return name

    yield write
    for module in [each for each in sys.modules if each.split(".")[0] == name]:
        del sys.modules[module]


def agent(name: str, provider: str) -> str:
    return f"{name} = Agent(name={name!r}, model='m', instructions='i', provider={provider})"


def declared(name: str, kind: str = "Responses") -> str:
    return f"{name} = {kind}({name!r}, base_url='https://{name}.example')"


def test_declared_providers_are_found_also_unused_and_inside_of_agents(package):
    inline = "ChatCompletions('inline', base_url='https://inline.example')"
    name = package(
        providers=f"{declared('used')}\n{declared('unused')}",
        one=f"from {package()}.providers import used\n{agent('a', 'used')}",
        two=agent("b", inline),
    )
    found = discover_all(name)
    assert list(found.providers) == ["inline", "unused", "used"]
    assert found.agents["a"].provider is found.providers["used"]
    assert list(discover(name)) == ["a", "b"]


def test_two_providers_of_one_name_are_a_fault_beside_all_others(package):
    name = package(
        one=f"{declared('same')}\n{agent('a', 'same')}",
        two=f"{declared('same', 'ChatCompletions')}\n{agent('a', 'same')}",
        three="x = Responses('default', base_url='https://x.example')",
    )
    with pytest.raises(InvalidAgents) as caught:
        discover(name)
    assert caught.value.faults == (
        (
            f"{name}/three.py, line 3: ValueError: Responses default: its name cannot be default, which is the provider of "
            "the app's settings"
        ),
        f"two agents are called a: in {name}.one and in {name}.two",
        f"two providers are called same: in {name}.one and in {name}.two",
    )


# Settings


def test_a_provider_gets_the_values_of_its_settings_and_shows_none():
    settings = loaded(GATEWAY, **SET)
    found = settings.declared.complete["gateway"]
    assert (found.base_url, found.api_key) == (URL, SECRET)
    assert found.headers == {"x-team": "blue team", "x-plain": "a"}
    assert settings.declared.missing == {}
    assert (
        found.to_check == "api_key and headers of the provider gateway, and the setting GATEWAY_KEY and TEAM"
    )
    assert SECRET not in repr(settings.declared)
    assert "blue team" not in repr(settings.declared)


def test_a_setting_may_be_a_part_of_a_text():
    provider = Responses("a", base_url="https://%HOST%:%PORT%/v1", headers={"x": "team %TEAM%"})
    found = loaded(provider, HOST="h.example", PORT="8443", TEAM="blue").declared.complete["a"]
    assert (found.base_url, found.api_key, found.headers) == (
        "https://h.example:8443/v1",
        None,
        {"x": "team blue"},
    )


@pytest.mark.parametrize("name", SET)
@pytest.mark.parametrize("value", ["", "  ", None])
def test_a_missing_setting_makes_only_its_agents_not_ready(name, value, caplog):
    settings = loaded(
        GATEWAY, **{each: text for each, text in (SET | {name: value}).items() if text is not None}
    )
    assert settings.declared.complete == {}
    assert settings.declared.missing == {"gateway": (name,)}
    agents = {
        "far": Agent(name="far", model="%FAR_MODEL%", instructions="i", provider=GATEWAY),
        "near": Agent(name="near", model="m", instructions="i"),
    }
    installed = InstalledAgents(agents, {}, missing_for=settings.declared.missing)
    installed.check()
    far, near = installed.spec("far"), installed.spec("near")
    assert (far.provider, far.missing_settings) == ("gateway", ("FAR_MODEL", name))
    assert f"because its provider gateway names {name}. Put it" in far.not_ready
    assert (near.provider, near.not_ready) == (DEFAULT_PROVIDER, None)
    [line] = logged(caplog, "agent.not_ready")
    assert line.fields == {"agent": "far", "missing": ["FAR_MODEL", name]}


def test_wrong_settings_stop_the_start_with_all_faults_and_no_value():
    chat = ChatCompletions("chat", base_url="https://%CHAT_HOST%/v1", api_key="%CHAT_KEY%")
    faults = faults_of(
        GATEWAY,
        chat,
        POLL_FANOUT="maybe",
        GATEWAY_URL=f"ftp://{SECRET}",
        GATEWAY_KEY=f"{SECRET}\u00e4",
        TEAM="a\tb",
        CHAT_HOST=f"{SECRET} x/?",
    )
    assert [fault.partition(" must be ")[0] for fault in faults] == [
        "POLL_FANOUT",
        "GATEWAY_URL, as base_url of the provider gateway,",
        "GATEWAY_KEY, as api_key of the provider gateway,",
        "TEAM, as header x-team of the provider gateway,",
        "CHAT_HOST, as base_url of the provider chat,",
    ]
    assert SECRET not in "".join(faults)


def test_a_setting_is_not_believed_to_name_further_ones():
    provider = Responses("a", base_url=URL, headers={"x": "%ONE%"})
    found = loaded(provider, ONE="%OPENAI_API_KEY%").declared.complete["a"]
    assert found.headers == {"x": "%OPENAI_API_KEY%"}


# The composition root


def test_an_app_has_an_adapter_for_each_provider_that_can_be_used():
    chat = ChatCompletions("chat", base_url=URL)
    settings = loaded(GATEWAY, Responses("incomplete", base_url="%NOWHERE%"), chat, **SET)
    app = Baton(settings, InstalledAgents({}, {}))
    assert list(app.context.providers) == [DEFAULT_PROVIDER, "gateway"]
    connection = app.context.providers["gateway"]._connection
    assert (connection.base_url, connection.api_key, connection.open) == (URL, SECRET, True)
    assert SECRET not in repr(connection)
    default = app.context.providers[DEFAULT_PROVIDER]._connection
    assert (default.open, default.name, default.credentials) == (False, "", "")
    assert (default.create_timeout, default.connections) == (
        connection.create_timeout,
        connection.connections,
    )

    async def open_and_close() -> list[bool]:
        for provider in app.context.providers.values():
            provider._transport._open(Pool.POLLS)
        await app.close()
        return [provider._transport._sessions == {} for provider in app.context.providers.values()]

    assert asyncio.run(open_and_close()) == [True, True]
