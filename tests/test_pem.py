"""What a file holds, however it was saved."""

from __future__ import annotations

import base64
import codecs
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.pem import content_of
from tests.pki import pem

CERTIFICATE, KEY = pem("file")
BOTH = KEY + CERTIFICATE

SAVED: dict[str, Callable[[bytes], bytes]] = {
    "as it is": lambda text: text,
    "with CRLF": lambda text: text.replace(b"\n", b"\r\n"),
    "with a byte order mark": lambda text: codecs.BOM_UTF8 + text,
    "by PowerShell 5": lambda text: text.decode().encode("utf-16"),
    "as UTF-16 without a mark": lambda text: text.decode().encode("utf-16-le"),
    "as big-endian UTF-16": lambda text: codecs.BOM_UTF16_BE + text.decode().encode("utf-16-be"),
    "in base64": base64.encodebytes,
    "twice in base64": lambda text: base64.b64encode(base64.b64encode(text)),
    "in base64 by PowerShell": lambda text: base64.b64encode(text).decode().encode("utf-16"),
    "in a variable": lambda text: text.replace(b"\n", b"\\n"),
    "in one line": lambda text: text.replace(b"\n", b" "),
    "below a key of YAML": lambda text: b"".join(b"    " + line + b"\n" for line in text.splitlines()),
    "with words around it": lambda text: b"Bag Attributes\n  friendlyName: \xfcber\n" + text + b"the end",
}


@pytest.mark.parametrize("save", SAVED.values(), ids=SAVED)
def test_pem_is_found_however_it_was_saved(save: Callable[[bytes], bytes]) -> None:
    key, certificate = content_of(save(BOTH)).blocks
    assert (key.is_key, certificate.is_certificate) == (True, True)
    assert (key.pem, certificate.pem) == (KEY, CERTIFICATE)
    assert repr(key) == "PemBlock(label='PRIVATE KEY')"


@given(st.binary(min_size=1, max_size=200).map(lambda data: b"\x30\x82" + data))
def test_bytes_come_out_of_base64_as_they_went_in(data: bytes) -> None:
    assert content_of(data).data == data
    for text in (base64.encodebytes(data), base64.b64encode(data).decode().encode("utf-16")):
        assert (content_of(text).data, content_of(text).was_text) == (data, True)


@given(st.binary(max_size=300))
def test_it_never_fails(data: bytes) -> None:
    content_of(data)
    content_of(b"-----BEGIN " + data + b"-----END X-----")
