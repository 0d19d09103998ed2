"""Settings are read, and an app with wrong ones refuses to start and lists every fault."""

import json
from datetime import timedelta

import pytest

from shared.adapters.azure_tables.account import TableAccount
from shared.app import check_connection_string
from shared.core.queues import Queue
from shared.core.quota import Limits
from shared.core.run import Chaining
from shared.errors import InvalidSettings
from shared.settings import load

GOOD = {
    "AzureWebJobsStorage": "UseDevelopmentStorage=true",
    "OPENAI_API_KEY": "sk-test",
}


def faults_of(environment: dict[str, str], *placeholders: str) -> list[str]:
    checks = [("AzureWebJobsStorage", TableAccount.from_connection_string)]
    with pytest.raises(InvalidSettings) as refusal:
        load(environment, placeholders, checks)
    for fault in refusal.value.faults:
        assert f"- {fault}\n" in f"{refusal.value}\n"
    return refusal.value.faults


@pytest.mark.parametrize(
    "url",
    [
        "https://baton.example",
        "HTTPS://BATON.example:443/",
        "http://127.0.0.1:7071",
        "https://[2001:db8::1]:8443/base/",
        "https://xn--bton-loa.example/b%C3%A4ton/~a(1)",
    ],
)
def test_the_root_of_links_is_an_address_that_a_browser_writes_like_that(url):
    assert load(GOOD | {"PUBLIC_BASE_URL": url}).public_base_url == url


def test_the_required_settings_are_enough():
    settings = load(GOOD)
    assert settings.storage.connection == "UseDevelopmentStorage=true"
    assert (settings.storage.runs_table, settings.storage.content_table) == ("runs", "content")
    assert settings.provider.openai_base_url == "https://api.openai.com/v1"
    assert settings.provider.chaining is Chaining.PREVIOUS_RESPONSE_ID
    assert settings.poll.shortest == timedelta(seconds=2)
    assert settings.poll.longest == timedelta(seconds=30)
    assert settings.poll.concurrency == 500
    assert settings.poll.fanout is False
    assert settings.owner_header is settings.public_base_url is None
    assert settings.trust_forwarded is False
    assert settings.provider.headers == {}


def test_every_setting_is_read():
    settings = load(
        GOOD
        | {
            "RUNS_TABLE": "batonruns",
            "CONTENT_TABLE": "batoncontent",
            "OPENAI_BASE_URL": "http://127.0.0.1:8080/v1",
            "CHAINING": "replay",
            "POLL_MIN_SECONDS": "0.5",
            "POLL_MAX_SECONDS": "60",
            "POLL_CONCURRENCY": "50",
            "POLL_FANOUT": "on",
            "PROVIDER_CREATE_TIMEOUT_SECONDS": "90",
            "PROVIDER_POLL_TIMEOUT_SECONDS": "5",
            "PUBLIC_BASE_URL": "https://baton.example",
            "TRUST_FORWARDED": "on",
            "PROVIDER_HEADERS": ' {"Ocp-Apim-Subscription-Key": "a key", "x-team": "a"} ',
            "OWNER_HEADER": "X-MS-CLIENT-PRINCIPAL-ID",
            "NOVELIST_MODEL": " gpt-5 ",
        },
        ["NOVELIST_MODEL"],
    )
    assert (settings.storage.runs_table, settings.storage.content_table) == ("batonruns", "batoncontent")
    assert settings.provider.chaining is Chaining.REPLAY
    assert (settings.poll.shortest, settings.poll.longest) == (timedelta(seconds=0.5), timedelta(seconds=60))
    assert (settings.poll.concurrency, settings.poll.fanout) == (50, True)
    assert settings.provider.create_timeout == timedelta(seconds=90)
    assert settings.public_base_url == "https://baton.example"
    assert settings.trust_forwarded is True
    assert settings.provider.headers == {"Ocp-Apim-Subscription-Key": "a key", "x-team": "a"}
    assert settings.models == {"NOVELIST_MODEL": "gpt-5"}


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        ({}, None),
        ({"QUOTA_PENDING_RUNS": " "}, None),
        ({"QUOTA_PENDING_RUNS": "999"}, Limits(pending_runs=999)),
        ({"QUOTA_STARTS_PER_MINUTE": "1000"}, Limits(starts_per_minute=1000)),
        (
            {"QUOTA_PENDING_RUNS": "1", "QUOTA_STARTS_PER_MINUTE": "1"},
            Limits(pending_runs=1, starts_per_minute=1),
        ),
    ],
)
def test_quotas_are_off_unless_they_are_set(given, limits):
    assert load(GOOD | given).quotas == limits


