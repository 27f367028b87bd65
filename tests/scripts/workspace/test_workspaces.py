"""Nothing is ever written through a symbolic link, and nothing is left of what failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tentacle.scripts.errors import ScriptError
from tentacle.scripts.workspace.removal import remove_tree
from tentacle.scripts.workspace.run_files import RunFiles, RunSettings, Stage, boot_id
from tentacle.scripts.workspace.workspaces import WorkspaceFile, Workspaces


@pytest.fixture
def workspaces(tmp_path: Path) -> Workspaces:
    workspaces = Workspaces(tmp_path / "Work")
    assert workspaces.scan() == []
    return workspaces


def settings(ticket: str = "T") -> RunSettings:
    return RunSettings(ticket, "Task", "M", 1, 2.5, ("a", "b"), 1, boot_id())


def prepare(workspaces: Workspaces, *files: WorkspaceFile, ticket: str = "T") -> None:
    run = workspaces.prepare(settings(ticket), "echo\r\n", files)
    assert run.examine().stage is Stage.PREPARED
    run.close()


def test_what_is_prepared_can_be_read_again(workspaces: Workspaces) -> None:
    prepare(workspaces)
    run = RunFiles(workspaces.work / "T")
    assert run.settings == settings()
    assert run.settings.wants.exclusive
    run.close()
    assert {path.name for path in (workspaces.work / "T").iterdir()} == {"Bootstrap.sh", "Output.log", ".tentacle"}


def test_tickets_that_differ_by_case_are_one_directory(workspaces: Workspaces) -> None:
    prepare(workspaces, ticket="Ticket")
    assert workspaces.find("tICKET") == workspaces.work / "Ticket"
    later = Workspaces(workspaces.work)
    later.scan()
    assert later.find("TICKET") == workspaces.work / "Ticket"


@pytest.fixture
def trap(workspaces: Workspaces, tmp_path: Path) -> Path:
    """A place outside, to which somebody has planted links in the workspace of T."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("untouched")
    (workspaces.work / "T").mkdir()
    return outside


@pytest.mark.parametrize("name", ["Bootstrap.sh", "Output.log", "data"])
def test_a_planted_link_is_replaced_and_not_followed(
    workspaces: Workspaces, trap: Path, tmp_path: Path, name: str
) -> None:
    (workspaces.work / "T" / name).symlink_to(trap / "victim")
    source = tmp_path / "source"
    source.write_text("new")
    prepare(workspaces, WorkspaceFile("data", source))
    assert (trap / "victim").read_text() == "untouched"
    assert not (workspaces.work / "T" / name).is_symlink()


@pytest.mark.parametrize("link", ["sub", ".tentacle"])
def test_a_planted_directory_link_is_refused(workspaces: Workspaces, trap: Path, tmp_path: Path, link: str) -> None:
    (workspaces.work / "T" / link).symlink_to(trap)
    source = tmp_path / "source"
    source.write_text("new")
    with pytest.raises(ScriptError):
        prepare(workspaces, WorkspaceFile("sub/victim", source))
    assert (trap / "victim").read_text() == "untouched"
    assert [path.name for path in trap.iterdir()] == ["victim"]


def test_a_workspace_that_is_a_link_is_refused(workspaces: Workspaces, trap: Path) -> None:
    (workspaces.work / "L").symlink_to(trap)
    with pytest.raises(ScriptError):
        prepare(workspaces, ticket="L")
    assert [path.name for path in trap.iterdir()] == ["victim"]
    assert workspaces.find("L") is None


def test_a_later_file_of_the_same_name_wins(workspaces: Workspaces, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    prepare(workspaces, WorkspaceFile("data", tmp_path / "one"), WorkspaceFile("data", tmp_path / "two"))
    assert (workspaces.work / "T" / "data").read_text() == "two"


def test_a_file_on_another_file_system_is_copied(workspaces: Workspaces) -> None:
    source = Path("/dev/shm") / f"tentacle-test-{id(workspaces)}"
    source.write_bytes(b"x" * 3_000_000)
    prepare(workspaces, WorkspaceFile("data", source))
    assert (workspaces.work / "T" / "data").read_bytes() == b"x" * 3_000_000
    assert not source.exists()


def test_removing_follows_no_link_and_needs_no_rights(workspaces: Workspaces, trap: Path) -> None:
    path = workspaces.work / "T"
    (path / "link").symlink_to(trap)
    (path / "closed").mkdir(mode=0)
    assert workspaces.remove(path)
    assert (trap / "victim").read_text() == "untouched"
    assert list(workspaces.work.iterdir()) == []
    assert workspaces.remove(path), "what is not there is gone"


def test_a_ticket_is_free_as_soon_as_its_workspace_is_put_away(workspaces: Workspaces) -> None:
    prepare(workspaces)
    left = workspaces.put_away(workspaces.work / "T")
    assert left is not None
    assert (workspaces.find("T"), list(workspaces.trash())) == (None, [left])
    assert (left / "Bootstrap.sh").exists()
    prepare(workspaces)
    assert remove_tree(left)
    assert (workspaces.work / "T" / "Bootstrap.sh").exists()
    assert workspaces.put_away(workspaces.work / "nowhere") is None


def test_a_file_in_place_of_the_work_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "Work").write_text("")
    with pytest.raises(ScriptError, match="cannot be made"):
        Workspaces(tmp_path / "Work").ensure()
