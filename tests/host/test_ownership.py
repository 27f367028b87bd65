"""Whose files are given away, and whose never.  Needs root, as giving files away does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tentacle.host.account import Account, require_account
from tentacle.host.errors import HostError
from tentacle.host.ownership import (
    give_directory,
    give_file,
    make_directory,
    open_directory,
    require_own_directory,
)
from tentacle.scripts.workspace.removal import remove_tree
from tests.other_user import as_nobody, of_nobody

SOMEBODY = Account("somebody", 54321, 54322, Path("/nonexistent"))


def owner(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid


THEIRS = (SOMEBODY.uid, SOMEBODY.gid)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "instances" / "I"
    (home / "Work" / "ticket").mkdir(parents=True)
    (home / "Work" / "ticket" / "Output.log").touch()
    (home / "secret").touch()
    return home


def test_the_directory_and_what_was_named_in_it_change_hands(home: Path) -> None:
    assert give_directory(home, ("Work", "Logs"), SOMEBODY)
    for path in (home, home / "Work", home / "Work" / "ticket", home / "Work" / "ticket" / "Output.log"):
        assert owner(path) == THEIRS
    assert owner(home / "secret") != THEIRS
    assert not give_directory(home, ("Work", "Logs"), SOMEBODY), "the second time there is nothing to do"


def test_what_a_script_has_nested_too_deeply_is_named(home: Path) -> None:
    make = "import os\nfor _ in range(3000):\n    os.mkdir('d')\n    os.chdir('d')"
    subprocess.run([sys.executable, "-c", make], cwd=home / "Work", check=True)
    try:
        with pytest.raises(HostError, match=f"Directories in '{home}' are nested too deeply"):
            give_directory(home, ("Work",), SOMEBODY)
    finally:
        remove_tree(home / "Work")


def test_links_lead_nowhere(home: Path, tmp_path: Path) -> None:
    """What a user who owns the directory already could plant there for the next --reconfigure."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (home / "Logs").symlink_to(precious)
    (home / "Work" / "link").symlink_to(precious / "file")
    (home / "Work" / "folder").symlink_to(precious)
    os.link(precious / "file", home / "Work" / "hard")
    give_directory(home, ("Work", "Logs"), SOMEBODY)
    assert owner(precious) != THEIRS
    assert owner(precious / "file") != THEIRS
    (home / "config").symlink_to(precious / "file")
    assert not give_file(home / "config", SOMEBODY)
    assert owner(precious / "file") != THEIRS


def test_single_files(home: Path) -> None:
    assert give_file(home / "secret", SOMEBODY)
    assert owner(home / "secret") == THEIRS
    assert not give_file(home / "missing", SOMEBODY)
    assert not give_file(home / "no" / "directory", SOMEBODY)


def test_directories_that_are_made_belong_to_the_user(tmp_path: Path) -> None:
    assert make_directory(tmp_path / "a" / "b", SOMEBODY)
    assert owner(tmp_path / "a" / "b") == THEIRS
    assert owner(tmp_path / "a") != THEIRS
    assert not make_directory(tmp_path / "a" / "b", SOMEBODY)
    (tmp_path / "file").touch()
    with pytest.raises(HostError):
        make_directory(tmp_path / "file", SOMEBODY)


def test_what_a_user_names_is_given_only_if_it_is_the_users(home: Path, tmp_path: Path) -> None:
    """A configuration that belongs to a user may name any directory; root's stay root's, whatever it names."""
    precious = tmp_path / "precious"
    precious.mkdir()
    with pytest.raises(HostError, match="is named by a configuration that belongs to 54000"):
        give_directory(precious, (), SOMEBODY, giver=54000)
    assert owner(precious) != THEIRS
    assert not make_directory(tmp_path / "unit.service.d", SOMEBODY, giver=54000)
    assert not (tmp_path / "unit.service.d").exists()
    os.chown(home, 54000, 54000)
    assert give_directory(home, ("Work",), SOMEBODY, giver=54000), "the former user's"
    assert not give_directory(home, ("Work",), SOMEBODY, giver=54000), "the user's already"
    assert owner(home / "Work" / "ticket") == THEIRS


