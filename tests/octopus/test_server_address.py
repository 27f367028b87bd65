"""Addresses of a server: what people type, where links and redirects lead, and where a polling agent polls."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from tentacle.octopus.errors import InvalidAddress, RedirectRefused, UnexpectedAnswer
from tentacle.octopus.server_address import ServerAddress, polling_address, redirect_target


@pytest.mark.parametrize(
    ("server", "links", "expected"),
    [
        ("https://h/octopus", ["/api", "~/api"], "https://h/octopus/api/x"),
        ("https://h/octopus", ["/octopus/api", "/api"], "https://h/api/x"),
        ("https://h/octopus", ["~/api"], "https://h/api/x"),
        ("https://h/octopus", [], "https://h/api/x"),
        ("https://h", ["/api"], "https://h/api/x"),
    ],
)
def test_a_prefix_that_the_server_does_not_know(server: str, links: list[str], expected: str) -> None:
    assert str(ServerAddress.parse(server).linked_by(links).resolve("/api/x")) == expected


@pytest.mark.parametrize(
    ("server", "link", "expected"),
    [
        ("http://octopus", "/api", "http://octopus/api"),
        ("http://OCTOPUS:80/", "~/api", "http://octopus/api"),
        ("https://h:8443/octopus", "~/api", "https://h:8443/octopus/api"),
        ("https://h/octopus/", "/octopus/api/x", "https://h/octopus/api/x"),
        ("https://h/octopus/api", "~/api", "https://h/octopus/api"),
        ("https://h/octopus/API/Spaces-1", "~/api", "https://h/octopus/api"),
        ("https://h/api/api/", "~/x", "https://h/api/x"),
        ("https://h/apiary", "~/api", "https://h/apiary/api"),
        ("https://h/#/x?y", "~/api", "https://h/api"),
        ("https://h/app#/Spaces-1/x", "~/api", "https://h/api"),
        ("https://h/o/app/#/Spaces-1", "~/api", "https://h/o/api"),
        ("https://h/app", "~/api", "https://h/app/api"),
        ("https://h/myapp#/x", "~/api", "https://h/myapp/api"),
        ("https://[::1]:8080", "api/users/me", "https://[::1]:8080/api/users/me"),
        ("http://h", "http://h:80/api/x?y=%20z", "http://h/api/x?y=%20z"),
        ("http://h", "//evil/api", "http://h//evil/api"),
        ("http://h", "@evil/api", "http://h/@evil/api"),
        ("http://h", "/a b\r\nX: y\\z#frag", "http://h/a%20b%0D%0AX:%20y%5Cz"),
        ("http://bücher.example", "/api", "http://xn--bcher-kva.example/api"),
    ],
)
def test_resolving(server: str, link: str, expected: str) -> None:
    assert str(ServerAddress.parse(server).resolve(link)) == str(URL(expected, encoded=True))


@pytest.mark.parametrize("link", ["http://evil/api", "https://h/api", "HTTP://h:81/", "ftp://h/", "http://[/", "x://h"])
def test_links_to_other_hosts_are_refused(link: str) -> None:
    with pytest.raises(UnexpectedAnswer):
        ServerAddress.parse("http://h").resolve(link)


@given(st.text(max_size=60))
def test_no_link_leaves_the_host(link: str) -> None:
    try:
        url = ServerAddress.parse("http://octopus:8080/x").resolve(link)
    except UnexpectedAnswer:
        return
    assert str(url.origin()) == "http://octopus:8080"
    assert str(url).isascii()
    assert str(url).isprintable()
    assert " " not in str(url)


@pytest.mark.parametrize(
    "server",
    [
        "",
        "octopus",
        "ftp://h",
        "http://",
        "http://h:99999",
        "http://[",
        "http:///x",
        "http://a..b",
        "http://" + "x" * 64,
    ],
)
def test_what_is_no_address(server: str) -> None:
    with pytest.raises(InvalidAddress) as caught:
        ServerAddress.parse(server)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("server", ["http://me:secret@h", "http://me:secret@", "me:secret@h"])
def test_a_password_in_the_address_is_not_repeated(server: str) -> None:
    with pytest.raises(InvalidAddress) as caught:
        ServerAddress.parse(server)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("server", "display", "secure"),
    [
        ("http://localhost:18080", "http://localhost:18080/", False),
        ("HTTPS://Octopus.Example:443", "https://octopus.example/", True),
        ("http://h/octopus", "http://h/octopus", False),
        ("https://h/app#/Spaces-1/infrastructure", "https://h/", True),
        ("https://h/octopus/app/#/Spaces-1", "https://h/octopus/", True),
    ],
)
def test_what_is_shown(server: str, display: str, secure: bool) -> None:
    address = ServerAddress.parse(server)
    assert (address.display, address.secure) == (display, secure)


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_none(server: str) -> None:
    try:
        address = ServerAddress.parse(server)
    except InvalidAddress:
        return
    assert address.base.startswith(address.origin)


@pytest.mark.parametrize(
    ("current", "location", "expected"),
    [
        ("http://h/api", "/api/", "http://h/api/"),
        ("http://h/api", "https://h/api", "https://h/api"),
        ("http://h:81/api", "http://h:81/x#y", "http://h:81/x"),
    ],
)
def test_redirects_that_are_followed(current: str, location: str, expected: str) -> None:
    assert str(redirect_target(URL(current), location)) == expected


@pytest.mark.parametrize(
    ("current", "location"),
    [
        ("http://h/api", "http://evil/api"),
        ("https://h/api", "http://h/api"),
        ("http://h/api", "https://h:8443/api"),
        ("http://h:81/api", "https://h/api"),
        ("http://h/api", "//evil/api"),
        ("http://h/api", "http://me:secret@h/api"),
        ("http://h/api", "file:///etc/passwd"),
        ("http://h/api", "http://[/"),
    ],
)
def test_redirects_that_are_not(current: str, location: str) -> None:
    with pytest.raises(RedirectRefused) as caught:
        redirect_target(URL(current), location)
    assert "secret" not in f"{caught.value}{caught.value.hint}"


@given(st.text(max_size=40))
def test_no_redirect_leaves_the_host(location: str) -> None:
    try:
        target = redirect_target(URL("https://octopus/api"), location)
    except RedirectRefused:
        return
    assert str(target.origin()) == "https://octopus"


@pytest.mark.parametrize(
    ("server", "comms_address", "comms_port", "expected"),
    [
        ("http://octopus", None, None, "https://octopus:10943"),
        ("https://Octopus:8443/virtual/api", "", None, "https://octopus:10943"),
        ("http://octopus", None, 443, "https://octopus:443"),
        ("http://octopus", "https://comms.example", None, "https://comms.example:443"),
        ("http://octopus", "http://comms.example/x?y", None, "https://comms.example:80"),
        ("http://octopus", "https://comms.example:10900/", None, "https://comms.example:10900"),
        ("http://octopus", "https://comms.example:10900/", 10943, "https://comms.example:10943"),
        ("http://[::1]:8080", None, None, "https://[::1]:10943"),
        ("http://octopus", "https://[FE80::1]", None, "https://[fe80::1]:443"),
    ],
)
def test_the_rule(server: str, comms_address: str | None, comms_port: int | None, expected: str) -> None:
    assert polling_address(server, comms_address, comms_port) == expected


@pytest.mark.parametrize(
    ("server", "comms_address", "comms_port"),
    [
        ("octopus", None, None),
        ("http://octopus", "comms.example", None),
        ("http://octopus", "wss://comms.example", None),
        ("http://octopus", "https://me:secret@", None),
        ("http://octopus", None, 0),
        ("http://octopus", "https://comms.example", 65536),
    ],
)
def test_what_gives_none(server: str, comms_address: str | None, comms_port: int | None) -> None:
    with pytest.raises(InvalidAddress) as caught:
        polling_address(server, comms_address, comms_port)
    assert "secret" not in str(caught.value)


HOSTS = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,20}[A-Za-z0-9](\.[A-Za-z]{1,8})?", fullmatch=True)


@given(HOSTS, HOSTS, st.none() | st.integers(1, 65535), st.none() | st.integers(1, 65535), st.booleans())
def test_host_and_port_come_from_where_the_rule_says(
    server: str, comms: str, comms_port: int | None, own_port: int | None, has_comms: bool
) -> None:
    address = f"https://{comms}" + (f":{own_port}" if own_port else "")
    result = polling_address(f"http://{server}", address if has_comms else None, comms_port)
    host = (comms if has_comms else server).lower()
    port = comms_port or ((own_port or 443) if has_comms else 10943)
    assert result == f"https://{host}:{port}"


@given(st.text(max_size=40), st.none() | st.text(max_size=40))
def test_any_text_gives_an_address_or_our_error(server: str, comms_address: str | None) -> None:
    try:
        result = polling_address(server, comms_address)
    except InvalidAddress:
        return
    assert result.startswith("https://")
    assert result.rpartition(":")[2].isdigit()
    assert "@" not in result
