"""Recognises a certificate that `certificates.generate` has made, and so knows nearly everything about it.

The library that reads any certificate is a quarter of a command that only looks at one, and most instances have one of
these.  Every byte is compared: what may differ are the serial number, the two dates, the key and the signature.
"""

from __future__ import annotations

import base64
import re
from datetime import datetime
from typing import Final

from tentacle.pem import certificate_as_pem
from tentacle.records import dataclass

ALGORITHM: Final = "sha256RSA"
KEY_BITS: Final = 2048
SUBJECT: Final = "Octopus Tentacle"
_FIRST, _LAST = b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n"
_SIGNATURE: Final = bytes.fromhex("300d06092a864886f70d01010b0500")
_NAME: Final = bytes.fromhex("301b3119301706035504030c10") + SUBJECT.encode()
_KEY_BEGINS: Final = bytes.fromhex("30820122300d06092a864886f70d01010105000382010f003082010a0282010100")
_TIME: Final = rb"\x17\x0d\d{12}Z|\x18\x0f\d{14}Z"
_DER: Final = re.compile(
    rb"\x30\x82(?P<size>..)\x30\x82(?P<inner_size>..)(?P<inner>\xa0\x03\x02\x01\x02"
    rb"\x02(?P<serial_size>.)(?P<serial>(?:[\x01-\x7f]|\x00[\x80-\xff]).{0,7})%(signature)b%(name)b"
    rb"\x30(?P<dates_size>.)(?P<since>%(time)b)(?P<until>%(time)b)%(name)b"
    rb"(?P<public_key>%(key)b[\x80-\xff].{255}\x02\x03\x01\x00\x01))%(signature)b\x03\x82\x01\x01\x00.{256}"
    % {
        b"signature": re.escape(_SIGNATURE),
        b"name": re.escape(_NAME),
        b"key": re.escape(_KEY_BEGINS),
        b"time": _TIME,
    },
    re.DOTALL,
)
"""X.509 in DER form, version 3, without extensions (RFC 5280, "Basic Certificate Fields")."""


@dataclass(frozen=True)
class OwnCertificate:
    """What differs between two of them; `public_key` is the SubjectPublicKeyInfo in DER form.  The names of the dates
    are those that the library gives them.
    """

    der: bytes
    not_valid_before_utc: datetime
    not_valid_after_utc: datetime
    public_key: bytes


def own_certificate(pem: bytes) -> OwnCertificate | None:
    """Returns the certificate in a PEM text as the library writes it; `None` for any that is not as ours are made."""
    try:
        der = base64.b64decode(pem.removeprefix(_FIRST).removesuffix(_LAST))
        found = _DER.fullmatch(der)
        if found is None or certificate_as_pem(der) != pem:
            return None
        sizes = (
            (found["size"], len(der) - 4),
            (found["inner_size"], len(found["inner"])),
            (found["serial_size"], len(found["serial"])),
            (found["dates_size"], len(found["since"]) + len(found["until"])),
        )
        if any(int.from_bytes(written, "big") != size for written, size in sizes):
            return None
        return OwnCertificate(der, _date(found["since"]), _date(found["until"]), found["public_key"])
    except ValueError:  # no base64, or no date
        return None


def _date(element: bytes) -> datetime:
    """Raises `ValueError`."""
    digits = element[2:-1].decode("ascii")
    if len(digits) == 12:
        digits = ("19" if digits >= "50" else "20") + digits
    return datetime.fromisoformat(f"{digits[:8]}T{digits[8:]}Z")