def test_a_directory_with_the_register_in_it_is_opened_and_stays_root_s(home: Path) -> None:
    (home / "Instances").mkdir()
    home.chmod(0o755)
    assert open_directory(home, ("Work",), SOMEBODY)
    assert (owner(home), home.stat().st_mode & 0o7777) == ((0, SOMEBODY.gid), 0o1775)
    assert owner(home / "Instances") == (0, 0)
    assert owner(home / "Work") == THEIRS
    with pytest.raises(HostError, match="is not the instance's alone"):
        require_own_directory(home, SOMEBODY)
    require_own_directory(home, SOMEBODY, may_be_sticky=True)
    assert not open_directory(home, ("Work",), SOMEBODY, giver=SOMEBODY.uid), "the second time there is nothing to do"
    moving = ["/bin/sh", "-c", "touch new && mv new old && ! mv Instances gone 2>/dev/null"]
    uid = require_account("nobody").uid
    done = subprocess.run(moving, cwd=home, user=uid, group=SOMEBODY.gid, extra_groups=[], check=False)
    assert done.returncode == 0
    assert (home / "Instances").is_dir()


def test_a_group_that_others_are_in_opens_nothing(home: Path) -> None:
    daemon = require_account("daemon")
    crowd = Account("somebody", 54321, daemon.gid, Path("/nonexistent"))
    with pytest.raises(HostError, match="shares its group with others"):
        open_directory(home, (), crowd)
    assert owner(home)[1] != daemon.gid


@pytest.mark.parametrize("path", ["/", "/etc", "/tmp", "/var/tmp", "/root", "/etc/../usr"])
def test_the_systems_directories_are_nobodys_to_give(path: str) -> None:
    with pytest.raises(HostError, match="is not the instance's alone"):
        require_own_directory(Path(path), SOMEBODY)


def test_a_directory_of_its_own_may_be_given(home: Path) -> None:
    require_own_directory(home, SOMEBODY)


def test_what_the_user_s_links_lead_to_is_not_given_and_nothing_is_made_there(open_way: Path) -> None:
    nobody = require_account("nobody")
    outside, shared = open_way / "outside", open_way / "shared"
    outside.mkdir()
    shared.mkdir()
    shared.chmod(0o777)
    of_user = of_nobody(open_way / "of-user")
    as_nobody(of_user, "ln", "-s", str(outside), "home")
    with pytest.raises(HostError, match="it is not given to the user 'nobody'"):
        give_directory(of_user / "home", ("Work",), nobody)
    with pytest.raises(HostError, match="is not followed"):
        make_directory(of_user / "home" / "Work", nobody)
    with pytest.raises(HostError, match="is not followed"):
        give_file(of_user / "home" / "file", nobody)
    assert (owner(outside), list(outside.iterdir())) == ((0, 0), [])
    # One that the user may write already does not become the user's own either.
    (of_user / "home").unlink()
    as_nobody(of_user, "ln", "-s", str(shared), "home")
    with pytest.raises(HostError, match="it is not given to the user"):
        give_directory(of_user / "home", (), nobody)
    assert owner(shared) == (0, 0)
    os.chown(shared, nobody.uid, nobody.gid)
    assert not give_directory(of_user / "home", (), nobody), "it is the user's already"


def test_a_directory_that_everybody_uses_is_not_given_even_if_it_came_there_meanwhile(home: Path) -> None:
    require_own_directory(home, SOMEBODY)
    home.chmod(0o1777)
    with pytest.raises(HostError, match="is not the instance's alone"):
        give_directory(home, (), SOMEBODY)
    assert owner(home) != THEIRS
