"""Proxy addresses, and which one the environment gives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from tentacle.octopus.errors import InvalidAddress
from tentacle.octopus.proxies import ProxyUrl, environment_proxy, goes_without


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://p:3128", ProxyUrl("p", 3128)),
        ("p:3128", ProxyUrl("p", 3128)),
        ("p", ProxyUrl("p", 80)),
        ("http://me:p%40ss@p:8080/", ProxyUrl("p", 8080, "me", "p@ss")),
        ("http://[::1]:1", ProxyUrl("::1", 1)),
    ],
)
def test_addresses(text: str, expected: ProxyUrl) -> None:
    assert ProxyUrl.parse(text) == expected


@pytest.mark.parametrize("text", ["", "socks5://p", "http://", "http://me:s3cret@:1", "http://p:s3cret", "https://p"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(InvalidAddress) as caught:
        ProxyUrl.parse(text)
    assert "s3cret" not in str(caught.value)


@given(st.text())
def test_any_text_is_a_proxy_or_none(text: str) -> None:
    try:
        proxy = ProxyUrl.parse(text)
    except InvalidAddress:
        return
    assert proxy.host
    assert 0 <= proxy.port < 65536


def test_credentials_become_a_header() -> None:
    assert ProxyUrl("p", 1).authorization is None
    assert ProxyUrl("p", 1, "me", "pä:ss").authorization == "Basic bWU6cMOkOnNz"


@pytest.mark.parametrize(
    ("variables", "url", "host"),
    [
        ({"HTTP_PROXY": "http://a:1", "HTTPS_PROXY": "http://b:1"}, "http://octopus", "a"),
        ({"HTTP_PROXY": "http://a:1", "https_proxy": "b:1"}, "https://octopus", "b"),
        ({"ALL_PROXY": "http://c:1"}, "https://octopus", "c"),
        ({"HTTP_PROXY": "http://a:1"}, "https://octopus", None),
        ({"HTTPS_PROXY": "http://a:1", "NO_PROXY": "example,octopus"}, "https://octopus", None),
        ({"HTTPS_PROXY": "http://a:1", "NO_PROXY": ".corp"}, "https://octopus.corp:8443", None),
        ({"HTTPS_PROXY": "http://a:1", "NO_PROXY": "*"}, "https://octopus", None),
        ({}, "https://octopus", None),
    ],
)
def test_the_environment(
    variables: dict[str, str], url: str, host: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    proxy = environment_proxy(URL(url))
    assert (proxy.host if proxy else None) == host


@pytest.mark.parametrize(
    ("no_proxy", "with_it", "without_it"),
    [
        ("", [], ["https://octopus"]),
        ("*", ["https://octopus", "http://[::1]"], []),
        ("octopus.corp", ["https://octopus.corp", "https://OCTOPUS.corp.:8443"], ["https://octopus.corp.evil"]),
        ("corp", ["https://octopus.corp", "https://corp"], ["https://octopuscorp"]),
        (".corp", ["https://octopus.corp", "https://corp"], ["https://octopuscorp"]),
        ("*.corp", ["https://octopus.corp"], ["https://octopuscorp"]),
        ("a, octopus:8443 b", ["https://octopus:8443", "http://a", "http://b"], ["https://octopus"]),
        ("octopus:443", ["https://octopus"], ["https://octopus:8443"]),
        ("10.0.0.0/8", ["https://10.1.2.3"], ["https://11.1.2.3", "https://octopus"]),
        ("127.0.0.1", ["http://127.0.0.1:8065"], ["http://127.0.0.2"]),
        ("::1", ["https://[::1]:10943"], ["https://[::2]"]),
        ("[::1]:443", ["https://[::1]"], ["https://[::1]:8443"]),
        ("fd00::/8", ["https://[fd12::1]"], ["https://[2001:db8::1]"]),
        (".,:,[],*x,/", [], ["https://octopus"]),
    ],
)
def test_who_is_reached_without_a_proxy(no_proxy: str, with_it: list[str], without_it: list[str]) -> None:
    assert [url for url in with_it if not goes_without(URL(url), no_proxy)] == []
    assert [url for url in without_it if goes_without(URL(url), no_proxy)] == []


@given(st.text())
def test_any_list_of_exceptions_is_read(no_proxy: str) -> None:
    assert isinstance(goes_without(URL("https://octopus"), no_proxy), bool)
