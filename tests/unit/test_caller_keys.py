"""The app's own keys: where one may be sent, and how it is compared."""

import hashlib
import hmac

import pytest

from shared.core.caller import ApiKey, Caller, Recognition, Role, granted
from shared.errors import Unauthenticated
from shared.web.callers import keys
from shared.web.callers.credentials import credential_callers
from shared.web.callers.keys import KeyRing
from shared.web.http import Request
from tests.support.client import Client
from tests.support.principals import HEADER, claims, principal

KEY = "baton-" + "0123456789abcdef" * 4
HEADERS = ["authorization", "api-key", "x-functions-key"]


def api_key(name: str, key: str, *roles: str) -> ApiKey:
    return ApiKey(name, granted(roles or ["caller"]), hashlib.sha256(key.encode()).digest())


RING = [
    api_key("nightly", KEY),
    api_key("default", "default"),
    api_key("admin", "an-admin", "admin"),
    api_key("reader", "a-reader", "reader"),
    api_key("nightly", "the-next-key", "caller"),
    api_key("nightly", "only-reads", "reader"),
    api_key("approver", "an-approver", "approver"),
]
CALLERS = credential_callers(RING, frozenset())


def caller(headers: dict[str, str], **query: str) -> Caller:
    return CALLERS(Request(url="https://app.example/api/runs", headers=headers, query=query))


def refusal(headers: dict[str, str], **query: str) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as refused:
        caller(headers, **query)
    return refused.value


def value(header: str, key: str) -> str:
    return f"Bearer {key}" if header == "authorization" else key


@pytest.mark.parametrize("header", HEADERS)
def test_a_key_comes_in_one_of_three_headers(header):
    found = caller({header: value(header, KEY)})
    assert found == Caller("key:nightly", frozenset({Role.READER, Role.CALLER}), Recognition.API_KEY)


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer"])
def test_a_scheme_may_be_in_any_case(scheme):
    assert caller({"authorization": f"{scheme} {KEY}"}).owner == "key:nightly"


def test_a_request_without_a_key_says_nothing_about_anybody():
    assert refusal({}).code == "caller_missing"
    assert refusal({}).sign_in is None


AROUND = [
    f"{KEY},{KEY}",
    f"{KEY}, {KEY}",
    f"wrong,{KEY}",
    f"{KEY},",
    f",{KEY}",
    f" {KEY}",
    f"{KEY} ",
    f"{KEY}\t",
    f"\t{KEY}",
    f"{KEY}\r\n",
    f"{KEY}\n",
    f"\n{KEY}",
    f"{KEY}\r\n {KEY}",
    f"{KEY[:20]}\r\n {KEY[20:]}",
    f"{KEY}\x00",
    f"{KEY}\x0b",
    f"{KEY}\u00a0",
    f"{KEY}\u200b",
    f"{KEY}\ufeff",
]


@pytest.mark.parametrize("key", AROUND, ids=ascii)
@pytest.mark.parametrize("header", HEADERS)
def test_a_doubled_or_folded_header_is_refused_and_nothing_is_trimmed(header, key):
    assert refusal({header: value(header, key)}).code == "invalid_key"
    # Not even if somebody has made a key of just that.
    callers = credential_callers([api_key("odd", key)], frozenset())
    with pytest.raises(Unauthenticated):
        callers(Request(url="", headers={header: value(header, key)}))


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize(
    "key",
    [
        "",
        "wrong",
        KEY[:-1],
        KEY + "0",
        KEY.upper(),
        "é",
        "k\u00e9y",
        "\U0001f511",
        "\udcff",
        "\uff42aton",
        "k" * (keys.MAX_KEY_CHARACTERS + 1),
        KEY * 20_000,
        hashlib.sha256(KEY.encode()).hexdigest(),
        "key:nightly",
        f'"{KEY}"',
        "nightly",
    ],
    ids=lambda key: ascii(key[:20]),
)
def test_a_wrong_key_is_refused_and_not_repeated(header, key):
    error = refusal({header: value(header, key)})
    assert error.code == "invalid_key"
    assert len(key) < 9 or key not in str(error)
    assert not any(entry.digest.hex() in str(error) for entry in RING)


def test_a_key_of_the_greatest_length_counts():
    longest = "k" * keys.MAX_KEY_CHARACTERS
    callers = credential_callers([api_key("long", longest)], frozenset())
    assert callers(Request(url="", headers={"api-key": longest})).owner == "key:long"
    callers = credential_callers([api_key("longer", longest + "k")], frozenset())
    with pytest.raises(Unauthenticated):
        callers(Request(url="", headers={"api-key": longest + "k"}))


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        KEY,
        f"Basic {KEY}",
        f"Bearer  {KEY}",
        f"Bearer\t{KEY}",
        f"Bearer{KEY}",
        f" Bearer {KEY}",
        f"Bearer {KEY}, Bearer {KEY}",
        f"Token {KEY}",
        f"bearer:{KEY}",
    ],
)
def test_authorization_is_bearer_and_a_key(authorization):
    assert refusal({"authorization": authorization}).code == "invalid_key"


def test_the_same_key_may_come_in_several_headers():
    assert caller({header: value(header, KEY) for header in HEADERS}).owner == "key:nightly"


@pytest.mark.parametrize("other", ["wrong", "a-reader"])
@pytest.mark.parametrize("header", HEADERS)
def test_different_keys_in_several_headers_are_refused(header, other):
    headers = {each: value(each, other if each == header else KEY) for each in HEADERS}
    assert refusal(headers).code == "keys_differ"
    # An empty one is no key, and is not left out either.
    headers[header] = ""
    assert refusal(headers).code == "invalid_key"