def test_an_identity_can_replace_keys():
    identity = GOOD | {
        "AzureWebJobsStorage": "",
        "AzureWebJobsStorage__accountName": "account7",
        "OPENAI_API_KEY": "",
        "AZURE_OPENAI_ENDPOINT": "https://res.openai.azure.com",
    }
    assert load(identity).storage.endpoint == "https://account7.table.core.windows.net"
    uri = {"AzureWebJobsStorage__tableServiceUri": "https://account7.table.core.chinacloudapi.cn"}
    assert load(identity | uri).storage.endpoint == uri["AzureWebJobsStorage__tableServiceUri"]


def test_queues_have_names_without_any_setting_and_each_can_be_named():
    settings = load(GOOD)
    assert settings.storage.queues == {
        Queue.WORK: "baton-work",
        Queue.GENERATE: "baton-generate",
        Queue.DELIVER: "baton-deliver",
    }
    assert settings.poll.schedule == "*/5 * * * * *"
    named = load(GOOD | {"WORK_QUEUE": "w" * 56, "GENERATE_QUEUE": "gen", "DELIVER_QUEUE": "a-poison"})
    assert list(named.storage.queues.values()) == ["w" * 56, "gen", "a-poison"]


@pytest.mark.parametrize(
    "names",
    [
        {"DELIVER_QUEUE": "baton-work"},
        {"WORK_QUEUE": "mine", "GENERATE_QUEUE": "mine"},
        {"GENERATE_QUEUE": "baton-work-poison"},
        {"WORK_QUEUE": "baton-deliver-poison"},
    ],
)
def test_two_queues_never_have_the_same_messages(names):
    [fault] = faults_of(GOOD | names)
    assert fault.startswith("WORK_QUEUE, GENERATE_QUEUE and DELIVER_QUEUE must differ")


def test_an_identity_opens_the_queues_too():
    identity = {"AzureWebJobsStorage__accountName": "account7", "OPENAI_API_KEY": "k"}
    assert load(identity).storage.queue_endpoint == "https://account7.queue.core.windows.net"
    addresses = {
        "AzureWebJobsStorage__tableServiceUri": "https://a.table.core.chinacloudapi.cn",
        "AzureWebJobsStorage__queueServiceUri": "https://a.queue.core.chinacloudapi.cn",
        "OPENAI_API_KEY": "k",
    }
    assert load(addresses).storage.queue_endpoint == "https://a.queue.core.chinacloudapi.cn"
    del addresses["AzureWebJobsStorage__queueServiceUri"]
    [fault] = faults_of(addresses)
    assert fault.startswith("AzureWebJobsStorage__queueServiceUri is missing")


def test_a_connection_string_has_to_name_the_queues_as_well():
    signature = "TableEndpoint=https://a.table.core.windows.net;SharedAccessSignature=sig=s3cret"
    with pytest.raises(
        InvalidSettings, match="AzureWebJobsStorage is wrong: it names neither QueueEndpoint nor"
    ):
        load(
            GOOD | {"AzureWebJobsStorage": signature}, (), [("AzureWebJobsStorage", check_connection_string)]
        )


def test_without_settings_every_missing_one_is_named():
    faults = faults_of({}, "NOVELIST_MODEL", "ANALYST_MODEL")
    names = [
        "AzureWebJobsStorage",
        "OPENAI_API_KEY",
    ]
    assert [fault.split()[0] for fault in faults] == names
    assert all("missing" in fault for fault in faults)


