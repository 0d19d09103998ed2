"""The settings that say who may send requests: all faults at once, and none shows a hash."""

import hashlib
import json

import pytest

from dev import key as key_command
from shared import access_settings
from shared.core.caller import Role
from shared.errors import InvalidSettings
from shared.settings import load
from tests.unit.test_settings import GOOD, faults_of

DIGEST = hashlib.sha256(b"a key").hexdigest()
OTHER = hashlib.sha256(b"another").hexdigest()
TENANT = "11111111-2222-3333-4444-555555555555"
ENTRY = {"name": "nightly", "roles": ["caller"], "sha256": DIGEST}
KEYS = {"AUTH": "callers", "API_KEYS": json.dumps([ENTRY])}
PEOPLE = {"AUTH": "callers", "ENTRA_TENANTS": TENANT, "WEBSITE_AUTH_ENABLED": "True"}


def test_without_settings_the_host_decides_who_sends_requests():
    for environment in (GOOD, GOOD | {"AUTH": "function"}, GOOD | {"WEBSITE_AUTH_ENABLED": "True"}):
        access = load(environment).access
        assert (access.own, access.host_level, access.keys, access.tenants) == (
            False,
            "FUNCTION",
            (),
            frozenset(),
        )


def test_keys_are_read():
    access = load(
        GOOD
        | {
            "AUTH": " callers ",
            "API_KEYS": json.dumps(
                [ENTRY, {"sha256": OTHER.upper(), "roles": ["reader", "admin"], "name": "default"}]
            ),
        }
    ).access
    assert (access.own, access.host_level) == (True, "ANONYMOUS")
    assert [key.name for key in access.keys] == ["nightly", "default"]
    # A caller is a reader too.
    assert access.keys[0].roles == {Role.CALLER, Role.READER}
    assert access.keys[1].roles == {Role.READER, Role.ADMIN}
    assert [key.digest.hex() for key in access.keys] == [DIGEST, OTHER]


def test_people_of_some_tenants_may_sign_in():
    more = f" {TENANT.upper()} , 99999999-2222-3333-4444-555555555555"
    assert load(GOOD | PEOPLE).access.tenants == {TENANT}
    assert load(GOOD | PEOPLE | {"ENTRA_TENANTS": more}).access.tenants == {
        TENANT,
        "99999999-2222-3333-4444-555555555555",
    }
    stated = PEOPLE | {"WEBSITE_AUTH_ENABLED": "", "EASY_AUTH": "on"}
    assert load(GOOD | stated).access.tenants == {TENANT}


def test_an_app_with_callers_has_several_owners():
    assert load(GOOD).single_owner is True
    assert load(GOOD | {"OWNER_HEADER": "X-Owner"}).single_owner is False
    assert load(GOOD | KEYS).single_owner is False
    [fault] = faults_of(GOOD | KEYS | {"INPUT_ITEMS": "any"})
    assert "INPUT_ITEMS" in fault
    assert "AUTH=callers" in fault


@pytest.mark.parametrize("value", ["", "false", "False", "1", "on", "yes", "tru\u0435"])
def test_a_sign_in_counts_only_where_the_platform_says_that_it_is_on(value):
    [fault] = faults_of(GOOD | PEOPLE | {"WEBSITE_AUTH_ENABLED": value})
    assert fault.startswith("ENTRA_TENANTS")
    assert "EASY_AUTH=on" in fault
    # Not with keys beside it either: half of what was set would not work.
    [fault] = faults_of(GOOD | PEOPLE | KEYS | {"WEBSITE_AUTH_ENABLED": value})
    assert fault.startswith("ENTRA_TENANTS")


