"""`import-certificate` (docs/spec/command-line.md, "import-certificate")."""

from __future__ import annotations

import base64
import codecs
import hashlib
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tentacle.settings.certificates import export_pfx, from_pem
from tests.odd_certificates import RECIPES, as_pem, odd_der
from tests.pki import made_by_openssl, pem

pytestmark = pytest.mark.usefixtures("instance")

RESTART = "These changes require a restart of the Tentacle."


def thumbprint(tentacle: Any) -> str:
    return str(tentacle.ok("show-thumbprint", "--instance=I").out)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_an_exported_text_can_be_imported_and_is_private(tentacle: Any) -> None:
    made = tentacle.ok("new-certificate", "--export-file=cert.txt")
    assert made.lines[0] == "A new certificate has been generated and written to cert.txt. Thumbprint:"
    assert len(made.lines) == 2
    path = tentacle.cwd / "cert.txt"
    assert path.read_bytes().startswith(codecs.BOM_UTF8)
    assert mode(path) == 0o600
    assert thumbprint(tentacle) == ""
    ended = tentacle.ok("import-certificate", "-f", "cert.txt")
    assert ended.lines == [
        "Importing the certificate stored in cert.txt...",
        f"Certificate with thumbprint {made.lines[1]} imported successfully.",
        RESTART,
    ]
    assert thumbprint(tentacle) == made.lines[1]


def test_a_pfx_with_a_password_is_read_by_openssl_and_by_us(tentacle: Any, instance: Path) -> None:
    made = tentacle.ok("new-certificate", "--export-pfx=c.pfx", "--pfx-password=hunter2!")
    path = tentacle.cwd / "c.pfx"
    assert mode(path) == 0o600
    read = subprocess.run(
        ["openssl", "pkcs12", "-in", path, "-passin", "pass:hunter2!", "-nodes"], capture_output=True, check=False
    )
    assert b"PRIVATE KEY" in read.stdout
    wrong = tentacle("import-certificate", "--from-file=c.pfx", "--pw=wrong")
    assert (wrong.code, thumbprint(tentacle)) == (1, "")
    ended = tentacle.ok("import-certificate", "--from-file=c.pfx", "--pfx-password=hunter2!")
    assert ended.lines[0] == "Importing the certificate stored in PFX file in c.pfx using the provided password..."
    assert thumbprint(tentacle) == made.lines[1]
    assert "hunter2" not in tentacle.log(instance)
    assert "--pfx-password=********" in tentacle.log(instance)


def test_base64_as_one_argument_with_its_blank(tentacle: Any, instance: Path) -> None:
    tentacle.ok("new-certificate", "--export-pfx=c.pfx")
    text = base64.b64encode((tentacle.cwd / "c.pfx").read_bytes()).decode()
    ended = tentacle.ok("import-certificate", f"-b {text}")
    assert ended.lines[0] == "Importing the certificate via base64..."
    assert thumbprint(tentacle)
    assert text[:40] not in tentacle.log(instance)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Please specify the certificate to import."),
        (["-r", "-b qwerty"], "Please specify only one of either from-registry or from-file or from-base64"),
        (["-f", "missing.pfx"], "Certificate 'missing.pfx' was not found."),
        (["-b", "cXdlcnR5"], None),
        (["-r"], None),
    ],
)
def test_what_cannot_be_imported(tentacle: Any, arguments: list[str], message: str | None) -> None:
    ended = tentacle("import-certificate", *arguments)
    assert ended.code == 1
    assert message is None or ended.err.splitlines()[0] == message
    assert thumbprint(tentacle) == ""


def test_what_speaks_against_an_imported_certificate_is_said(tentacle: Any) -> None:
    weak = from_pem(*made_by_openssl(tentacle.cwd, "-sha1", "-newkey", "rsa:1024", "-days", "30"))
    (tentacle.cwd / "old.pfx").write_bytes(export_pfx(weak))
    ended = tentacle("import-certificate", "-f", "old.pfx")
    assert ended.code == 0
    assert "The imported certificate's private key is smaller than the currently-recommended bit length" in ended.out
    expires, signed = ended.err.splitlines()
    assert expires.startswith("The imported certificate expires on 20")
    assert signed.startswith("The imported certificate is signed with a weak algorithm (sha1RSA); generating a new one")


def test_importing_keeps_everything_else(tentacle: Any) -> None:
    tentacle.ok("configure", "--port=4711", "--trust=T")
    before = tentacle.ok("show-configuration").out.replace('"CertificateThumbprint": null', "")
    tentacle.ok("new-certificate", "-e", "c.txt")
    tentacle.ok("import-certificate", "-f", "c.txt")
    after = tentacle.ok("show-configuration").out.replace(f'"CertificateThumbprint": "{thumbprint(tentacle)}"', "")
    assert after == before


def test_a_key_that_tls_will_not_take_is_refused_and_the_old_one_stays(tentacle: Any, ready: Any) -> None:
    before = thumbprint(tentacle)
    for number, (options, why) in enumerate(
        (
            (("-newkey", "rsa:512"), "ee key too small"),
            (("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"), "ECDSA secp256k1"),
            (("-newkey", "ed25519"), "neither RSA nor ECDSA"),
        )
    ):
        name = f"{number}.pem"
        (tentacle.cwd / name).write_bytes(b"".join(made_by_openssl(tentacle.cwd, *options)))
        ended = tentacle("import-certificate", "-f", name)
        assert ended.code == 1
        refused, advice = ended.err.splitlines()
        assert why in refused
        assert "ECDSA on P-256" in advice
    assert thumbprint(tentacle) == before


@pytest.mark.parametrize("name", RECIPES)
def test_an_odd_certificate_is_imported_or_refused_in_one_line(tentacle: Any, name: str) -> None:
    (tentacle.cwd / "odd.pem").write_bytes(as_pem(odd_der(name)) + pem("odd")[1])
    (tentacle.cwd / "odd.der").write_bytes(odd_der(name))
    alone = tentacle("import-certificate", "-f", "odd.der")
    assert alone.code == 1
    ended = tentacle("import-certificate", "-f", "odd.pem")
    if ended.code == 0:
        expected = hashlib.sha1(odd_der(name), usedforsecurity=False).hexdigest().upper()
        assert thumbprint(tentacle) == expected
        assert expected in tentacle("status").out
    else:
        assert ended.code == 1
        assert any(said in ended.err.splitlines()[0] for said in ("is damaged", "TLS cannot read it"))
        assert thumbprint(tentacle) == ""
    assert "Warning" not in ended.err + alone.err


def test_the_content_of_a_file_counts(tentacle: Any) -> None:
    """Base64 by PowerShell, under the wrong name; then PEM."""
    made = tentacle.ok("new-certificate", "--export-file=c.txt").lines[1]
    text = (tentacle.cwd / "c.txt").read_text(encoding="utf-8-sig")
    (tentacle.cwd / "c.pfx").write_bytes(f"{text}\r\n".encode("utf-16"))
    ended = tentacle.ok("import-certificate", "-f", "c.pfx")
    assert ended.lines[:2] == [
        "Importing the certificate stored in c.pfx...",
        f"Certificate with thumbprint {made} imported successfully.",
    ]
    certificate, key = made_by_openssl(tentacle.cwd, "-newkey", "rsa:2048", "-days", "3000")
    (tentacle.cwd / "both.pem").write_bytes(key + certificate)
    tentacle.ok("import-certificate", "-f", "both.pem")
    assert thumbprint(tentacle) == from_pem(certificate, key).thumbprint
