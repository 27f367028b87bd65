"""An identity in a file as people have it: PKCS#12 or PEM, as bytes, as base64, or saved by PowerShell.

Looks at the content and not at the name.  Must not know where an identity is stored; whether TLS takes its key is
`transport.tls`.
"""

from __future__ import annotations

import contextlib
import shlex
import warnings
from collections.abc import Callable, Sequence
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key, pkcs12

from tentacle.certificate_parsing import parse_certificate
from tentacle.pem import FileContent, PemBlock, content_of
from tentacle.settings.certificates import USABLE_KEYS, identity_of
from tentacle.settings.errors import CertificateError
from tentacle.settings.stored_certificate import StoredCertificate

LARGEST_IMPORT: Final = 1024 * 1024
NO_PRIVATE_KEY: Final = (
    "Unable to load X509 Certificate file. The X509 certificate file you provided does not include the private key. "
    "Please make sure the private key is included in your X509 certificate file and try again."
)
"""(docs/spec/command-line.md, "import-certificate")"""
_TOGETHER: Final = "Certificate and key may stand in one PEM file, in any order: cat certificate.pem key.pem >both.pem"
_PASSWORD: Final = "Give it by --pfx-password."  # noqa: S105
_JAVA: Final = (bytes.fromhex("feedfeed"), bytes.fromhex("cececece"))
"""How key stores of Java begin that are no PKCS#12: JKS and JCEKS."""
_SIGNED_DATA: Final = bytes.fromhex("06092a864886f70d010702")
"""The object identifier of PKCS#7, which holds certificates alone."""

Tell = Callable[[str], None]


class NotBase64Error(CertificateError):
    """The text is neither base64 nor PEM."""


def load_file(data: bytes, name: str, password: str | None = None, *, tell: Tell = lambda _: None) -> StoredCertificate:
    """Returns the identity in the content of the file `name`.

    `tell` is called with each line to print, which are the original's (docs/spec/command-line.md,
    "import-certificate").  Raises `CertificateError` for anything that is no certificate with its private key, and for
    a wrong password.
    """
    content = _checked(data, name)
    is_text = content.was_text and _known(content)
    if is_text or not name.lower().endswith(".pfx"):
        tell(f"Importing the certificate stored in {name}...")
    if not is_text:
        using = " using the provided password" if password else ""
        tell(f"Importing the certificate stored in PFX file in {name}{using}...")
    return _load(content, password, name, tell)


def load_base64(text: str, password: str | None = None) -> StoredCertificate:
    """Returns the identity in base64 of a PKCS#12, or of PEM; PEM itself is taken too.  Blanks do not matter.

    Raises `NotBase64Error` when it is no such text, `CertificateError` when it is one of something else.
    """
    content = _checked(text.encode("utf-8", "replace"), "in the base64 text")
    if not content.was_text:
        raise NotBase64Error(
            "The certificate is not valid base64 text.", hint="Give a PFX file in base64, or a file by --from-file."
        )
    return _load(content, password, "in the base64 text", lambda _: None)


def load_pfx(
    data: bytes, password: str | None = None, *, source: str = "given", tell: Tell = lambda _: None
) -> StoredCertificate:
    """Returns the identity in a PKCS#12 file, legacy encryption included; no password and an empty one are the same.

    `source` names the file in messages; `tell` is called with a line when there are more certificates than one.
    Raises `CertificateError` for a wrong password, no private key, or anything that is not PKCS#12.
    """
    _check_size(data, source)
    bundle = _parse_pfx(data, password, source)
    found = [one.certificate for one in (bundle.cert, *bundle.additional_certs) if one is not None]
    if bundle.key is None or not found:
        raise CertificateError(NO_PRIVATE_KEY)
    if len(found) > 1:
        tell(f"PFX file {source} contains multiple certificates, taking the first one.")
    return _of_key(bundle.key, found)


def _load(content: FileContent, password: str | None, source: str, tell: Tell) -> StoredCertificate:
    if content.blocks:
        return _from_blocks(content.blocks, password, source, tell)
    if not _looks_like_pfx(content.data):
        _refuse_what_is_known(content.data, source)
    if content.was_text and password:
        # The original applies no password to text, so that one may be given which is not needed.
        with contextlib.suppress(CertificateError):
            return load_pfx(content.data, None, source=source, tell=tell)
    return load_pfx(content.data, password, source=source, tell=tell)


def _checked(data: bytes, source: str) -> FileContent:
    _check_size(data, source)
    return content_of(data)


def _check_size(data: bytes, source: str) -> None:
    if not data.strip():
        raise CertificateError(f"The certificate {source} is empty.")
    if len(data) > LARGEST_IMPORT:
        raise CertificateError(f"The certificate {source} is larger than {LARGEST_IMPORT} bytes.")