COMBINATIONS = {
    "nobody": ({"AUTH": "callers"}, ["AUTH=callers"]),
    "nobody, though the platform signs in": (
        {"AUTH": "callers", "WEBSITE_AUTH_ENABLED": "true"},
        ["AUTH=callers"],
    ),
    "two ways to name owners": (KEYS | {"OWNER_HEADER": "X-Owner"}, ["OWNER_HEADER"]),
    "keys that protect nothing": ({"API_KEYS": KEYS["API_KEYS"]}, ["API_KEYS"]),
    "tenants that protect nothing": (
        {"ENTRA_TENANTS": TENANT, "WEBSITE_AUTH_ENABLED": "true"},
        ["ENTRA_TENANTS"],
    ),
    "a statement that protects nothing": ({"EASY_AUTH": "on"}, ["EASY_AUTH"]),
    "a statement without tenants": (KEYS | {"EASY_AUTH": "on"}, ["EASY_AUTH=on"]),
    "everything": (
        {
            "AUTH": "callers",
            "OWNER_HEADER": "X-Owner",
            "API_KEYS": "7",
            "ENTRA_TENANTS": "contoso",
            "EASY_AUTH": "yes",
        },
        ["EASY_AUTH", "API_KEYS", "ENTRA_TENANTS", "OWNER_HEADER", "ENTRA_TENANTS"],
    ),
}


@pytest.mark.parametrize("name", COMBINATIONS)
def test_settings_that_do_not_go_together_are_refused(name):
    environment, expected = COMBINATIONS[name]
    faults = faults_of(GOOD | environment | {"POLL_FANOUT": "maybe"})
    assert [fault.split()[0] for fault in faults[:-1]] == expected
    # All faults are listed at once, those of other settings too.
    assert faults[-1].startswith("POLL_FANOUT")


def entry(**changes: object) -> str:
    return json.dumps([ENTRY | changes])


WRONG_KEYS = [
    "s3cret",
    "{",
    "null",
    "[]",
    "{}",
    '"s3cret"',
    json.dumps(ENTRY),
    "[" * 100_000,
    "9" * 5_000,
    json.dumps(["s3cret"]),
    json.dumps([[["name", "a"]]]),
    json.dumps([None]),
    entry(extra="s3cret"),
    json.dumps([{name: ENTRY[name] for name in ("name", "roles")}]),
    f'[{{"name": "a", "name": "b", "roles": ["reader"], "sha256": "{DIGEST}"}}]',
    f'[{{"name": "a", "roles": ["reader"], "sha256": "{DIGEST}", "sha256": "{OTHER}"}}]',
    *[entry(name=name) for name in (7, None, "", " a", "a b", "a:b", "é", "a\n", "s" * 65, ["a"], {"a": 1})],
    *[
        entry(roles=roles)
        for roles in (
            [],
            None,
            "reader",
            ["Reader"],
            ["owner"],
            ["reader", "reader"],
            [7],
            [None],
            [["reader"]],
            {"reader": 1},
        )
    ],
    *[
        entry(sha256=text)
        for text in (
            7,
            None,
            "",
            DIGEST[1:],
            DIGEST + "0",
            DIGEST[:-1] + "g",
            DIGEST[:-1] + "\uff10",
            f" {DIGEST}",
            f"sha256:{DIGEST}",
            [DIGEST],
            hashlib.sha256(b"").hexdigest(),
        )
    ],
    json.dumps([ENTRY, ENTRY | {"name": "other"}]),
    json.dumps([ENTRY, ENTRY | {"name": "other", "sha256": DIGEST.upper()}]),
    json.dumps(
        [
            ENTRY | {"name": str(number), "sha256": f"{number:064x}"}
            for number in range(access_settings.MAX_KEYS + 1)
        ]
    ),
]


@pytest.mark.parametrize("text", WRONG_KEYS, ids=lambda text: text[:60])
def test_wrong_keys_are_refused_and_not_shown(text):
    faults = faults_of(GOOD | {"AUTH": "callers", "API_KEYS": text})
    assert {fault.split()[0] for fault in faults} == {"API_KEYS"}
    for fault in faults:
        assert len(fault) < 200
        for secret in (DIGEST, DIGEST[1:], OTHER, "s3cret", "nightly"):
            assert secret.lower() not in fault.lower()


