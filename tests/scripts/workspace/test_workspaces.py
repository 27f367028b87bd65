"""Nothing is ever written through a symbolic link, and nothing is left of what failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tentacle.scripts.errors import ScriptError
from tentacle.scripts.workspace.removal import remove_tree
from tentacle.scripts.workspace.run_files import Stage, run_name
from tentacle.scripts.workspace.run_header import RunHeader
from tentacle.scripts.workspace.workspaces import WorkspaceFile, Workspaces
from tests.scripts.lab import left


@pytest.fixture
def workspaces(tmp_path: Path) -> Workspaces:
    workspaces = Workspaces(tmp_path / "Work")
    workspaces.ensure()
    assert list(workspaces.directories()) == []
    return workspaces


def header(ticket: str = "T") -> RunHeader:
    return RunHeader(ticket, "Task", "M", 1, 2.5, ("a", "b"))


def prepare(workspaces: Workspaces, *files: WorkspaceFile, ticket: str = "T") -> None:
    run = workspaces.prepare(header(ticket), "echo\r\n", files)
    assert run.examine().stage is Stage.PREPARED
    run.close()


def test_what_is_prepared_can_be_read_again(workspaces: Workspaces) -> None:
    wanted = header("Ticket")
    workspaces.prepare(wanted, "echo\r\n", ()).close()
    run = workspaces.runs.open(run_name("tICKET"))
    assert run is not None
    assert (run.header, run.header.wants.exclusive, run.workspace) == (wanted, True, workspaces.work / "Ticket")
    assert (run.workspace / "Bootstrap.sh").read_bytes() == b"echo\n"
    run.close()
    assert [path.name for path in (workspaces.work / "Ticket").iterdir()] == ["Bootstrap.sh"]
    assert (workspaces.work / "Ticket").stat().st_mode & 0o777 == 0o700
    assert workspaces.runs.path.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in workspaces.runs.path.iterdir()} == {0o600}


@pytest.fixture
def trap(workspaces: Workspaces, tmp_path: Path) -> Path:
    """A place outside, to which somebody has planted links in the workspace of T."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("untouched")
    (workspaces.work / "T").mkdir()
    return outside


@pytest.mark.parametrize("name", ["Bootstrap.sh", "data"])
def test_a_planted_link_is_replaced_and_not_followed(
    workspaces: Workspaces, trap: Path, tmp_path: Path, name: str
) -> None:
    (workspaces.work / "T" / name).symlink_to(trap / "victim")
    source = tmp_path / "source"
    source.write_text("new")
    prepare(workspaces, WorkspaceFile("data", source))
    assert (trap / "victim").read_text() == "untouched"
    assert not (workspaces.work / "T" / name).is_symlink()


def test_a_planted_directory_link_is_refused(workspaces: Workspaces, trap: Path, tmp_path: Path) -> None:
    (workspaces.work / "T" / "sub").symlink_to(trap)
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
    assert left(workspaces.work) == []
    assert workspaces.remove(path), "what is not there is gone"


def test_a_ticket_is_free_as_soon_as_its_workspace_is_moved_to_the_trash(workspaces: Workspaces) -> None:
    prepare(workspaces)
    (trash,) = workspaces.forget(run_name("T"), workspaces.work / "T")
    assert (workspaces.find("T"), list(workspaces.trash())) == (None, [trash])
    assert list(workspaces.runs.names()) == []
    assert (trash / "Bootstrap.sh").exists()
    prepare(workspaces)
    assert remove_tree(trash)
    assert (workspaces.work / "T" / "Bootstrap.sh").exists()
    assert workspaces.move_to_trash(workspaces.work / "nowhere") is None


def test_a_link_to_nowhere_in_place_of_the_work_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "Work").symlink_to("nowhere")
    with pytest.raises(ScriptError, match="cannot be made"):
        Workspaces(tmp_path / "Work").ensure()


def test_a_file_in_place_of_the_work_directory_is_moved_aside(tmp_path: Path) -> None:
    (tmp_path / "Work").write_text("kept")
    Workspaces(tmp_path / "Work").ensure()
    (aside,) = (path for path in tmp_path.iterdir() if path.name.startswith("Work-"))
    assert ((tmp_path / "Work").is_dir(), aside.read_text()) == (True, "kept")
