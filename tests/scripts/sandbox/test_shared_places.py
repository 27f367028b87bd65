"""What all scripts of an agent share, whatever keeps them apart: what Calamari locks with, and what it keeps."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tentacle.scripts.errors import SandboxUnavailableError
from tentacle.scripts.sandbox.shared_places import SharedPlaces, dotnet_directories
from tests.scripts.lab import Lab, lines
from tests.scripts.named_mutex import COUNT, counting, interpreter
from tests.scripts.sandboxes import SANDBOXES, options, own_uids

SCRIPTS = 8
DOTNET_10 = "/tmp/.dotnet/shm/global"
DOTNET_8 = "$HOME/.dotnet/corefx/Runtime/SharedMemory"


@pytest.fixture
def home() -> Iterator[Path]:
    """The home of an instance that other users can reach."""
    base = Path(tempfile.mkdtemp(dir="/tmp", prefix="tentacle-test-"))
    base.chmod(0o755)
    (base / "home").mkdir(mode=0o755)
    yield base / "home"
    shutil.rmtree(base)


@pytest.fixture
def make_lab(home: Path, new_lab: Callable[..., Lab]) -> Callable[[str], Lab]:
    def make(sandbox: str) -> Lab:
        return new_lab(options(replace(SANDBOXES[sandbox], uids=own_uids())), home / "Work")

    return make


@pytest.mark.parametrize("directory", [DOTNET_10, DOTNET_8], ids=["dotnet10", "dotnet8"])
@pytest.mark.parametrize("sandbox", ["cgroup", "private, cgroup", "user, cgroup"])
async def test_scripts_that_lock_as_dotnet_does_lose_nothing(
    make_lab: Callable[[str], Lab], home: Path, monkeypatch: pytest.MonkeyPatch, sandbox: str, directory: str
) -> None:
    if not interpreter():
        pytest.skip("needs a Python that every user can run, /usr/bin/python3 say")
    (home / "agent").mkdir()
    monkeypatch.setenv("HOME", str(home / "agent"))
    lab = make_lab(sandbox)
    await lab.engine.start()
    name = f"tentacle-test-{secrets.token_hex(8)}"
    journal, go = home / "PackageRetentionJournal.json", home / "go"
    body = counting(directory, name, journal, go)
    tickets = [f"T-{number}" for number in range(SCRIPTS)]
    try:
        await asyncio.gather(*(lab.start(body, ticket) for ticket in tickets))
        await asyncio.gather(*(lab.started(ticket) for ticket in tickets))
        go.touch()
        ends = await asyncio.gather(*(lab.ended(ticket, 60) for ticket in tickets))
        assert [lines(status) for status in ends] == [["ready", "done"]] * SCRIPTS
        assert int(journal.read_text()) == SCRIPTS * COUNT
    finally:
        Path(DOTNET_10, name).unlink(missing_ok=True)


FIRST = """
mkdir -p "$H/Tools/c" "$H/Applications/app"
echo one >"$H/Tools/c/program"; echo one >"$H/Applications/app/file"; echo one >"$H/PackageRetentionJournal.json"
exec 9<>"$H/ScriptIsolation.RunningScript.lock"
umask 077; echo secret >"$H/Files/package"
echo ready; until test -e "$H/go"; do read -t 0.02 </dev/zero; done; cat "$H/PackageRetentionJournal.json"
"""
SECOND = """
exec 9<>"$H/ScriptIsolation.RunningScript.lock" && echo locked
echo two >"$H/journal" && mv "$H/journal" "$H/PackageRetentionJournal.json" && echo replaced
chmod +x "$H/Tools/c/program" && touch -d 2001-01-01 "$H/Tools/c/program" && echo changed
rm -r "$H/Applications/app" && cat "$H/Files/package" && touch "$H/go"
mv "$H/tentacle.config" "$H/x"; echo x >"$H/tentacle.config"; echo x >"$H/agent.lock"; rm -rf "$H/Work/.runs" "$H/Logs"
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give scripts users of their own")
async def test_what_one_script_has_put_into_a_shared_place_the_next_one_can_replace(
    make_lab: Callable[[str], Lab], home: Path
) -> None:
    """While the first one still runs; but nothing of the agent."""
    for name in ("tentacle.config", "agent.lock"):
        (home / name).write_text("of the agent")
    (home / "Logs").mkdir()
    lab = make_lab("user, cgroup")
    await lab.engine.start()
    await lab.start(f"H='{home}'{FIRST}", "T-1")
    await lab.started("T-1")
    second = lines(await lab.run(f"H='{home}'{SECOND}", "T-2"))
    assert second[:4] == ["locked", "replaced", "changed", "secret"]
    assert [line.rpartition(": ")[2] for line in second[4:]] == [
        "Operation not permitted",
        "Permission denied",
        "Permission denied",
        "Read-only file system",
        "Operation not permitted",
    ]
    assert lines(await lab.ended("T-1")) == ["ready", "two"]
    assert (home / "tentacle.config").read_text() == (home / "agent.lock").read_text() == "of the agent"
    owner = lab.engine.options.sandbox.uids.owner
    shared = ("Tools/c/program", "Files/package", "PackageRetentionJournal.json", "ScriptIsolation.RunningScript.lock")
    assert {(home / name).stat().st_uid for name in shared} == {owner}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give scripts users of their own")