def test_all_faults_of_the_keys_are_listed_at_once():
    entries = [ENTRY | {"roles": [], "name": ""}, ENTRY, ENTRY | {"sha256": "0"}]
    faults = faults_of(GOOD | {"AUTH": "callers", "API_KEYS": json.dumps(entries)})
    assert [("key 1 " in fault, "key 3 " in fault) for fault in faults] == [
        (True, False),
        (True, False),
        (False, True),
    ]


def test_as_many_keys_as_allowed_are_read():
    entries = [
        ENTRY | {"name": str(number), "sha256": f"{number:064x}"}
        for number in range(access_settings.MAX_KEYS)
    ]
    assert len(load(GOOD | {"AUTH": "callers", "API_KEYS": json.dumps(entries)}).access.keys) == 100


@pytest.mark.parametrize(
    "text",
    [
        "contoso",
        "contoso.onmicrosoft.com",
        TENANT[:-1],
        "{" + TENANT + "}",
        TENANT.replace("-", ""),
        f"{TENANT},",
        f"{TENANT} {TENANT}",
        TENANT[:-1] + "\uff15",
        "*",
        ",".join(f"{number:08}{TENANT[8:]}" for number in range(21)),
    ],
)
def test_tenants_are_ids(text):
    faults = faults_of(GOOD | PEOPLE | {"ENTRA_TENANTS": text})
    assert [fault.split()[0] for fault in faults] == ["ENTRA_TENANTS"]


@pytest.mark.parametrize("value", ["Callers", "anonymous", "off", "none", "callers,function"])
def test_there_are_two_ways_to_let_requests_in(value):
    [fault] = faults_of(GOOD | {"AUTH": value})
    assert fault.startswith("AUTH must be one of")


def test_an_unknown_way_does_not_hide_the_faults_of_what_belongs_to_it():
    wrong = {"AUTH": "caller", "API_KEYS": "7", "ENTRA_TENANTS": "contoso", "EASY_AUTH": "yes"}
    faults = faults_of(GOOD | wrong | {"POLL_FANOUT": "maybe"})
    assert [fault.split()[0] for fault in faults] == [
        "AUTH",
        "EASY_AUTH",
        "API_KEYS",
        "ENTRA_TENANTS",
        "POLL_FANOUT",
    ]
    # What goes together with which way is not known yet.
    assert len(faults_of(GOOD | KEYS | PEOPLE | {"AUTH": "caller", "OWNER_HEADER": "X-Owner"})) == 1


def test_hashes_are_in_no_representation():
    settings = load(GOOD | KEYS)
    shown = repr(settings) + str(settings)
    assert DIGEST not in shown
    assert repr(bytes.fromhex(DIGEST)) not in shown


# `python -m dev key`.


def test_the_command_makes_a_key_that_the_app_accepts(capsys):
    made = set()
    for _ in range(2):
        assert key_command.main(["nightly", "caller", "admin"]) == 0
        shown = capsys.readouterr().out
        [key] = [line.split()[-1] for line in shown.splitlines() if line.startswith("key")]
        [text] = [
            line.partition("API_KEYS")[2].strip()
            for line in shown.splitlines()
            if line.startswith("API_KEYS")
        ]
        assert shown.count(key) == 1
        [made_key] = load(GOOD | {"AUTH": "callers", "API_KEYS": f"[{text}]"}).access.keys
        assert made_key.name == "nightly"
        assert made_key.roles == {Role.READER, Role.CALLER, Role.ADMIN}
        assert made_key.digest == hashlib.sha256(key.encode()).digest()
        # 256 bits, in hexadecimal digits.
        assert len(key.rpartition("-")[2]) == 64
        made.add(key)
    assert len(made) == 2


@pytest.mark.parametrize(
    "arguments", [[], ["nightly"], ["a b", "reader"], ["nightly", "Reader"], ["nightly", "reader", "reader"]]
)
def test_the_command_makes_no_key_that_the_app_would_refuse(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        key_command.main(arguments)
    assert end.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "usage:" in shown.err


def test_the_setting_of_the_command_is_one_that_load_refuses_without_callers():
    with pytest.raises(InvalidSettings):
        load(GOOD | {"API_KEYS": KEYS["API_KEYS"]})
