"""What the bundle of `doctor` masks, and how it shortens a log."""

from __future__ import annotations

from pathlib import Path

import pytest

from tentacle.cli.doctor.bundle import Masking, last_lines, secrets_of
from tentacle.cli.doctor.examined import ExaminedInstance
from tentacle.observe.redaction import Redactor
from tentacle.settings import certificates
from tentacle.settings.model import ProxySettings, Settings
from tests.other_user import as_nobody, of_nobody, only_root, second_name, secret_of_root


@pytest.mark.parametrize(
    "text",
    [
        "https://user:S3CRET@host/",
        "Authorization: Bearer S3CRETS3CRET",
        "authorization: basic S3CRETS3CRET",
        "-----BEGIN PRIVATE KEY-----\nS3CRET\n-----END PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----\nS3CRET cut off",
        "sealed:1:S3CRETS3CRET==",
        "eyJhbGciOiJSS3CRET.S3CRET.S3CRET",
        "password=S3CRET",
        "API-S3CRETS3CRETS3CRET",
        "known: S3CRET+/",
        "known as JSON: S3CRET\\u00e9",
    ],
)
def test_whatever_looks_like_a_secret_is_masked(text: str) -> None:
    masked = Masking(Redactor(), ["S3CRET+/", "S3CRETé"])(f"before {text} after")
    assert "S3CRET" not in masked
    assert masked.startswith("before ")


def test_every_secret_of_an_instance_and_of_the_environment_is_known() -> None:
    made = [certificates.generate() for _ in range(3)]
    settings = Settings(
        certificate=made[0],
        next_certificate=made[1],
        previous_certificate=made[2],
        proxy=ProxySettings(password="proxy-pw"),
        polling_proxy=ProxySettings(password="polling-pw"),
    )
    environ = {"DB_PASS": "pass-of-db", "TENTACLE_CERTIFICATE": "cGZ4", "MY_TOKEN": "abc", "LANG": "C.UTF-8"}
    found = set(secrets_of(ExaminedInstance(settings=settings), environ))
    assert {"proxy-pw", "polling-pw", "pass-of-db", "cGZ4"} <= found
    assert not found & {"abc", "C.UTF-8"}, "what is too short would be found everywhere"
    for one in made:
        assert one.key_pem.decode().splitlines()[1] in found


def test_the_key_of_a_linked_configuration_is_a_secret(linked: Path, tmp_path: Path) -> None:
    key = (tmp_path / "real" / "T.config.key").read_text().strip()
    assert key in set(secrets_of(ExaminedInstance(config=linked), {}))


def test_the_end_of_a_long_log_begins_with_a_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"first line\n" * 10 + b"last \x1b[2J\xff line\n")
    text = last_lines(path, 30)
    assert text == "first line\nlast \\x1b[2J\ufffd line\n"
    assert "cannot be read" in last_lines(tmp_path / "gone")
    (tmp_path / "link").symlink_to("/etc/shadow")
    assert "cannot be read" in last_lines(tmp_path / "link")


@only_root
def test_a_log_that_is_a_secret_of_root_by_another_name_is_not_packed(open_way: Path) -> None:
    home, secret = of_nobody(open_way / "home"), secret_of_root(open_way / "of-root" / "f")
    second_name(home, "log.txt", secret)
    as_nobody(home, "ln", "-s", str(secret.parent), "Logs")
    for path in (home / "log.txt", home / "Logs" / "f"):
        assert last_lines(path).startswith(f"({path} cannot be read: The link '")
