"""The address a polling agent polls."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.octopus.address import polling_address
from tentacle.octopus.errors import InvalidAddress


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