def _known(content: FileContent) -> bool:
    """Whether text holds what the original reads as text, rather than words that happen to be base64."""
    return bool(content.blocks) or content.data[:1] == b"\x30"


def _from_blocks(blocks: Sequence[PemBlock], password: str | None, source: str, tell: Tell) -> StoredCertificate:
    keys = [_key(block, password, source) for block in blocks if block.is_key]
    try:
        certificates = [parse_certificate(block.pem) for block in blocks if block.is_certificate]
    except ValueError:
        raise CertificateError(f"A certificate in {source} is damaged.") from None
    if not certificates:
        labels = ", ".join(dict.fromkeys(block.label for block in blocks))
        raise CertificateError(f"The file {source} holds no certificate, only: {labels}.", hint=_TOGETHER)
    if not keys:
        raise CertificateError(NO_PRIVATE_KEY, hint=_TOGETHER)
    if len(certificates) > 1:
        tell(f"{source} contains multiple certificates, taking the one of the private key.")
    for key in keys[:-1]:
        with contextlib.suppress(CertificateError):
            return _of_key(key, certificates)
    return _of_key(keys[-1], certificates)


def _key(block: PemBlock, password: str | None, source: str) -> object:
    with contextlib.suppress(TypeError):  # it is encrypted
        return _read_key(block, None, source)
    if not password:
        raise CertificateError(f"The private key in {source} is encrypted with a password.", hint=_PASSWORD)
    return _read_key(block, password, source)


def _read_key(block: PemBlock, password: str | None, source: str) -> object:
    try:
        return load_pem_private_key(block.pem, password.encode() if password else None)
    except UnsupportedAlgorithm:
        reason, hint = "is of a kind that is not supported", USABLE_KEYS
    except ValueError:
        reason, hint = "cannot be read: it is damaged", None
        if password:
            reason, hint = "cannot be opened: the password is wrong or the file is damaged", "See --pfx-password."
    raise CertificateError(f"The private key in {source} {reason}.", hint=hint)


def _of_key(key: object, certificates: Sequence[x509.Certificate]) -> StoredCertificate:
    """The identity of the first certificate that belongs to the key.  Raises `CertificateError` where none does."""
    for certificate in certificates[:-1]:
        with contextlib.suppress(CertificateError):
            return identity_of(certificate, key)
    return identity_of(certificates[-1], key)


def _refuse_what_is_known(data: bytes, source: str) -> None:
    """Raises `CertificateError` for files of other kinds that people take for one with a certificate and its key."""
    if data.startswith(_JAVA):
        file = shlex.quote(source)
        raise CertificateError(
            f"The certificate {source} is a Java key store (JKS), not a PFX (PKCS#12) file.",
            hint=f"Convert it: keytool -importkeystore -srckeystore {file} -destkeystore new.pfx -deststoretype PKCS12",
        )
    if _SIGNED_DATA in data[:32]:
        raise CertificateError(NO_PRIVATE_KEY, hint=f"A PKCS#7 file ({source}) never holds one.")
    with contextlib.suppress(ValueError):
        parse_certificate(data)
        raise CertificateError(NO_PRIVATE_KEY)
    with contextlib.suppress(ValueError, UnsupportedAlgorithm):
        # One that is encrypted is a TypeError.
        with contextlib.suppress(TypeError):
            load_der_private_key(data, None)
        raise CertificateError(f"The file {source} holds a private key without its certificate.", hint=_TOGETHER)


def _parse_pfx(data: bytes, password: str | None, source: str) -> pkcs12.PKCS12KeyAndCertificates:
    with warnings.catch_warnings():
        # Files of old tools are BER rather than DER, which the operator can do nothing about.
        warnings.simplefilter("ignore")
        try:
            return pkcs12.load_pkcs12(data, password.encode() if password else None)
        except UnsupportedAlgorithm:
            reason, hint = "is encrypted in a way that is not supported", "Export it with AES-256 or 3DES."
        except (ValueError, TypeError, x509.InvalidVersion):
            if not _looks_like_pfx(data):
                reason, hint = "is not a PFX (PKCS#12) file", "Export it together with its private key as PFX."
            elif password:
                reason, hint = "cannot be opened: the password is wrong or the file is damaged", "See --pfx-password."
            else:
                reason, hint = "cannot be opened: it needs a password or is damaged", _PASSWORD
    raise CertificateError(f"The certificate {source} {reason}.", hint=hint)


def _looks_like_pfx(data: bytes) -> bool:
    """A sequence that starts with the version number 3."""
    return data[:1] == b"\x30" and b"\x02\x01\x03" in data[2:10]
