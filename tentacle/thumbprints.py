"""Thumbprints, by which certificates are known: made from a certificate, and read as people paste them.

Pure.  Must not know who is trusted.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from typing import Final

SHA1_DIGITS: Final = 40
SHA256_DIGITS: Final = 64
_LABEL: Final = re.compile(r"(sha-?1|sha-?256)?(fingerprint|thumbprint)[=:]|sha-?1[=:]|sha-?256[=:]", re.IGNORECASE)
"""What `openssl x509 -fingerprint` and others write in front; blanks have been taken out."""
_BETWEEN: Final = re.compile(r"[:\-]")


def thumbprint_of(der: bytes) -> str:
    """The SHA-1 of a certificate in DER form: 40 hexadecimal digits in upper case."""
    return hashlib.sha1(der, usedforsecurity=False).hexdigest().upper()


def clean_thumbprint(text: str) -> str:
    """Returns the digits in a thumbprint as it was pasted, in upper case.

    Colons, dashes, blanks, a label in front (`sha1 Fingerprint=`) and characters that cannot be seen, such as the
    U+200E that the dialog of Windows puts in front, are left out.  A text that is no SHA-1 or SHA-256 all the same is
    returned as it is, without the blanks and invisible characters around it.
    """
    seen = "".join(c for c in text if c.isspace() or unicodedata.category(c) not in {"Cf", "Cc"})
    digits = _BETWEEN.sub("", _LABEL.sub("", "".join(seen.split()).strip("\"'"), count=1)).upper()
    return digits if is_thumbprint(digits) else seen.strip()


def is_thumbprint(clean: str) -> bool:
    """Whether a clean text is a SHA-1 or a SHA-256."""
    return _digits(clean) in {SHA1_DIGITS, SHA256_DIGITS}


def doubt_about(thumbprint: str) -> str | None:
    """Why no server can have this thumbprint, to be read after it; None for one that looks right."""
    digits = _digits(clean_thumbprint(thumbprint))
    if digits == SHA1_DIGITS:
        return None
    if digits == SHA256_DIGITS:
        return "is a SHA-256 thumbprint, and Octopus Servers are known by SHA-1 (40 hexadecimal digits)"
    return "is not the thumbprint of a certificate, which has 40 hexadecimal digits"


def doubts_about(thumbprints: Iterable[str]) -> dict[str, str]:
    """Those that no server can have, cleaned and each once, with the words that name it and say why."""
    cleaned = map(clean_thumbprint, thumbprints)
    return {one: f"'{one:.100}' {doubt}" for one in cleaned if (doubt := doubt_about(one))}


def _digits(text: str) -> int:
    """How many hexadecimal digits `text` is; 0 where it holds anything else."""
    return len(text) if re.fullmatch(r"[0-9A-Fa-f]+", text) else 0
