"""On which machine an identity was first used: written with the certificate, and read with suspicion."""

from __future__ import annotations

import json
import socket
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from tentacle.settings import certificates
from tentacle.settings.identity_origin import OriginMachine, origin_path_of, read_origin, remember_origin, this_machine
from tentacle.settings.store import SettingsFile


def test_a_new_certificate_remembers_its_machine(tmp_path: Path) -> None:
    file = SettingsFile(tmp_path / "T.config")
    file.create()
    assert not origin_path_of(file.path).exists()
    made = certificates.generate()
    file.update(lambda settings: replace(settings, certificate=made))
    origin = origin_path_of(file.path)
    assert stat.S_IMODE(origin.stat().st_mode) == 0o600
    assert read_origin(file.path, made.thumbprint) == this_machine(made.thumbprint)
    before = origin.read_bytes()
    file.update(lambda settings: replace(settings, port=1))
    assert origin.read_bytes() == before


def test_a_clone_keeps_the_first_machine_and_another_certificate_does_not(tmp_path: Path) -> None:
    config = tmp_path / "T.config"
    origin_path_of(config).write_text(json.dumps({"thumbprint": "ABC", "host": "first", "machine": "digest"}))
    remember_origin(config, "abc")
    assert read_origin(config, "ABC") == OriginMachine("first", "digest")
    remember_origin(config, "DEF")
    assert read_origin(config, "ABC") is None
    found = read_origin(config, "DEF")
    assert found is not None
    assert found.name == socket.gethostname()


def test_the_digest_names_the_machine_for_one_identity_only(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("0123456789abcdef0123456789abcdef\n")
    other.write_text("0123456789abcdef0123456789abcdee\n")
    digest = this_machine("T", machine_id=one).digest
    assert digest == this_machine("t", machine_id=one).digest
    assert len({digest, this_machine("T", machine_id=other).digest, this_machine("U", machine_id=one).digest}) == 3
    assert "0123456789abcdef" not in digest


@pytest.mark.parametrize("content", ["", "uninitialized\n", None])
def test_a_system_without_a_machine_id_has_no_digest(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "machine-id"
    if content is not None:
        path.write_text(content)
    assert this_machine("T", machine_id=path).digest == ""


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"thumbprint": "T"}', "\x00", "[" * 5000])
def test_rubbish_is_nothing(tmp_path: Path, content: str) -> None:
    config = tmp_path / "T.config"
    origin_path_of(config).write_text(content)
    assert read_origin(config, "T") is None


def test_a_directory_that_cannot_be_written_costs_the_hint_only(tmp_path: Path) -> None:
    remember_origin(tmp_path / "gone" / "T.config", "T")
    assert not (tmp_path / "gone").exists()