@pytest.mark.parametrize(
    "name",
    ["code", "Code", "key", "api-key", "api_key", "apikey", "access_token", "token", "x-functions-key"],
)
@pytest.mark.parametrize("key", [KEY, "wrong"])
@pytest.mark.parametrize("headers", [{}, {"api-key": KEY}, {"api-key": "wrong"}], ids=str)
def test_a_key_in_the_url_is_refused_and_has_to_be_replaced(name, key, headers):
    error = refusal(headers, **{name: key})
    assert (error.code, error.field) == ("key_in_url", name.lower())
    assert "replace" in str(error)
    assert "logged" in str(error)
    assert key not in str(error)


def test_other_parameters_are_no_keys():
    assert caller({"api-key": KEY}, limit="1", code="", **{"subscription-key": "of a gateway"}).owner


@pytest.mark.parametrize("key", [KEY, "default", "an-approver", "wrong"])
def test_every_entry_is_compared_by_its_hash_whatever_fits(key):
    compared = []

    def equal(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    ring = KeyRing(RING, equal)
    try:
        ring.caller(key)
    except Unauthenticated:
        assert key == "wrong"
    digest = hashlib.sha256(key.encode()).digest()
    assert compared == [(entry.digest, digest) for entry in RING]


def test_keys_are_compared_in_constant_time_unless_a_test_says_otherwise():
    assert KeyRing(RING)._equal is hmac.compare_digest


def test_names_of_keys_are_no_names_of_other_owners():
    assert caller({"api-key": "default"}).owner == "key:default"


# Requests.


def client(world, **headers: str) -> Client:
    return Client.with_callers(
        world.context, CALLERS, {name.replace("_", "-"): text for name, text in headers.items()}
    )


async def test_a_refused_key_is_a_401_that_says_how_to_send_one(world):
    for headers, code in (({}, "caller_missing"), ({"api_key": "wrong"}, "invalid_key")):
        asking = client(world, **headers)
        for reply in (await asking.get("/runs"), await asking.start(), await asking.get("/me")):
            assert (reply.status, reply.json["code"]) == (401, code)
            assert reply.headers["WWW-Authenticate"] == "Bearer"
            assert "sign_in" not in reply.json
    assert world.table.taken() == {}


async def test_the_page_and_the_document_need_no_caller(world):
    for headers in ({}, {"api_key": "wrong"}):
        for template in ("/openapi.json", "/dashboard"):
            assert (await client(world, **headers).get(template)).status == 200


async def test_a_monitor_without_a_key_gets_a_status_and_one_with_a_wrong_key_is_told(world):
    assert (await client(world).get("/health")).json == {"status": "ok"}
    assert (await client(world, api_key="a-reader").get("/health")).json == {"status": "ok"}
    assert "pending" in (await client(world, api_key="an-admin").get("/health")).json
    assert (await client(world, api_key="wrong").get("/health")).json["code"] == "invalid_key"
    assert (await client(world).get("/health", code=KEY)).json["code"] == "key_in_url"


async def test_a_sign_in_that_anybody_can_forge_is_not_looked_at(world):
    """Without tenants nobody can sign in, and the platform may not replace the header."""
    forged = {HEADER: principal(claims("reader", "caller", "approver", "admin"))}
    forged |= {"X-MS-CLIENT-PRINCIPAL-ID": "b", "X-MS-CLIENT-PRINCIPAL-IDP": "aad"}
    plain = await Client.with_callers(world.context, CALLERS, {}).get("/runs")
    for headers in (forged, {HEADER: "not base64"}, {HEADER: "x" * 2**20}, {HEADER: ""}):
        reply = await Client.with_callers(world.context, CALLERS, headers).get("/runs")
        assert (reply.status, reply.json) == (plain.status, plain.json)
    assert plain.json["code"] == "caller_missing"


async def test_keys_of_one_name_have_the_same_runs_and_each_its_own_roles(world):
    one, following, reading = (
        client(world, x_functions_key=key) for key in (KEY, "the-next-key", "only-reads")
    )
    run_id = (await one.start()).json["id"]
    assert [(await each.get("/runs/{run_id}", run_id)).status for each in (one, following, reading)] == [
        200
    ] * 3
    assert (await reading.post("/runs/{run_id}/cancel", run_id)).json["code"] == "role_missing"
    assert (await following.post("/runs/{run_id}/cancel", run_id)).status in {200, 202}


async def test_a_key_has_its_own_runs(world):
    other = credential_callers([*RING, api_key("other", "other")], frozenset())
    nightly, stranger = (
        Client.with_callers(world.context, other, {"api-key": key}) for key in (KEY, "other")
    )
    run = (await nightly.start()).json
    assert (await nightly.get("/runs/{run_id}", run["id"])).status == 200
    assert (await stranger.get("/runs/{run_id}", run["id"])).json["code"] == "run_not_found"
    assert (await stranger.get("/runs")).json["data"] == []
    # Those who had everything while there were no callers are another owner.
    assert (await Client(world.context).get("/runs/{run_id}", run["id"])).status == 404
    assert (await Client(world.context, owner="nightly").get("/runs/{run_id}", run["id"])).status == 404
    assert (await Client(world.context, owner="key:nightly").get("/runs")).status == 401


async def test_input_of_an_app_with_callers_has_no_ids(world):
    part = {"type": "input_file", "file_id": "file-1"}
    given = [{"role": "user", "content": [part]}]
    assert (await Client(world.context).start(input=given)).status == 202
    assert (await client(world, api_key=KEY).start(input=given)).json["code"] == "input_not_allowed"
