"""`import-instance`: the recorded instance of the original, taken over and left as it was."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tentacle.settings.certificates import export_base64, from_pem
from tentacle.settings.import_original.secrets import MACHINE_ID_IV
from tentacle.settings.store import SettingsFile
from tests.pki import made_by_openssl
from tests.recorded import VECTORS
from tests.settings.import_original.test_instance import change
from tests.settings.import_original.test_secrets import sealed

VECTOR = VECTORS / "dotnet-instance"
THUMBPRINT = "51BBB0AFF048FD2A5DB91E5B00E72CAB2EC3A7DD"
SERVER = "679DDD8527CCE15FE45A5DACD92EA7C0364198D3"
PASSWORD = "proxy-secret"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The original's files: its home with its configuration, its registry entry, its machine's id."""
    home = tmp_path / "old"
    (home / "Work" / "ticket").mkdir(parents=True)
    (home / "Work" / "ticket" / "Output.log").write_text("x")
    shutil.copy(VECTOR / "machine-id", home)
    config = (VECTOR / "tentacle-Legacy.config").read_text(encoding="utf-8-sig")
    config = config.replace("/etc/octopus/Legacy", str(home))
    (home / "tentacle-Legacy.config").write_text(config, encoding="utf-8-sig")
    registry = tmp_path / "machine" / "Tentacle" / "Instances"
    registry.mkdir(parents=True)
    entry = (VECTOR / "registry-legacy.config").read_text().replace("/etc/octopus/Legacy", str(home))
    (registry / "legacy.config").write_text(entry)
    return home


def fingerprint(*folders: Path) -> str:
    """Everything about everything below: names, kinds, modes, owners, times of change, contents."""
    digest = hashlib.sha256()
    for path in sorted(p for folder in folders for p in (folder, *folder.rglob("*"))):
        status = path.lstat()
        digest.update(f"{path} {status.st_mode} {status.st_uid} {status.st_gid} {status.st_mtime_ns}\n".encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


def take_over(tentacle: Any, old: Path, *options: str) -> Any:
    return tentacle(
        *("import-instance", f"--machine-id={old}/machine-id", f"--machine-key={old}/machinekey"),
        *("--instance=New", f"--config={old.parent}/new/new.config", *options),
    )


def test_by_name_with_every_line(tentacle: Any, old: Path, tmp_path: Path) -> None:
    before = fingerprint(old)
    ended = take_over(tentacle, old, "--name=legacy")
    new = tmp_path / "new"
    assert (ended.code, ended.err) == (0, "")
    assert ended.lines == [
        f"Read the original's configuration: {old}/tentacle-Legacy.config",
        f"Certificate: {THUMBPRINT}, decrypted with the machine id '{old}/machine-id'",
        f"Trusted server: {SERVER}, listening tentacle",
        f"Trusted server: {SERVER}, polling tentacle, https://octopus.example.com:10943 as"
        " poll://erh8tg5lf2pjxzlgqpbl/",
        "Listening: no",
        "Proxy: the environment's",
        "Polling proxy: proxy.example.com:3128, user u with a password",
        "Application directory: /home/Octopus/Applications/Legacy",
        f"Home directory: {new} (logs and scripts in {old} stay there)",
        f"Created configuration file: {new}/new.config",
        "Saving instance: New",
        "Nothing of the original was changed. Stop it for good before this one starts: both are the same to a server.",
    ]
    assert fingerprint(old) == before
    settings = SettingsFile(new / "new.config").load()
    assert settings.polling_proxy.password == PASSWORD
    assert tentacle.ok("show-thumbprint", "--instance=New").out == THUMBPRINT
    assert [line.split("'")[1] for line in tentacle.ok("list-instances").lines] == ["Legacy", "New"]
    assert new.stat().st_mode & 0o777 == 0o700
    for written in ("new.config", "new.config.key"):
        assert (new / written).stat().st_mode & 0o777 == 0o600
    for path in (p for p in new.rglob("*") if p.is_file()):
        assert PASSWORD.encode() not in path.read_bytes()


def test_by_file_as_json_and_once_more(tentacle: Any, old: Path, tmp_path: Path) -> None:
    for _ in range(2):
        ended = take_over(tentacle, old, f"--from={old}/tentacle-Legacy.config", "--format=json")
        assert (ended.code, ended.err) == (0, "")
        facts = json.loads(ended.out)
        assert facts["ConfigurationFilePath"] == f"{tmp_path}/new/new.config"
        assert facts["Configuration"]["Tentacle"]["CertificateThumbprint"] == THUMBPRINT
        assert PASSWORD not in ended.out


def test_an_import_that_was_killed_before_the_name_was_saved_is_completed(tentacle: Any, old: Path) -> None:
    assert take_over(tentacle, old, "--name=Legacy").code == 0
    (old.parent / "machine" / "Tentacle" / "Instances" / "new.config").unlink()
    assert take_over(tentacle, old, "--name=Legacy").code == 0
    assert tentacle.ok("show-thumbprint", "--instance=New").out == THUMBPRINT


def test_the_old_home_only_when_that_is_wished(tentacle: Any, old: Path) -> None:
    before = fingerprint(old)
    ended = take_over(tentacle, old, "--name=Legacy", "--keep-home")
    assert ended.code == 0
    assert f"Home directory: {old}" in ended.lines
    assert fingerprint(old) == before
    assert SettingsFile(old.parent / "new" / "new.config").load().home == old


def test_a_configuration_in_the_old_home_would_share_it(tentacle: Any, old: Path) -> None:
    before = fingerprint(old.parent)
    ended = take_over(tentacle, old, "--name=Legacy", f"--config={old}/new.config")
    assert ended.code == 1
    assert ended.err.startswith(f"The new configuration file lies in the original's home directory '{old}'.")
    assert fingerprint(old.parent) == before


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ([], "Please specify the original instance by its name or by its configuration file."),
        (["--name=Legacy", "--from=x"], "Please specify the original instance by its name or by its"),
        (["--name=Nobody"], "Instance Nobody of Tentacle has not been configured on this machine."),
        (["--from=nowhere"], "could not be located at the specified location."),
        (["--name=Legacy", "--instance="], "Please specify the name and the configuration file of the new instance."),
        (["--name=Legacy", "--config="], "Please specify the name and the configuration file of the new instance."),
        (["--name=Legacy", "--instance=legacy"], "There is an instance called Legacy already."),
        (["--name=Legacy", "--config={old}/tentacle-Legacy.config"], "is the original's configuration file."),
        (["--name=Legacy", "--machine-id=/dev/null"], "Tentacle.Certificate cannot be decrypted: '/dev/null' is not"),
        (["--from={old}/machine-id"], "is not the configuration of an original Octopus Tentacle: line 1 is not valid"),
        (["--from={old}"], "is not a regular file."),
    ],
)
def test_nothing_is_written_when_something_is_wrong(tentacle: Any, old: Path, options: list[str], text: str) -> None:
    before = fingerprint(old.parent / "machine", old)
    ended = take_over(tentacle, old, *(option.format(old=old) for option in options))
    assert (ended.code, ended.out) == (1, ""), ended
    assert text in ended.err.splitlines()[0]
    assert fingerprint(old.parent / "machine", old) == before
    assert not (old.parent / "new").exists()


