"""The headers in which proxies name the scheme and host that a client used."""

import time

import pytest

from shared.web.forwarded import forwarded_host, forwarded_scheme

HOST_HEADERS = ["x-forwarded-host", "x-original-host"]


@pytest.mark.parametrize(
    ("value", "scheme", "host"),
    [
        ("for=192.0.2.1;host=api.contoso.com;proto=https", "https", "api.contoso.com"),
        ("Host=api.contoso.com;PROTO=HTTPS;By=x", "https", "api.contoso.com"),
        ('host="api.contoso.com";proto="http"', "http", "api.contoso.com"),
        ('host="api.contoso.com:8443"', None, "api.contoso.com:8443"),
        ("host=api.contoso.com:8443", None, "api.contoso.com:8443"),
        ('host="[2001:db8::1]"', None, "[2001:db8::1]"),
        ('host="[2001:db8::1]:8443";proto=https', "https", "[2001:db8::1]:8443"),
        ("host=[2001:db8::1]:8443", None, "[2001:db8::1]:8443"),
        (r'host="api\.contoso.com"', None, "api.contoso.com"),
        ('for="_a,b;host=evil.example";host=api.contoso.com', None, "api.contoso.com"),
        (r'for="\",host=evil.example";host=api.contoso.com', None, "api.contoso.com"),
        ("host=first.example;proto=https, host=second.example;proto=http", "https", "first.example"),
        ("host=first.example,host=second.example", None, "first.example"),
        ("proto=https, host=second.example", "https", None),
        (" ; host=a.example ;\tproto=https ; ", "https", "a.example"),
        (" , ,host=a.example", None, "a.example"),
        ("proto=ftp;host=a.example", None, "a.example"),
        ("proto=https;host=a.example, it does not=matter what=follows", "https", "a.example"),
        ("for=unknown", None, None),
        ("", None, None),
        (",;,", None, None),
    ],
)
def test_the_first_element_counts(value, scheme, host):
    headers = {"forwarded": value}
    assert (forwarded_scheme(headers), forwarded_host(headers)) == (scheme, host)


@pytest.mark.parametrize(
    "value",
    [
        'host="a.example',
        'host="a.example"x;proto=https',
        r'host="a.example\"',
        "host =a.example;proto=https",
        "host= a.example;proto=https",
        "host;proto=https",
        "=a.example;proto=https",
        "host=a.example proto=https",
        "host=a.example;host=b.example;proto=https",
        "host=a.example;Host=a.example;proto=https",
        "proto=https;h\u00f6st=a.example",
    ],
)
def test_an_element_that_breaks_the_grammar_does_not_count_at_all(value):
    headers = {"forwarded": value}
    assert forwarded_scheme(headers) is forwarded_host(headers) is None


@pytest.mark.parametrize("value", ["http", "https", "HTTPS", " https", "https,http", "https , http"])
def test_a_scheme(value):
    assert forwarded_scheme({"x-forwarded-proto": value}) == value.split(",")[0].strip().lower()


@pytest.mark.parametrize("value", ["", "javascript", "https:", "https://", "wss", ",https", "https;http"])
def test_no_scheme(value):
    assert forwarded_scheme({"x-forwarded-proto": value}) is None


@pytest.mark.parametrize(
    "value",
    [
        "a",
        "app.example",
        "app.example.",
        "APP.Example",
        "my_app.example",
        "xn--bcher-kva.example",
        "app.example:1",
        "app.example:65535",
        "192.0.2.1",
        "192.0.2.1:80",
        "[::1]",
        "[::ffff:192.0.2.1]:443",
        f"{'a' * 63}.example",
        ".".join(["a" * 49] * 5),
    ],
)
@pytest.mark.parametrize("name", HOST_HEADERS)
def test_a_host(name, value):
    assert forwarded_host({name: value}) == value
    assert forwarded_host({name: f" {value} , other.example"}) == value
    assert forwarded_host({"forwarded": f'host="{value}"'}) == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "app.example/path",
        "app.example?query",
        "app.example#x",
        "https://app.example",
        "user@app.example",
        "user:s3cret@app.example",
        "a b",
        "app.example\r\nSet-Cookie: a=b",
        "app.example\n",
        "app.example\x00",
        "app.example:",
        "app.example:0",
        "app.example:00000",
        "app.example:65536",
        "app.example:99999",
        "app.example:123456",
        "app.example:-1",
        "app.example:port",
        "app.example:\u0661",
        ":80",
        ".",
        "a..b",
        ".example",
        "-app.example",
        "app-.example",
        f"{'a' * 64}.example",
        ".".join(["a" * 49] * 6),
        "b\u00fccher.example",
        "app%2eexample",
        "192.0.2.256",
        "192.0.2",
        "1",
        "[",
        "[]",
        "[::1",
        "::1",
        "[::1]80",
        "[::1]:0",
        "[1:2]",
        "[::1::2]",
        "[fe80::1%eth0]",
        "[192.0.2.1]",
        '"><script>',
        "\ud800",
    ],
    ids=ascii,
)
@pytest.mark.parametrize("name", HOST_HEADERS)
def test_no_host(name, value):
    assert forwarded_host({name: value}) is None
    assert forwarded_host({"forwarded": f'host="{value}"'}) is None
    assert forwarded_host({name: value, "forwarded": "host=next.example"}) == "next.example"


@pytest.mark.parametrize(
    "value",
    [
        'host="' + "\\" * 60_000,
        "a=" * 60_000,
        ";" * 60_000,
        'x="' + "a" * 60_000,
        "a." * 30_000,
        " " * 60_000,
    ],
    ids=["escapes", "pairs", "semicolons", "quote", "labels", "blanks"],
)
def test_a_long_value_is_read_in_a_moment(value):
    began = time.process_time()
    for name in ("forwarded", "x-forwarded-proto", *HOST_HEADERS):
        assert forwarded_host({name: value}) is forwarded_scheme({name: value}) is None
    assert time.process_time() - began < 2
