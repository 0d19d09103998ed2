"""Who the platform says has signed in, and what of it is believed."""

import base64
import json

import pytest

from shared.core.caller import Caller, Recognition, Role
from shared.errors import Forbidden, Unauthenticated
from shared.web.callers import principal as module
from shared.web.callers.credentials import credential_callers
from shared.web.http import Request
from tests.support.client import Client
from tests.support.principals import (
    HEADER,
    NAME_CLAIM,
    OBJECT,
    OBJECT_CLAIM,
    ROLE_CLAIM,
    TENANT,
    TENANT_CLAIM,
    claims,
    encoded,
    principal,
)
from tests.unit.test_caller_keys import KEY, RING

OWNER = f"aad:{TENANT}:{OBJECT}"
CALLERS = credential_callers(RING, frozenset({TENANT}))
# Three parts of base64, as a token of Entra has them.
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJ0aWQiOiJhIn0.c2lnbmF0dXJl"
OWN_PAGE = {"sec-fetch-site": "same-origin", "origin": "https://app.example"}


def caller(value: str, **headers: str) -> Caller:
    return CALLERS(Request(url="https://app.example/api/runs", headers={HEADER.lower(): value, **headers}))


def refusal(value: str, **headers: str) -> Unauthenticated | Forbidden:
    with pytest.raises((Unauthenticated, Forbidden)) as refused:
        caller(value, **headers)
    return refused.value


def test_a_person_is_an_owner_by_tenant_and_object_and_never_by_name():
    assert caller(principal(claims("caller"))) == Caller(
        OWNER, frozenset({Role.READER, Role.CALLER}), Recognition.SIGN_IN, "Ann Example"
    )


def test_claims_may_have_their_short_names():
    short = [("tid", TENANT), ("oid", OBJECT), (ROLE_CLAIM, "reader")]
    assert caller(principal(short)) == Caller(OWNER, frozenset({Role.READER}), Recognition.SIGN_IN)


def test_ids_are_compared_in_lower_case():
    assert caller(principal(claims("reader", tenant=TENANT.upper(), person=OBJECT.upper()))).owner == OWNER


WRONG_IDS = [
    "",
    "default",
    "key:nightly",
    OBJECT[:-1],
    f"{OBJECT}0",
    f" {OBJECT}",
    f"{OBJECT}\n",
    f"{OBJECT}:x",
    OBJECT.replace("-", ""),
    "{" + OBJECT + "}",
    OBJECT[:-1] + "\uff19",
    OBJECT[:-1] + "\u0669",
    OBJECT.replace("b", "\u0432"),
    OBJECT.replace("-", "\u2010"),
    OBJECT + "\u200b",
    "\u202e" + OBJECT,
]


@pytest.mark.parametrize("value", WRONG_IDS, ids=ascii)
@pytest.mark.parametrize("which", ["tenant", "person"])
def test_ids_are_guids_of_ascii(which, value):
    error = refusal(principal(claims("caller", **{which: value})))
    assert error.code == "invalid_principal"


@pytest.mark.parametrize(("kind", "value"), [("tid", TENANT), ("oid", OBJECT)])
@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("long", [True, False])
def test_a_claim_of_an_id_that_comes_twice_is_refused(kind, value, same, long):
    named = {"tid": TENANT_CLAIM, "oid": OBJECT_CLAIM}[kind] if long else kind
    again = (named, value if same else "cccccccc-2222-3333-4444-555555555555")
    for order in (claims("caller", more=[again]), [again, *claims("caller")]):
        assert refusal(principal(order)).code == "invalid_principal"


@pytest.mark.parametrize("missing", [TENANT_CLAIM, OBJECT_CLAIM])
def test_a_claim_of_an_id_must_be_there(missing):
    rest = [claim for claim in claims("caller") if claim[0] != missing]
    assert refusal(principal(rest)).code == "invalid_principal"
    # Not under another name, in another case or with spaces.
    for name in ("TID", "tid ", "tenantid", "http://schemas.microsoft.com/identity/claims/TenantId", "sub"):
        assert refusal(principal([*rest, (name, OBJECT)])).code == "invalid_principal"