def test_a_certificate_that_tls_will_not_take_is_refused_before_anything_is_written(
    tentacle: Any, old: Path, tmp_path: Path
) -> None:
    weak = from_pem(*made_by_openssl(tmp_path, "-newkey", "rsa:512"))
    config = old / "tentacle-Legacy.config"
    key = (old / "machine-id").read_text().strip().encode()
    change(config, "Tentacle.Certificate", sealed(export_base64(weak).encode(), key, MACHINE_ID_IV))
    change(config, "Tentacle.CertificateThumbprint", weak.thumbprint)
    ended = take_over(tentacle, old, "--name=legacy")
    assert (ended.code, ended.out) == (1, "")
    assert "ee key too small" in ended.err
    assert not (tmp_path / "new").exists()


def test_another_instance_s_file_is_not_overwritten(tentacle: Any, old: Path, instance: Path) -> None:
    before = (instance / "I.cfg").read_bytes()
    ended = take_over(tentacle, old, "--name=Legacy", f"--config={instance}/I.cfg")
    assert ended.code == 1
    assert ended.err.startswith(f"There is a configuration file at {instance}/I.cfg already, with other settings.")
    assert (instance / "I.cfg").read_bytes() == before


def test_a_command_on_the_old_one_says_how_to_take_it_over(tentacle: Any, old: Path) -> None:
    ended = tentacle("show-thumbprint", "--instance=Legacy")
    assert ended.code == 1
    assert "'Tentacle import-instance'" in ended.err


def test_a_new_instance_s_settings_serve_the_agent(tentacle: Any, old: Path) -> None:
    assert take_over(tentacle, old, "--name=Legacy").code == 0
    shown = json.loads(tentacle.ok("show-configuration", "--instance=New").out)
    assert shown["Tentacle"]["Services"] == {"ListenIP": None, "NoListen": True, "PortNumber": 10933}
    assert shown["Octopus"]["Home"] == str(old.parent / "new")
