"""Links of a server as templates: what is filled in, what is left out."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.octopus.link_templates import expand, find_link, parameters_of
from tentacle.octopus.server_address import ServerAddress

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


def test_link_names_in_any_case() -> None:
    assert find_link({"workers": "/w", "Empty": ""}, "Workers") == "/w"
    assert find_link({"workers": "/w", "Empty": ""}, "empty") is None
