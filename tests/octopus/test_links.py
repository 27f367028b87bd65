"""Templates, link names, server addresses and redirects: text in, text out."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from tentacle.octopus.errors import InvalidAddress, RedirectRefused, UnexpectedAnswer
from tentacle.octopus.links import ServerAddress, expand, find_link, parameters_of, redirect_target

WORKERS = "/api/Spaces-1/workers{/id}{?skip,take,name,ids,thumbprint}"


@pytest.mark.parametrize(
    ("template", "values", "expected"),
    [
        (WORKERS, {}, "/api/Spaces-1/workers"),
        (WORKERS, {"name": "ubuntu worker"}, "/api/Spaces-1/workers?name=ubuntu%20worker"),
        (WORKERS, {"id": "all", "thumbprint": "AB"}, "/api/Spaces-1/workers/all?thumbprint=AB"),
        (WORKERS, {"ids": ["a/b", "c"]}, "/api/Spaces-1/workers?ids=a%2Fb,c"),
        (WORKERS, {"ids": [], "name": None, "unknown": "x"}, "/api/Spaces-1/workers"),
        (WORKERS, {"NAME": "x", "Skip": 3}, "/api/Spaces-1/workers?skip=3&name=x"),
        ("/api/{spaceId}/x", {"spaceId": "Spaces-1"}, "/api/Spaces-1/x"),
        ("/api/{SpaceId}/x", {"spaceId": "../.."}, "/api/..%2F../x"),
        ("/x?skip=0{&take}{?name}", {"take": 1, "name": "n"}, "/x?skip=0&take=1&name=n"),
        ("/x?skip=0{?name}", {"name": "n"}, "/x?skip=0&name=n"),
        ("/x{#part}{+path}{/a*,b}", {"part": "p", "path": "q", "a": "1", "b": "2"}, "/xq/1/2"),
        ("/x{unclosed", {"unclosed": "y"}, "/x{unclosed"),
        ("/x{}{?}{,}", {"": "y"}, "/x"),
    ],
)
def test_expansion(template: str, values: dict[str, str], expected: str) -> None:
    assert expand(template, **values) == expected


@given(st.text(), st.dictionaries(st.sampled_from(["id", "name", "ids"]), st.text(st.characters(codec="utf-8"))))
def test_any_text_is_a_template(template: str, values: dict[str, str]) -> None:
    once = expand(template, **values)
    assert len(once) >= len(template) - sum(map(len, template.split("{"))) - template.count("{")
    parameters_of(template)


@given(st.text(st.characters(codec="utf-8"), min_size=1), st.text(st.characters(codec="utf-8"), min_size=1))
def test_values_arrive_as_they_were_given(name: str, thumbprint: str) -> None:
    link = expand(WORKERS, name=name, thumbprint=thumbprint)
    query = urlsplit(str(ServerAddress.parse("http://octopus").resolve(link))).query
    assert parse_qsl(query, keep_blank_values=True, encoding="utf-8") == [("name", name), ("thumbprint", thumbprint)]
    assert expand(link) == link


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


def test_link_names_in_any_case() -> None:
    assert find_link({"workers": "/w", "Empty": ""}, "Workers") == "/w"
    assert find_link({"workers": "/w", "Empty": ""}, "empty") is None


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
