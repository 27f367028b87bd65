"""Secrets stay out of everything that is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.octopus.credentials import Credentials
from tentacle.octopus.errors import CredentialsError
from tentacle.octopus.proxies import ProxyUrl


@pytest.mark.parametrize(
    ("given_", "kind"),
    [
        ({"api_key": "API-S3CRET"}, "API key"),
        ({"bearer_token": "S3CRET"}, "Bearer Token"),
        ({"username": "me", "password": "S3CRET"}, "user name and password"),
    ],
)
def test_no_repr_shows_a_secret(given_: dict[str, str], kind: str) -> None:
    credentials = Credentials(**given_)
    assert repr(credentials) == f"Credentials({kind})"
    assert credentials.redact(f"it was {'API-' if credentials.api_key else ''}S3CRET.") == "it was *****."


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"api_key": "a", "bearer_token": "b"}, "not multiple"),
        ({"api_key": "a", "username": "u", "password": "p"}, "not multiple"),
        ({"username": "u"}, "Please specify a password for the specified user account"),
        ({"password": "p"}, "Please specify a username for the specified password"),
        ({}, "Please specify an Octopus API key, a Bearer Token or a username and password"),
        ({"api_key": ""}, "Please specify an Octopus API key"),
        ({"api_key": "key\n"}, "line break"),
        ({"api_key": "kéy"}, "outside ASCII"),
        ({"bearer_token": "a\r\nX: y"}, "line break"),
    ],
)
def test_what_cannot_be_sent(given_: dict[str, str], message: str) -> None:
    with pytest.raises(CredentialsError, match=message) as caught:
        Credentials(**given_)
    assert caught.value.exit_code == 1
    assert "key\n" not in str(caught.value)


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8), st.text())
def test_no_text_keeps_the_key(key: str, around: str) -> None:
    assert key not in Credentials(api_key=key).redact(f"{around}{key}{around}").replace(around, "")


def test_a_proxy_shows_no_password() -> None:
    proxy = ProxyUrl("p", 3128, "me", "s3cret")
    assert "s3cret" not in repr(proxy)
    assert "s3cret" not in str(proxy.url)
