"""Certificates and keys in files as people have them: as bytes or as text, which may be PEM or base64.

Looks at the content alone.  Text may be UTF-8 or UTF-16 (as PowerShell writes it), with any line ends, and base64 of
something else, as in a Kubernetes secret.  Must not know what is in a block or in the bytes.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
import textwrap
from dataclasses import field
from typing import Final

from tentacle.records import dataclass

_BLOCK: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_HEADER: Final = re.compile(r"^[A-Za-z-]+:.*$", re.MULTILINE)
"""`Proc-Type` and `DEK-Info` in front of a key that OpenSSL has encrypted in its old way."""
_LAYERS: Final = 3
"""How often base64 is taken off: base64 of base64 of PEM is the most that was ever seen."""
_SEQUENCE: Final = b"\x30"
"""How every certificate in DER form begins."""


@dataclass(frozen=True)
class PemBlock:
    """One block: its label, e.g. `CERTIFICATE` or `RSA PRIVATE KEY`, and its PEM in the usual form."""

    label: str
    pem: bytes = field(repr=False)

    @property
    def is_certificate(self) -> bool:
        return self.label in {"CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"}

    @property
    def is_key(self) -> bool:
        return self.label.endswith("PRIVATE KEY")


@dataclass(frozen=True)
class FileContent:
    """What a file holds: PEM blocks or, where there is none, `data`; `was_text` where that was written as text."""

    blocks: tuple[PemBlock, ...] = ()
    data: bytes = field(default=b"", repr=False)
    was_text: bool = False


def content_of(data: bytes) -> FileContent:
    """Returns what `data` holds, without the layers of text around it; never fails."""
    was_text = False
    for _ in range(_LAYERS):
        text = _text(data)
        if text is None:
            break
        if blocks := tuple(_blocks(text)):
            return FileContent(blocks, was_text=True)
        decoded = _decoded(text)
        if not decoded:
            break
        data, was_text = decoded, True
    return FileContent(data=data, was_text=was_text)


def certificates_in(data: bytes) -> str:
    """Returns the certificates of a file, PEM or DER, as PEM.  Raises `ValueError` where there is none."""
    content = content_of(data)
    if not content.blocks:
        if not content.data.startswith(_SEQUENCE):
            raise ValueError("no certificate is in it")
        return certificate_as_pem(content.data).decode()
    found = b"".join(block.pem for block in content.blocks if block.is_certificate)
    if not found:
        raise ValueError(f"it holds no certificate, only: {', '.join({block.label for block in content.blocks})}")
    return found.decode("ascii", "replace")


def certificate_as_pem(der: bytes) -> bytes:
    """Returns a certificate in DER form as PEM in the usual form."""
    return _pem("CERTIFICATE", base64.b64encode(der).decode())


def _text(data: bytes) -> str | None:
    """`data` as text; None for bytes that are none."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    if len(data) >= 4 and not any(data[1:64:2]):
        return data.decode("utf-16-le", "replace")
    if len(data) >= 4 and not any(data[0:64:2]):
        return data.decode("utf-16-be", "replace")
    try:
        return data.decode("utf-8-sig", "replace" if b"-----BEGIN " in data else "strict")
    except UnicodeDecodeError:
        return None


def _blocks(text: str) -> list[PemBlock]:
    found = []
    # A variable of an environment often has the line ends as `\n`, and YAML has blanks in front of lines.
    for label, body in _BLOCK.findall(text.replace("\\r", "").replace("\\n", "\n")):
        headers = [line.strip() for line in _HEADER.findall(body.replace("\r", ""))]
        digits = "".join(_HEADER.sub("", body.replace("\r", "")).split())
        found.append(PemBlock(label, _pem(label, digits, *headers, *([""] if headers else []))))
    return found


def _pem(label: str, digits: str, *headers: str) -> bytes:
    lines = [f"-----BEGIN {label}-----", *headers, *textwrap.wrap(digits, 64), f"-----END {label}-----", ""]
    return "\n".join(lines).encode("utf-8", "replace")


def _decoded(text: str) -> bytes:
    """The bytes that base64 text stands for, empty where it is none."""
    digits = "".join(text.replace("\ufeff", "").replace("\\n", "").split()).strip("\"'")
    try:
        return base64.b64decode(digits, validate=True)
    except (binascii.Error, ValueError):
        return b""