def test_all_faults_are_listed_at_once():
    faults = faults_of(
        {"WORK_QUEUE": "Bad_Queue", "POLL_MIN_SECONDS": "-1", "CHAINING": "none", "POLL_FANOUT": "yes"}
    )
    for name in (
        "WORK_QUEUE",
        "POLL_MIN_SECONDS",
        "CHAINING",
        "POLL_FANOUT",
        "AzureWebJobsStorage",
    ):
        assert any(fault.startswith(name) for fault in faults), name


WRONG = {
    "AzureWebJobsStorage": ["nonsense", "AccountName=a;AccountKey=s3cret!", "AccountKey=czNjcmV0"],
    "AzureWebJobsStorage__accountName": ["No_Account", "ab", "a.b/c"],
    "AzureWebJobsStorage__tableServiceUri": [
        "account",
        "http://a.table.core.windows.net",
        "https://[",
        "https://",
    ],
    "RUNS_TABLE": ["ab", "1runs", "my-runs", "r" * 64],
    "CONTENT_TABLE": ["content table"],
    "AzureWebJobsStorage__queueServiceUri": ["account", "http://a.queue.core.windows.net"],
    "WORK_QUEUE": ["ab", "Work", "work--queue", "-work", "work-", "work_queue", "q" * 57],
    "GENERATE_QUEUE": ["ab", "Work", "work_queue", "q" * 57],
    "DELIVER_QUEUE": ["ab", "Work", "%DELIVER%", "q" * 57],
    "OPENAI_BASE_URL": [
        "api.openai.com",
        "ftp://a",
        "https://",
        "http://[",
        "http://a:99999",
        "http://a:b",
        "https://a?b=c",
        # With what is added, these would be other addresses than they seem, or none.
        "https://a/v1?",
        "https://a/v1#",
        "https://:s3cret@a/v1",
        "https://@a/v1",
        "https://a/v1\r\nX-Key: s3cret",
        "https://a b/v1",
        "https://a/v\x001",
        "https://a\\@b/v1",
        "https://a..b/v1",
        "https://.a/v1",
        f"https://{'a' * 64}.example/v1",
    ],
    "AZURE_OPENAI_ENDPOINT": ["res.openai.azure.com", "https://res]"],
    "PUBLIC_BASE_URL": [
        "baton.example",
        "https://baton.example/#x",
        "https://user:s3cret@baton.example",
        # What no browser sends as an origin, or no header can hold.
        "https://:s3cret@baton.example",
        "https://@baton.example",
        "https://baton.example:",
        "https://b\u00e4ton.example",
        "https://bat\u200bon.example",
        "https://\u212aey.example",
        "http\u017f://baton.example",
        "https://baton.example/b\u00e4ton",
        "https://bat on.example",
        "https://baton.example/a b",
        "https://bat\non.example",
        "https://baton.example\\@other.example",
        "https://baton.example,https://other.example",
        "https://baton.example/?",
        "https://baton.example/#",
    ],
    "OWNER_HEADER": ["X Owner", "X-Owner:", "é", "h" * 65],
    "CHAINING": ["Replay", "both"],
    "POLL_SCHEDULE": ["* * * * *", "often"],
    "POLL_MIN_SECONDS": ["0", "-1", "two", "1e3", "NaN", "inf", "61", "1,5", "٣"],
    "POLL_MAX_SECONDS": ["0", "601", "1"],
    "POLL_CONCURRENCY": ["0", "5001", "1.5", "many"],
    "POLL_FANOUT": ["true", "ON"],
    "TRUST_FORWARDED": ["true", "1", "ON", "x-forwarded-host"],
    "PROVIDER_HEADERS": [
        "api-key: s3cret!",
        "{'api-key': 's3cret!'}",
        '{"api-key": "s3cret!"',
        '["s3cret!"]',
        '[["api-key", "s3cret!"]]',
        '"s3cret!"',
        "7",
        "null",
        "[" * 100_000,
        "9" * 5_000,
        '{"api-key": 7}',
        '{"api-key": null}',
        '{"api-key": ["s3cret!"]}',
        '{"api-key": {"s3cret!": "s3cret!"}}',
        '{"api-key": ""}',
        '{"api-key": " s3cret!"}',
        '{"api-key": "s3cret! "}',
        '{"api-key": "s3cret!\\n"}',
        '{"api-key": "a\\r\\nX-Evil: s3cret!"}',
        '{"api-key": "s3cret!\\t1"}',
        '{"api-key": "s3cret!\\u0000"}',
        '{"api-key": "s3cret!\\u007f"}',
        '{"api-key": "s3cret!\u00e9"}',
        '{"api-key": "s3cret!\\ud800"}',
        '{"api-key": "' + "s3cret!" * 600 + '"}',
        '{"": "s3cret!"}',
        '{"api key": "s3cret!"}',
        '{"api-key: s3cret!": "s3cret!"}',
        '{"api-k\u00e9y": "s3cret!"}',
        '{"api-key\\n": "s3cret!"}',
        '{"s3cret!' + "k" * 64 + '": "s3cret!"}',
        '{"api-key": "s3cret!", "API-Key": "s3cret!"}',
        '{"api-key": "s3cret!", "api-key": "s3cret!"}',
        json.dumps({f"h{number}": "s3cret!" for number in range(17)}),
    ],
    "QUOTA_PENDING_RUNS": ["0", "1000", "-1", "1.5", "1e2", "many", "NaN", "off"],
    "QUOTA_STARTS_PER_MINUTE": ["0", "1001", "-1", "2.0", "٣"],
    "PROVIDER_CREATE_TIMEOUT_SECONDS": ["0", "201"],
    "PROVIDER_POLL_TIMEOUT_SECONDS": ["0", "61"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_a_wrong_value_is_refused_by_name_and_not_shown(name, value):
    [fault] = faults_of(GOOD | {name: value})
    assert name in fault
    assert "s3cret" not in fault


RESERVED = [
    "Host",
    "Connection",
    "Keep-Alive",
    "Proxy-Connection",
    "Upgrade",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Content-Length",
    "Expect",
    "Content-Type",
    "Content-Encoding",
    "Accept",
    "Accept-Encoding",
    "Authorization",
    "Idempotency-Key",
]


@pytest.mark.parametrize("name", [*RESERVED, *map(str.lower, RESERVED), "AUTHORIZATION"])
def test_a_header_that_is_set_already_is_refused_by_name(name):
    [fault] = faults_of(GOOD | {"PROVIDER_HEADERS": json.dumps({"api-key": "a", name: "s3cret!"})})
    assert fault.startswith(f"PROVIDER_HEADERS must not have {name}: ")
    assert "s3cret!" not in fault


def test_authorization_is_refused_with_the_settings_that_set_it():
    [fault] = faults_of(GOOD | {"PROVIDER_HEADERS": '{"authorization": "Basic s3cret!"}'})
    assert "OPENAI_API_KEY" in fault


def test_all_faults_of_the_headers_are_listed_at_once():
    headers = {"Host": "a", "a b": 7, "x-team": "a\n", "Cookie": None}
    faults = faults_of(GOOD | {"PROVIDER_HEADERS": json.dumps(headers), "POLL_FANOUT": "yes"})
    assert len(faults) == 6
    assert [fault for fault in faults if "header 2" in fault] == list(faults[1:3])
    for name in ("Host", "x-team", "Cookie"):
        assert any(name in fault for fault in faults), name


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"api-key": "k" * 4_096},
        {"n" * 64: "a"},
        {"!#$%&'*+-.^_`|~09azAZ": '!"~ ~'},
        {"User-Agent": "mine/1.0 (x)", "OpenAI-Organization": "org_1", "Cookie": "a=b"},
        {f"h{number}": "a" for number in range(16)},
    ],
    ids=["none", "long value", "long name", "odd characters", "replaceable", "many"],
)
def test_headers_within_the_limits_are_taken_as_they_are(headers):
    assert load(GOOD | {"PROVIDER_HEADERS": json.dumps(headers)}).provider.headers == headers


def test_the_values_of_headers_are_in_no_representation():
    settings = load(GOOD | {"PROVIDER_HEADERS": '{"api-key": "s3cret!"}'})
    assert "s3cret!" not in repr(settings) + str(settings)