def test_another_tenant_is_refused():
    error = refusal(principal(claims("admin", tenant="cccccccc-2222-3333-4444-555555555555")))
    assert isinstance(error, Forbidden)
    assert error.code == "tenant_not_allowed"


@pytest.mark.parametrize("provider", ["google", "facebook", "github", "AAD", "aad ", "twitter", "aadb2c", ""])
def test_another_identity_provider_is_refused(provider):
    error = refusal(principal(claims("admin"), auth_typ=provider))
    assert isinstance(error, Forbidden)
    assert error.code == "identity_provider_not_allowed"


@pytest.mark.parametrize(
    "roles",
    [
        [],
        ["Caller"],
        ["caller "],
        ["callers"],
        ["reader,caller"],
        ['["caller"]'],
        ["owner"],
        ["\uff52eader"],
        ["Baton.Caller"],
    ],
)
def test_a_person_without_a_role_is_told_what_an_administrator_has_to_do(roles):
    error = refusal(principal(claims(*roles)))
    assert isinstance(error, Forbidden)
    assert error.code == "no_role"
    assert "administrator" in str(error)
    for role in Role:
        assert role in str(error)


def test_roles_are_claims_of_roles_and_no_others():
    others = ["groups", "scp", "wids", "role", "name", NAME_CLAIM, "preferred_username"]
    assert refusal(principal(claims(more=[(kind, "admin") for kind in others]))).code == "no_role"
    own = principal([*claims("reader"), ("my_roles", "admin")], role_typ="my_roles")
    assert caller(own).roles == {Role.READER, Role.ADMIN}


@pytest.mark.parametrize("kind", ["name", NAME_CLAIM, "tid", "oid", TENANT_CLAIM])
def test_what_people_are_called_gives_no_role(kind):
    called = claims(name="admin", more=[(NAME_CLAIM, "admin")])
    assert refusal(principal(called, role_typ=kind)).code == "invalid_principal"


NAMES = {
    "Ann": "Ann",
    "  Ann  ": "Ann",
    "\u202eAnn\u200b\x00\n": "Ann",
    "Zo\u00eb \u6f22\u5b57 \U0001f600": "Zo\u00eb \u6f22\u5b57 \U0001f600",
    "<b>Ann</b>": "<b>Ann</b>",
    "x" * 500: "x" * 127 + "\u2026",
    "\u200b\x00": "ann@by.type",
    "": "ann@by.type",
}


@pytest.mark.parametrize(("name", "shown"), NAMES.items(), ids=ascii)
def test_a_name_is_shown_without_what_cannot_be_seen(name, shown):
    value = principal(claims("reader", name=name, more=[(NAME_CLAIM, "ann@by.type")]))
    found = caller(value)
    assert (found.name, found.owner) == (shown, OWNER)


def test_a_lone_surrogate_in_a_name_is_not_shown():
    assert caller(principal(claims("reader", name="Ann\ud800"))).name == "Ann"


def claim_list(*items: object) -> str:
    return encoded({"auth_typ": "aad", "name_typ": "n", "role_typ": "r", "claims": list(items)})


