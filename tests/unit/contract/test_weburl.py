"""Addresses that probes ask, read by one rule on all sides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.errors import InputError
from towpath.weburl import MAX_ORIGINS, WebUrl, is_loopback, parse_origins, parse_web_url


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("http://127.0.0.1:8080/healthz?full=1", ("http", "127.0.0.1", 8080, "/healthz?full=1")),
        ("HTTPS://Example.org", ("https", "Example.org", 443, "/")),
        ("http://localhost?x", ("http", "localhost", 80, "/?x")),
        ("https://[::1]:8443/a%20b", ("https", "::1", 8443, "/a%20b")),
        ("http://my_app-1.internal:65535/", ("http", "my_app-1.internal", 65535, "/")),
    ],
)
def test_an_address_is_read_in_its_parts(text: str, parts: tuple[str, str, int, str]) -> None:
    """Scheme, host without brackets, port with its default, path with query."""
    assert parse_web_url(text) == WebUrl(*parts)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "write http://HOST"),
        ("127.0.0.1:80", "write http://HOST"),
        ("ftp://127.0.0.1/", "write http://HOST"),
        ("http:///x", "write http://HOST"),
        ("http://", "write http://HOST"),
        ("http://[::1", "write http://HOST"),
        ("http://user@127.0.0.1/", "write http://HOST"),
        ("http://127.0.0.1/#top", "write http://HOST"),
        ("http://127.0.0.1/a b", "write http://HOST"),
        ("http://127.0.0.1/\n", "write http://HOST"),
        ("http://127.0.0.1/\u00fc", "write http://HOST"),
        ("http://127.0.0.1:port/", "write http://HOST"),
        ("http://[::zz]/", "write http://HOST"),
        ("http://[1.2.3.4]/", "is no IPv6 address"),
        ("http://127.0.0.1:0/", "port 0 is none"),
        ("http://127.0.0.1:99999/", "port 99999 is none"),
    ],
)
def test_what_is_no_address_is_refused_with_the_reason(text: str, why: str) -> None:
    """Other schemes, a missing host, names of users, fragments, blanks and wrong ports are each an InputError."""
    with pytest.raises(InputError, match="^cannot ask ") as caught:
        parse_web_url(text)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("10.0.0.1", False), ("a.b", False)],
)
def test_loopback_is_the_machine_itself(host: str, loopback: bool) -> None:
    """By name or by number; any other name may resolve to anything."""
    assert is_loopback(host) is loopback
    assert parse_web_url(f"http://[{host}]/" if ":" in host else f"http://{host}/").loopback is loopback


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_a_refusal(text: str) -> None:
    """Nothing else is raised, whatever the text, and what is read can be asked: one line, a host, a port."""
    try:
        url = parse_web_url("http://" + text)
    except InputError:
        return
    assert url.host
    assert 1 <= url.port <= 65535
    assert url.target.startswith("/")
    assert url.target.isprintable()


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("", ()),
        ("https://Bucket.Example", ("https://bucket.example:443",)),
        ("http://10.0.0.1:80/  https://a:443 https://A", ("http://10.0.0.1:80", "https://a:443")),
        ("https://[2001:DB8:0::1]:9000", ("https://[2001:db8::1]:9000",)),
    ],
)
def test_origins_of_a_setting_are_one_text_each(text: str, origins: tuple[str, ...]) -> None:
    """Small letters, the port always said, an IPv6 address in its short form, each once; the same as of an address."""
    assert parse_origins(text) == origins
    assert tuple(dict.fromkeys(parse_web_url(f"{word.rstrip('/')}/a?b").origin for word in text.split())) == origins


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("bucket.example", "cannot ask 'bucket.example'"),
        ("https://a/path", "write https://HOST[:PORT] alone, without a path"),
        ("https://a/?x", "write https://HOST[:PORT] alone"),
        (" ".join(f"https://h{number}" for number in range(MAX_ORIGINS + 1)), f"at most {MAX_ORIGINS}"),
    ],
)
def test_a_setting_that_names_no_origins_is_refused(text: str, why: str) -> None:
    """Something else than an address, an address of one thing, and too many."""
    with pytest.raises(InputError) as caught:
        parse_origins(text)
    assert why in str(caught.value)
