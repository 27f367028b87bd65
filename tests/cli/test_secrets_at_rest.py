"""After every command: secrets are in private files in private directories and in no log; owners are who they were."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tentacle.cli.frame.command_table import ENTRIES
from tentacle.settings.store import SettingsFile
from tests.cli.hostile import SERVING, Place, base_of, litter, unheard

SERVICE_USER = 12345
PASSWORD = "pr0xy-p4ssw0rd"


@pytest.fixture
def place(place: Place) -> Place:
    for kind in ("proxy", "polling-proxy"):
        assert (
            place.run(kind, "--instance=I", "--proxyEnable=true", "--proxyHost=h", f"--proxyPassword={PASSWORD}")[0]
            == 0
        )
    return place


def key_of(place: Place) -> bytes:
    """A line out of the middle of the private key, as it stands in PEM."""
    certificate = SettingsFile(place.top / "I" / "I.cfg").load().certificate
    assert certificate is not None
    return certificate.key_pem.splitlines()[3]


def too_open(home: Path) -> list[str]:
    """What others than the owner could look into: the directory, its secrets; logs may be read by a group."""
    found = []
    for path in (home, *home.rglob("*")):
        mode = path.stat().st_mode & 0o777
        allowed = 0o750 if "Logs" in path.parts else 0o700
        if mode & ~allowed:
            found.append(f"{path}: {mode:o}")
    return found


def writable_by_others(top: Path) -> list[str]:
    """Whatever our commands have made, anywhere: the umask of who runs them is 0."""
    made = (path for path in top.rglob("*") if path.name != "file" and not path.is_symlink())
    return [str(path) for path in made if path.stat().st_mode & 0o022]


def holding(top: Path, secret: bytes) -> list[Path]:
    return [path for path in top.rglob("*") if path.is_file() and secret in path.read_bytes()]


def not_of(home: Path, owner: int) -> list[Path]:
    return [path for path in (home, *home.rglob("*")) if path.stat().st_uid != owner]


def writing_commands() -> Iterator[list[str]]:
    """Those that change an instance, each so that it succeeds."""
    yield ["configure", "--instance=I", "--trust=AAAA", "--pollingConnectionCount=3", "--home={top}/I/home"]
    yield ["server-comms", "--instance=I", "--style=TentacleActive", "--host=h"]
    yield ["poll-server", "--instance=I", "--reuse-server-thumbprint", "--server-comms-address=https://o"]
    yield ["update-trust", "--instance=I", "--oldThumbprint=AAAA", "--newThumbprint=BBBB"]
    yield ["set-polling-connection-count", "--instance=I", "--pollingConnectionCount=4"]
    yield ["proxy", "--instance=I", "--proxyEnable=true", "--proxyUsername=u", f"--proxyPassword={PASSWORD}"]
    yield ["polling-proxy", "--instance=I", "--proxyEnable=false"]
    yield ["new-certificate", "--instance=I"]
    yield ["new-certificate", "--instance=I", "--export-pfx={top}/I/exported.pfx", f"--pfx-password={PASSWORD}"]
    yield ["new-certificate", "--instance=I", "--export-file={top}/I/exported.txt"]
    yield ["import-certificate", "--instance=I", "--from-file={top}/I/exported.txt"]
    yield ["rotate-certificate", "--instance=I"]
    yield ["rotate-certificate", "--instance=I", "--finish"]
    yield ["clear-trusted-servers", "--instance=I"]
    yield ["create-instance", "--instance=I", "--config={top}/I/I.cfg"]


def check(place: Place, what: list[str], owner: int) -> None:
    home = place.top / "I"
    private = {path.resolve() for path in home.rglob("*.cfg*") if path.is_file()}
    assert too_open(home) == [], what
    assert writable_by_others(place.top) == [], what
    assert not_of(home, owner) == [], what
    assert holding(place.top, PASSWORD.encode()) == [], what
    assert holding(place.top, key_of(place)) == [], what
    assert litter(place.top) == [], what
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in private), what


def test_after_every_command(place: Place, url: str) -> None:
    owner = SERVICE_USER if os.geteuid() == 0 else os.geteuid()
    home = place.top / "I"
    for path in (home, *home.rglob("*")) if os.geteuid() == 0 else ():
        os.chown(path, owner, owner)
    umask = os.umask(0)
    try:
        with unheard():
            for arguments in writing_commands():
                told = [argument.format(top=place.top) for argument in arguments]
                ended = place.run(*told)
                assert (ended[0], ended[2]) == (0, ""), (told, ended)
                for made in home.glob("exported.*"):
                    assert made.stat().st_mode & 0o777 == 0o600
                    os.chown(made, owner, owner)
                    if arguments[0] == "import-certificate":
                        made.unlink()  # it holds the key, which is what it was made for
                check(place, told, owner)
            for entry in ENTRIES:
                if entry.name not in SERVING:
                    place.run(entry.name, *base_of(entry.name, url))
                    check(place, [entry.name], owner)
    finally:
        os.umask(umask)


def test_a_home_of_its_own_is_private_from_the_beginning(place: Place) -> None:
    umask = os.umask(0)
    try:
        arguments = ("--instance=J", f"--config={place.top}/J/J.cfg", f"--home={place.top}/homes/J")
        assert place.run("create-instance", *arguments)[0] == 0
        assert place.run("configure", "--instance=J", f"--home={place.top}/homes/K")[0] == 0
        assert place.run("show-thumbprint", "--instance=J")[0] == 0
    finally:
        os.umask(umask)
    assert too_open(place.top / "J") + too_open(place.top / "homes" / "J") + too_open(place.top / "homes" / "K") == []
    assert writable_by_others(place.top) == []


def test_two_installations_have_two_keys(place: Place) -> None:
    assert place.run("create-instance", "--instance=J", f"--config={place.top}/J/J.cfg")[0] == 0
    assert place.run("new-certificate", "--instance=J")[0] == 0
    keys = [(place.top / name / f"{name}.cfg.key").read_bytes() for name in ("I", "J")]
    assert keys[0] != keys[1]
    identity = Path("/etc/machine-id")
    assert not identity.exists() or identity.read_bytes().strip() not in keys
