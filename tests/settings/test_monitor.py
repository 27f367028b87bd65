"""Where an agent can be watched: what is taken, what is refused and why, and that a text survives."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.settings.errors import SettingsError
from tentacle.settings.monitor import MONITOR, MonitorAddress


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9113", MonitorAddress("127.0.0.1", 9113)),
        ("127.8.9.10:0", MonitorAddress("127.8.9.10", 0)),
        ("localhost:80", MonitorAddress("127.0.0.1", 80)),
        ("[::1]:9113", MonitorAddress("::1", 9113)),
        ("unix:/run/t.sock", MonitorAddress(path="/run/t.sock")),
        ("UNIX://run/../run/t.sock", MonitorAddress(path="/run/t.sock")),
        ("none", None),
    ],
)
def test_what_only_this_machine_reaches_is_taken(text: str, address: MonitorAddress | None) -> None:
    assert MONITOR.parse(text) == address


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0.0.0.0:9113", "can be reached by other machines"),
        ("[::]:9113", "can be reached by other machines"),
        ("10.0.0.1:9113", "can be reached by other machines"),
        ("[::ffff:10.0.0.1]:9113", "can be reached by other machines"),
        (":9113", "is not an IP address"),
        ("example.com:9113", "is not an IP address"),
        ("9113", "must be 127.0.0.1:9113"),
        ("127.0.0.1:65536", "must be 127.0.0.1:9113"),
        ("127.0.0.1:-1", "must be 127.0.0.1:9113"),
        ("http://127.0.0.1:9113", "must be 127.0.0.1:9113"),
        ("unix:", "is absolute"),
        ("unix:relative", "is absolute"),
        ("unix:/a/", "is absolute"),
        ("unix:/a\nb", "is absolute"),
        ("unix:/" + "a" * 107, "at most 107 bytes"),
        ("unix:/" + "ä" * 60, "at most 107 bytes"),
    ],
)
def test_what_others_reach_and_what_is_no_address_is_refused_with_a_reason(text: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        MONITOR.parse(text)


@given(st.ip_addresses(), st.integers(0, 65535))
def test_an_address_is_taken_if_and_only_if_it_is_a_loopback_address(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
) -> None:
    text = f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"
    if ip.is_loopback:
        assert MONITOR.parse(text) == MonitorAddress(str(ip), port)
    else:
        with pytest.raises(SettingsError):
            MONITOR.parse(text)


@given(st.text(max_size=60) | st.from_regex(r"\A(unix:/?[a-z/.]*|[0-9.:\[\]]*)\Z"))
def test_any_text_is_understood_or_refused_and_what_is_understood_is_read_as_the_same_again(text: str) -> None:
    try:
        address = MONITOR.parse(text)
    except SettingsError:
        return
    assert MONITOR.parse(MONITOR.text(address)) == address
