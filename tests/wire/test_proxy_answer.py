"""Which proxies can be signed in to, by the head of what they answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.wire.proxy_answer import other_sign_in


@pytest.mark.parametrize(
    ("headers", "offers"),
    [
        (b"", None),
        (b"Proxy-Authenticate: Basic realm=x\r\n", None),
        (b"Proxy-Authenticate: NTLM\r\nproxy-authenticate: basic\r\n", None),
        (b"Proxy-Authenticate: Negotiate, Basic realm=x\r\n", None),
        (b"Proxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n", "Negotiate, NTLM"),
        (b"PROXY-AUTHENTICATE:NTLM TlRMTVNTUAA=\r\n", "NTLM"),
        (b"WWW-Authenticate: NTLM\r\n", None),
        (b"Proxy-Authenticate: \xff\r\n", None),
    ],
)
def test_what_is_offered(headers: bytes, offers: str | None) -> None:
    advice = other_sign_in(b"HTTP/1.1 407 Who?\r\n" + headers + b"\r\n")
    assert (advice is None) is (offers is None)
    assert offers is None or f"The proxy offers {offers}, and only Basic is known here" in (advice or "")


@given(st.binary())
def test_any_head_gives_one_printable_line_or_none(rubbish: bytes) -> None:
    advice = other_sign_in(b"Proxy-Authenticate: " + rubbish)
    assert advice is None or advice.isprintable()