async def test_an_upload_into_a_shared_place_is_the_scripts_own(make_lab: Callable[[str], Lab], home: Path) -> None:
    """But no link is followed, and nothing is given in the home itself."""
    lab = make_lab("user, cgroup")
    await lab.engine.start()
    uploaded, elsewhere = home / "Tools" / "new" / "program", home.parent / "elsewhere"
    for path in (uploaded, elsewhere / "file", home / "Work" / "file", home / "file"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("echo fine")
    (home / "Tools" / "link").symlink_to(elsewhere)
    os.link(elsewhere / "file", home / "Tools" / "second name")
    for path in (uploaded, home / "Tools" / "link" / "file", home / "Tools" / "second name", home / "Work" / "file"):
        lab.engine.take_in(path)
    for path in (home / "file", home.parent / "elsewhere" / "file", home / "Tools" / "nowhere" / "file"):
        lab.engine.take_in(path)
    assert lines(await lab.run(f"chmod +x '{uploaded}' && '{uploaded}' && rm -r '{uploaded.parent}'")) == ["fine"]
    assert {path.stat().st_uid for path in (elsewhere, elsewhere / "file", home / "Work" / "file", home / "file")} == {
        0
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give scripts users of their own")
def test_what_was_there_before_is_given_once_and_again_after_scripts_had_the_agents_user(home: Path) -> None:
    owner, applications, outside = own_uids().owner, home.parent / "applications", home.parent / "outside"
    kept = [outside, home / "tentacle.config", home / "Tools" / "second name", applications / "of somebody"]
    given = [home / "Tools" / "a" / "b", home / "Files" / "p", home / "DeploymentJournal.xml", applications / "x"]
    for path in (*kept[:-2], kept[-1], *given):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    os.link(outside, home / "Tools" / "second name")
    (home / "Tools" / "link").symlink_to(outside)
    os.chown(applications / "of somebody", owner + 7, -1)
    places = SharedPlaces(home, applications, owner)

    def owners(paths: list[Path]) -> set[int]:
        return {path.stat().st_uid for path in paths}

    places.open()
    assert owners(given) == {owner}
    assert owners(kept) == {0, owner + 7}
    late = home / "Tools" / "a" / "late"
    late.touch()
    places.open()
    assert owners([late]) == {0}
    places.close()
    places.open()
    assert owners([late, *given]) == {owner}
    # Another range: what the former owner had is the new one's.
    SharedPlaces(home, applications, owner + 1).open()
    assert owners([late, *given]) == {owner + 1}
    assert owners(kept) == {0, owner + 7}


MAKE: dict[str, Callable[[Path, Path], None]] = {
    "link": lambda path, outside: path.symlink_to(outside),
    "link to nothing": lambda path, outside: path.symlink_to(outside / "nothing"),
    "file": lambda path, _outside: path.touch(),
    "fifo": lambda path, _outside: os.mkfifo(path),
}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give scripts users of their own")
@pytest.mark.parametrize("kind", MAKE)
def test_what_scripts_have_put_in_place_of_a_shared_directory_gives_them_no_rights_and_stops_no_start(
    home: Path, kind: str
) -> None:
    owner, applications, outside = own_uids().owner, home / "deep" / "Applications", home.parent / "outside"
    (outside / "Applications").mkdir(parents=True)
    (outside / "of root").touch()
    SharedPlaces(home, applications, owner).open()
    os.chown(home / "deep", owner, owner)
    before = [(path.stat().st_mode, path.stat().st_gid) for path in (outside, outside / "Applications")]
    for place in (home / "Tools", home / "Files", applications):
        place.rmdir()
        MAKE[kind](place, outside)
        os.chown(place, owner, owner, follow_symlinks=False)
    later = SharedPlaces(home, applications, owner)
    later.open()
    assert later.roots == (home,)
    shutil.rmtree(home / "deep")
    MAKE[kind](home / "deep", outside)
    os.chown(home / "deep", owner, owner, follow_symlinks=False)
    latest = SharedPlaces(home, applications, owner)
    latest.open()
    assert latest.roots == (home,)
    for place in (home / "Tools", home / "Files", applications):
        assert stat.S_ISDIR(place.lstat().st_mode)
        assert (place.stat().st_uid, place.stat().st_gid) == (owner, owner)
    assert [(path.stat().st_mode, path.stat().st_gid) for path in (outside, outside / "Applications")] == before
    assert (outside / "of root").stat().st_uid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give scripts users of their own")
def test_a_link_of_root_to_the_applications_is_followed_and_one_of_another_user_is_refused(home: Path) -> None:
    owner, applications, real = own_uids().owner, home.parent / "applications", home.parent / "real"
    real.mkdir()
    applications.symlink_to("elsewhere/../real")
    (home.parent / "elsewhere").symlink_to(home)
    # As the kernel does: `..` is that of the directory that the link leads to.
    places = SharedPlaces(home, applications, owner)
    places.open()
    assert set(places.roots) == {home, real}
    assert real.stat().st_gid == owner
    real.chmod(0o755)
    os.chown(applications, owner + 7, owner + 7, follow_symlinks=False)
    with pytest.raises(SandboxUnavailableError, match="cannot be given rights"):
        SharedPlaces(home, applications, owner).open()
    assert stat.S_IMODE(real.stat().st_mode) == 0o755


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give scripts users of their own, or mount")
def test_a_disk_without_room_for_a_shared_directory_stops_no_start(home: Path) -> None:
    """A script has removed the directory, and made as many files as the disk can hold."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=10,mode=755", "tmpfs", home], check=True)
    try:
        places = SharedPlaces(home, None, own_uids().owner)
        places.open()
        (home / "Tools").rmdir()
        with pytest.raises(OSError, match="No space left"):
            for number in range(20):
                (home / str(number)).touch()
        places.open()
        assert not (home / "Tools").exists()
        (home / "0").unlink()
        places.open()
        assert (home / "Tools").stat().st_uid == own_uids().owner
    finally:
        subprocess.run(["umount", home], check=True)


def test_the_directories_of_dotnet_are_made_as_dotnet_makes_them(tmp_path: Path) -> None:
    everybodys, own = dotnet_directories(tmp_path)
    assert (everybodys.name, own.name) == (".dotnet", f".dotnet-uid{os.geteuid()}")
    assert stat.S_IMODE(everybodys.stat().st_mode) & 0o777 == 0o777
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    (everybodys / "shm").mkdir()
    everybodys.chmod(0o755)
    assert dotnet_directories(tmp_path) == [everybodys, own]
    assert stat.S_IMODE(everybodys.stat().st_mode) & 0o777 == 0o777
    assert dotnet_directories(tmp_path / "nowhere") == []


@pytest.mark.parametrize("planted", ["link", "file"])
def test_what_somebody_has_planted_in_their_place_is_not_followed(tmp_path: Path, planted: str) -> None:
    place, elsewhere = tmp_path / ".dotnet", tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    place.symlink_to(elsewhere) if planted == "link" else place.touch()
    assert dotnet_directories(tmp_path)[0] == place
    assert place.is_dir()
    assert not place.is_symlink()
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can plant what another user may not remove")
def test_what_cannot_be_removed_is_told(open_way: Path) -> None:
    open_way.chmod(0o1777)
    (open_way / ".dotnet").symlink_to("/nowhere")
    text = (
        "import os, sys; from pathlib import Path; from tentacle.scripts.sandbox.shared_places import *\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "try: dotnet_directories(Path(sys.argv[1]))\n"
        "except SandboxUnavailableError as error: print(error.message, error.hint)"
    )
    done = subprocess.run([sys.executable, "-c", text, open_way], capture_output=True, text=True, check=True)
    assert f"'{open_way}/.dotnet', in which programs of .NET keep their locks, cannot be used" in done.stdout
    assert f"rm '{open_way}/.dotnet'" in done.stdout
