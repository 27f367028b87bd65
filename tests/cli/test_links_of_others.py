"""Root's commands on an instance whose directory belongs to another user, who has planted links there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tentacle.cli.frame.command_table import ENTRIES
from tentacle.home_layout import EPHEMERAL_NOTE, HEARTBEAT_FILE, LOCK_FILE, LOG_FILE, LOGS, STATUS_FILE, WORK
from tentacle.settings.model import Settings
from tentacle.settings.store import SettingsFile
from tests.cli.hostile import Place, base_of, complaint, nowhere, options_of, port_of, unheard
from tests.other_user import NOBODY, as_nobody, only_root, second_name, secret_of_root


def link(name: str, target: str) -> Callable[[Path, Path], None]:
    return lambda home, foreign: as_nobody(home, "ln", "-sfn", str(foreign / target), name)


def hard(name: str, target: str) -> Callable[[Path, Path], None]:
    def plant(home: Path, foreign: Path) -> None:
        (home / name).unlink(missing_ok=True)
        second_name(home, name, foreign / target)

    return plant


TRAPS = {
    "the configuration": link("I.cfg", "F.cfg"),
    "the configuration, by a second name": hard("I.cfg", "F.cfg"),
    "the key": link("I.cfg.key", "secret"),
    "the key, by a second name": hard("I.cfg.key", "secret"),
    "the origin": link("I.cfg.origin", "secret"),
    "the origin, by a second name": hard("I.cfg.origin", "secret"),
    "the log": link(f"{LOGS}/{LOG_FILE}", "secret"),
    "the log, by a second name": hard(f"{LOGS}/{LOG_FILE}", "secret"),
    "the logs": link(LOGS, "folder"),
    "the lock": link(LOCK_FILE, "secret"),
    "the lock, by a second name": hard(LOCK_FILE, "secret"),
    "the note": hard(EPHEMERAL_NOTE, "secret"),
    "the status": hard(STATUS_FILE, "secret"),
    "the heartbeat": link(HEARTBEAT_FILE, "missing"),
    "the workspaces": link(WORK, "folder"),
}


@pytest.fixture
def place(open_way: Path) -> Iterator[tuple[Place, str]]:
    with nowhere() as url:
        (open_way / "cwd").mkdir()
        (open_way / "cwd" / "file").write_text("x")
        names = (("HOME", "home"), ("TentacleMachineConfigurationHomeDirectory", "machine"))
        environ = {**os.environ, **{name: str(open_way / folder) for name, folder in names}}
        place = Place(open_way / "cwd", open_way, environ)
        place.make_instance(url)
        yield place, url


def state_of(folder: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in (folder, *folder.rglob("*")):
        status = path.lstat()
        found[str(path)] = (status.st_mode, status.st_uid, status.st_gid, path.is_file() and path.read_bytes())
    return found


@only_root
@pytest.mark.parametrize("trap", TRAPS)
def test_no_command_changes_or_shows_what_another_user_s_link_leads_to(trap: str, place: tuple[Place, str]) -> None:
    here, url = place
    foreign, home = here.top / "foreign", here.top / "I"
    secret_of_root(foreign / "secret", b"S3CR3T")
    (foreign / "folder").mkdir()
    SettingsFile(foreign / "F.cfg").save(Settings(home=Path("/S3CR3T"), port=int(port_of(url)), listen_ip="127.0.0.1"))
    shutil.rmtree(home / LOGS)
    (home / LOGS).mkdir()
    for path in (home, *home.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    if trap == "the logs":
        (home / LOGS).rmdir()
    TRAPS[trap](home, foreign)
    before = state_of(foreign)
    with unheard():
        for entry in sorted(ENTRIES, key=lambda entry: entry.name == "delete-instance"):
            if any(option.described.names[0] == "instance" for option in options_of(entry.name)):
                ended = here.run(entry.name, *base_of(entry.name, url))
                assert complaint(entry.name, ended, secret=False) is None, (entry.name, ended)
                assert "S3CR3T" not in ended[1] + ended[2], (entry.name, ended)
                assert state_of(foreign) == before, (entry.name, ended)
    written = [path for path in home.rglob("*") if path.is_file() and path.resolve().is_relative_to(home)]
    assert not [path for path in written if path.lstat().st_nlink == 1 and b"S3CR3T" in path.read_bytes()]