GOOD = principal(claims("admin"))
MALFORMED = {
    "empty": "",
    "a space": " ",
    "not base64": "not base64!",
    "half of it": GOOD[: len(GOOD) // 2 + 1],
    "doubled": f"{GOOD},{GOOD}",
    "doubled with a space": f"{GOOD}, {GOOD}",
    "two in one": GOOD.rstrip("=") + GOOD,
    "folded": f"{GOOD[:40]}\r\n {GOOD[40:]}",
    "a line break": f"{GOOD}\n",
    "a space before": f" {GOOD}",
    "in the alphabet of URLs": base64.urlsafe_b64encode(b'{"a": "\xff\xef\xbe"}').decode(),
    "fullwidth": GOOD.replace("A", "\uff21"),
    "a surrogate": "\udcff",
    "1 MiB": "A" * 2**20,
    "1 MiB of an object": encoded(b'{"claims": "' + b"a" * 2**20 + b'"}'),
    "not JSON": encoded(b"hello"),
    "not UTF-8": encoded(b'{"auth_typ": "\xff"}'),
    "UTF-16": encoded(json.dumps({"auth_typ": "aad", "claims": []}).encode("utf-16")),
    "a byte order mark": encoded(b"\xef\xbb\xbf" + base64.b64decode(GOOD)),
    "NaN": encoded(b"NaN"),
    "a list": encoded([]),
    "a text": encoded("aad"),
    "null": encoded(None),
    "deep lists": encoded(b"[" * 20_000),
    "deep claims": encoded(b'{"claims": ' + b"[" * 9 + b"]" * 9 + b"}"),
    "deep objects": encoded(b'{"a":' * 4_000 + b"1" + b"}" * 4_000),
    "many marks": encoded(b'{"a": [' + b",".join([b"[]"] * 10_000) + b"]}"),
    "a long number": encoded(b'{"claims": ' + b"9" * 5_000 + b"}"),
    "no claims": encoded({"auth_typ": "aad", "name_typ": "n", "role_typ": "r"}),
    "claims that are an object": encoded({"auth_typ": "aad", "claims": {"typ": "tid", "val": TENANT}}),
    "claims that are no objects": claim_list("tid", TENANT),
    "a claim without a value": claim_list({"typ": "tid"}),
    "a claim that is null": claim_list(None),
    "a value that is a number": claim_list({"typ": "tid", "val": 7}),
    "a value that is a list": claim_list({"typ": "roles", "val": ["admin"]}),
    "a type that is null": claim_list({"typ": None, "val": "admin"}),
    "many marks beside the claims": principal(claims("admin"), more=[[]] * 5_000),
    "too many claims": principal([*claims("admin"), *[("g", "1")] * module.MAX_CLAIMS]),
    "a provider twice": encoded(b'{"auth_typ": "google", ' + base64.b64decode(GOOD)[1:]),
    "claims twice": encoded(base64.b64decode(GOOD)[:-1] + b', "claims": []}'),
    "a value twice": encoded(
        base64.b64decode(GOOD).replace(b'"val": "admin"', b'"val": "admin", "val": "reader"')
    ),
    "a provider that is a list": principal(claims("admin"), auth_typ=["aad"]),
    "a role type that is a list": principal(claims("admin"), role_typ=["name"]),
    "as Static Web Apps sends it": encoded(
        {"identityProvider": "aad", "userId": OBJECT, "userRoles": ["admin"]}
    ),
}


@pytest.mark.parametrize("value", MALFORMED.values(), ids=MALFORMED)
async def test_what_the_platform_does_not_send_is_refused(world, value):
    error = refusal(value)
    assert isinstance(error, Unauthenticated)
    assert error.code == "invalid_principal"
    reply = await Client.with_callers(world.context, CALLERS, {HEADER: value}).get("/runs")
    assert (reply.status, reply.json["code"]) == (401, "invalid_principal")
    assert len(reply.text) < 500
    assert reply.headers["WWW-Authenticate"] == "Bearer"


def test_a_value_at_its_limits_counts():
    many = claims("admin", more=[("g", "1")] * (module.MAX_CLAIMS - len(claims("admin"))))
    assert caller(principal(many)).owner == OWNER
    rest = (module.MAX_PRINCIPAL_CHARACTERS - len(principal(claims("admin", more=[("g", "")])))) // 4 * 3
    long = principal(claims("admin", more=[("g", "x" * (rest - 3))]))
    assert module.MAX_PRINCIPAL_CHARACTERS - 16 < len(long) <= module.MAX_PRINCIPAL_CHARACTERS
    assert caller(long).owner == OWNER
    assert refusal(principal(claims("admin", more=[("g", "x" * (rest + 9))]))).code == "invalid_principal"


# A key and a sign-in.


def test_a_key_that_was_sent_counts_before_a_sign_in():
    assert caller(GOOD, **{"api-key": KEY}).owner == "key:nightly"
    assert caller("not base64", **{"api-key": KEY}).owner == "key:nightly"


@pytest.mark.parametrize(
    "headers",
    [
        {"api-key": "wrong"},
        {"api-key": ""},
        {"x-functions-key": "wrong"},
        {"authorization": "Bearer wrong"},
        {"authorization": "Basic eDp5"},
        {"authorization": f"Bearer {TOKEN} "},
        {"authorization": f"Bearer {TOKEN},{TOKEN}"},
    ],
    ids=str,
)
def test_a_wrong_key_is_refused_although_somebody_is_signed_in(headers):
    assert refusal(GOOD, **headers).code == "invalid_key"


def test_a_token_that_the_platform_has_checked_is_no_key():
    assert caller(GOOD, authorization=f"Bearer {TOKEN}").owner == OWNER
    assert refusal(GOOD, authorization=f"Bearer {TOKEN}", **{"api-key": KEY}).code == "keys_differ"
    # Without the platform's word it is a wrong key.
    with pytest.raises(Unauthenticated) as refused:
        CALLERS(Request(url="https://app.example/", headers={"authorization": f"Bearer {TOKEN}"}))
    assert refused.value.code == "invalid_key"
    without = credential_callers(RING, frozenset())
    with pytest.raises(Unauthenticated) as refused:
        without(
            Request(
                url="https://app.example/",
                headers={"authorization": f"Bearer {TOKEN}", HEADER.lower(): GOOD},
            )
        )
    assert refused.value.code == "invalid_key"


def test_a_key_in_the_url_is_refused_although_somebody_is_signed_in():
    request = Request(url="https://app.example/", headers={HEADER.lower(): GOOD}, query={"code": KEY})
    with pytest.raises(Unauthenticated) as refused:
        CALLERS(request)
    assert refused.value.code == "key_in_url"


# Requests.


async def test_who_is_not_signed_in_is_told_where_to(world):
    for headers in ({}, {"api-key": "wrong"}, {HEADER: "x"}):
        reply = await Client.with_callers(world.context, CALLERS, headers).get("/me")
        assert (reply.status, reply.json["sign_in"]) == (401, "/.auth/login/aad")


async def test_me_of_a_person_has_the_name_to_show(world):
    reply = await Client.with_callers(world.context, CALLERS, {HEADER: GOOD}).get("/me")
    assert reply.json == {
        "object": "caller",
        "owner": OWNER,
        "roles": ["admin"],
        "name": "Ann Example",
        "recognised_by": "sign_in",
    }
    nobody = Client.with_callers(world.context, CALLERS, {HEADER: principal(claims())})
    assert (await nobody.get("/me")).json["code"] == "no_role"
    # A page must be there to show that, and a monitor need not sign in.
    for template in ("/dashboard", "/openapi.json", "/health"):
        assert (await nobody.get(template)).status == 200


async def test_a_person_has_runs_that_nobody_else_sees(world):
    other = "cccccccc-6666-7777-8888-999999999999"
    ann, bob = (
        Client.with_callers(
            world.context, CALLERS, {HEADER: principal(claims("caller", person=person)), **OWN_PAGE}
        )
        for person in (OBJECT, other)
    )
    run = (await ann.start()).json
    assert (await ann.get("/runs/{run_id}", run["id"])).status == 200
    for client in (bob, Client.with_callers(world.context, CALLERS, {"api-key": KEY})):
        assert (await client.get("/runs/{run_id}", run["id"])).json["code"] == "run_not_found"
        assert (await client.get("/runs")).json["data"] == []
        assert (await client.delete("/runs/{run_id}", run["id"])).status == 404
    # The same person is the same owner under another name, and with a token.
    token = {
        HEADER: principal(claims("reader", person=OBJECT.upper(), name="Eve")),
        "authorization": f"Bearer {TOKEN}",
    }
    again = Client.with_callers(world.context, CALLERS, token)
    assert (await again.get("/runs/{run_id}", run["id"])).status == 200


# Changes that pages of other sites make.

OTHER_SITES = [
    {"sec-fetch-site": "cross-site", "origin": "https://evil.example"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site", "origin": "https://other.app.example"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "none"},
    {"sec-fetch-site": ""},
    {"sec-fetch-site": "same-origin, cross-site"},
    {"sec-fetch-site": "same-origin", "origin": "https://evil.example"},
    {"sec-fetch-site": "cross-site", "origin": "https://app.example"},
    {"origin": "https://evil.example"},
    {"origin": "https://app.example.evil.example"},
    {"origin": "https://evil.example/app.example"},
    {"origin": "https://app.example@evil.example"},
    {"origin": "https://evil-app.example"},
    {"origin": "https://app.example:8443"},
    {"origin": "http://app.example"},
    {"origin": "https://app.example, https://evil.example"},
    {"origin": "https://app.example,https://app.example"},
    {"origin": "null"},
    {"origin": ""},
    {"origin": "app.example"},
    {"origin": "file://app.example"},
    {"referer": "https://app.example/api/dashboard"},
    {},
]


@pytest.mark.parametrize("headers", OTHER_SITES, ids=str)
async def test_a_change_from_another_site_is_refused(world, headers):
    person = Client.with_callers(world.context, CALLERS, {HEADER: principal(claims("caller")), **headers})
    run_id = "run_0f" + "0" * 26
    for asking in (
        person.start(),
        person.post("/runs/{run_id}/cancel", run_id),
        person.delete("/runs/{run_id}", run_id),
    ):
        reply = await asking
        assert (reply.status, reply.json["code"]) == (403, "cross_site")
    assert world.table.taken() == {}
    assert (await person.get("/runs")).status == 200
    assert (await person.head("/runs")).status == 200
    # A browser sends no key by itself.
    key = Client.with_callers(world.context, CALLERS, {"api-key": KEY, **headers})
    assert (await key.start()).status == 202
    token = {HEADER: principal(claims("caller")), "authorization": f"Bearer {TOKEN}", **headers}
    assert (await Client.with_callers(world.context, CALLERS, token).start()).status == 202


def change(url: str, own: str | None = None, *, trust: bool = False, **headers: str) -> Caller:
    callers = credential_callers([], frozenset({TENANT}), public_base_url=own, trust_forwarded=trust)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    value = principal(claims("caller"))
    return callers(Request(url=url, method="DELETE", headers={HEADER.lower(): value, **given}))


def test_a_change_from_the_page_of_the_app_is_carried_out():
    own = "https://app.example/api/runs/x"
    for headers in (
        {"sec_fetch_site": "same-origin", "origin": "https://app.example"},
        {"sec_fetch_site": "same-origin"},
        {"origin": "https://app.example"},
        {"origin": "https://APP.example:443"},
    ):
        assert change(own, **headers).owner == OWNER
    assert change("http://127.0.0.1:7071/api/runs", origin="http://127.0.0.1:7071").owner == OWNER
    # TLS may end in front of the app.
    assert change("http://app.example/api/runs", origin="https://app.example").owner == OWNER
    assert change("https,http://app.example/api/runs", origin="https://app.example").owner == OWNER


def test_behind_a_proxy_its_name_is_that_of_the_app():
    inner = "https://inner.azurewebsites.net/api/runs"
    outer = {"origin": "https://outer.example", "sec_fetch_site": "same-origin"}
    assert change(inner, "https://outer.example/base", **outer).owner == OWNER
    assert change(inner, trust=True, x_forwarded_host="outer.example", **outer).owner == OWNER
    for unknown in ({}, {"own": "https://other.example"}):
        with pytest.raises(Forbidden):
            change(inner, **unknown, **outer)
    # Anybody can send this header.
    with pytest.raises(Forbidden):
        change(inner, x_forwarded_host="outer.example", **outer)


def test_without_a_host_that_is_one_only_the_browsers_word_counts():
    assert change("nonsense", sec_fetch_site="same-origin").owner == OWNER
    for origin in ("https://", "", "https://app.example", "://"):
        with pytest.raises(Forbidden):
            change("nonsense", origin=origin)
