"""Files up and down (docs/spec/services.md, "File transfer"): whole or not at all."""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import os
import socket
import stat
import subprocess
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.file_transfer import UploadResult
from tentacle.services.errors import ServiceError
from tentacle.services.file_transfer import absolute
from tests.patience import PATIENCE
from tests.services.bench import HALIBUT_ALONE, Bench

SERVICE = "IFileTransferService"
IN_OPEN = 0x20
LONG_NAME = "長" * 80
"""Legal, with 240 bytes; little may be added to it."""


LARGE = 256 * 1024 + 1
"""Bytes from which a file is sent as it is found."""


def sha1(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def upload(bench: Bench, path: str, data: bytes = b"data") -> UploadResult:
    stream, files = bench.arrived(data)
    result: UploadResult = await bench.call(SERVICE, "UploadFile", path, stream, files=files)
    return result


async def refused_upload(bench: Bench, path: str, data: bytes = b"data") -> str:
    stream, files = bench.arrived(data)
    return await bench.refused(SERVICE, "UploadFile", path, stream, files=files)


async def download(bench: Bench, path: str) -> bytes | None:
    opened = await bench.download(path)
    if opened is None:
        return None
    data = await opened.read()
    assert opened.length == len(data)
    return data


# --- up ----------------------------------------------------------------------------------------------------------


async def test_an_upload(bench: Bench, tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "file"
    assert await upload(bench, str(target), b"hello") == UploadResult(str(target), sha1(b"hello"), 5)
    assert target.read_bytes() == b"hello"
    assert names(target.parent) == ["file"]
    assert list(bench.spool.iterdir()) == []


async def test_an_empty_file(bench: Bench, tmp_path: Path) -> None:
    assert (await upload(bench, str(tmp_path / "f"), b"")).hash == sha1(b"")


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
async def test_the_mode_is_that_of_any_new_file(bench: Bench, tmp_path: Path, umask: int) -> None:
    target = tmp_path / "file"
    before = os.umask(umask)
    try:
        await upload(bench, str(target))
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask


async def test_an_existing_file_is_replaced_in_one_step(bench: Bench, tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    target.chmod(0o600)
    with target.open() as reader:
        await upload(bench, str(target), b"new")
        assert reader.read() == "old"
    assert target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


async def test_a_link_is_replaced_and_what_it_points_to_is_not(bench: Bench, tmp_path: Path) -> None:
    real, link, nowhere = tmp_path / "real", tmp_path / "link", tmp_path / "dangling"
    real.write_text("real")
    link.symlink_to(real)
    nowhere.symlink_to(tmp_path / "missing")
    for path in (link, nowhere):
        await upload(bench, str(path), b"new")
        assert not path.is_symlink()
        assert path.read_text() == "new"
    assert real.read_text() == "real"
    assert not (tmp_path / "missing").exists()


async def test_a_directory_is_not_replaced(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "d")
    for path in (tmp_path / "d", tmp_path / "link"):
        assert await refused_upload(bench, str(path)) == f"{path} is a directory not a file"
        assert await refused_upload(bench, f"{path}/") == f"{path} is a directory not a file"
    for root in ("/", "//", "/..", "\\", "/x/.."):
        assert await refused_upload(bench, root) == "/ is a directory not a file"
    assert await refused_upload(bench, ".") == f"{bench.home} is a directory not a file"
    assert names(tmp_path / "d") == []


async def test_a_pipe_or_a_device_stays_what_it_is(bench: Bench, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/null")):
        assert await refused_upload(bench, str(path)) == f"'{path}' is neither a file nor a directory."
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert Path("/dev/null").is_char_device()


async def test_a_relative_path_begins_at_the_home_and_may_leave_it(bench: Bench) -> None:
    home = bench.home
    for path, target in {
        "a/b": home / "a/b",
        "a\\c": home / "a/c",
        "./x/../d": home / "d",
        "..\\outside": home.parent / "outside",
        "  e ": home / "  e ",
    }.items():
        assert (await upload(bench, path)).full_path == str(target)
        assert target.read_bytes() == b"data"


async def test_a_full_path_is_plain(bench: Bench, tmp_path: Path) -> None:
    for path in (f"/{tmp_path}/f", f"//{tmp_path}//./f", f"{tmp_path}\\x\\..\\f"):
        assert (await upload(bench, path)).full_path == str(tmp_path / "f")


@pytest.mark.parametrize("path", ["", " ", "\t\n", "a\0b", "\0"])
async def test_a_path_that_is_none(bench: Bench, path: str) -> None:
    assert await refused_upload(bench, path) == f"The path {path!r} is not in a form that can be used."
    assert await bench.refused(SERVICE, "DownloadFile", path)


async def test_names_at_the_limit(bench: Bench, tmp_path: Path) -> None:
    assert (await upload(bench, str(tmp_path / LONG_NAME))).hash == sha1(b"data")
    assert await download(bench, str(tmp_path / LONG_NAME)) == b"data"
    for path in (tmp_path / ("x" * 300), tmp_path / ("x" * 300) / "f", tmp_path / ("x/" * 3000)):
        message = await refused_upload(bench, str(path))
        assert message == f"Could not write the file '{path}': File name too long"
        assert await download(bench, str(path)) is None
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == [LONG_NAME]


async def test_without_a_stream_nothing_is_written(bench: Bench, tmp_path: Path) -> None:
    target = tmp_path / "never" / "file"
    assert await bench.call(SERVICE, "UploadFile", str(target), None) == UploadResult(str(target), None, 0)
    assert not target.parent.exists()


@HALIBUT_ALONE
async def test_a_stream_for_which_there_was_no_room(bench: Bench, tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    message = await bench.refused(SERVICE, "UploadFile", str(target), DataStream(uuid4(), 5), files={})
    assert message == f"There was no room for the 5 bytes of {target} when they arrived."
    message = await bench.refused(SERVICE, "UploadFile", str(target), DataStream(uuid4(), 2**50), files={})
    assert "does not have enough free disk space available for this operation to proceed" in message
    assert target.read_text() == "old"


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A directory on another file system than the spool's."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


async def test_across_file_systems(bench: Bench, elsewhere: Path) -> None:
    if elsewhere.stat().st_dev == bench.spool.stat().st_dev:
        pytest.skip("everything lies on one file system here")
    before = os.umask(0o027)
    try:
        result = await upload(bench, str(elsewhere / LONG_NAME), b"x" * 3_000_000)
    finally:
        os.umask(before)
    assert (result.hash, result.length) == (sha1(b"x" * 3_000_000), 3_000_000)
    assert names(elsewhere) == [LONG_NAME]
    assert stat.S_IMODE((elsewhere / LONG_NAME).stat().st_mode) == 0o640


SWAP_COPIES = """
import os, sys, threading
folder, victim = sys.argv[1:]
os.chdir(folder)
os.setgroups([]); os.setgid(65534); os.setuid(65534)
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
print("ready", flush=True)
seen = 0
while not ended.is_set():
    for name in os.listdir("."):
        if name.endswith(".part") and not os.path.islink(name):
            os.symlink(victim, "swap")
            os.rename("swap", name)
            seen += 1
print(seen)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root works in directories of other users")
async def test_a_copy_that_a_script_replaces_by_a_link_changes_nothing_at_its_end(
    bench: Bench, elsewhere: Path, open_way: Path
) -> None:
    """It once gave the mode of a new file to what the link led to, a key say."""
    if elsewhere.stat().st_dev == bench.spool.stat().st_dev:
        pytest.skip("everything lies on one file system here")
    victim = open_way / "key"
    victim.write_bytes(b"secret")
    victim.chmod(0o600)
    os.chown(elsewhere, 65534, 65534)
    swapping = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SWAP_COPIES, str(elsewhere), str(victim)), stdin=PIPE, stdout=PIPE
    )
    assert swapping.stdout is not None
    assert await swapping.stdout.readline() == b"ready\n"
    answers = []
    try:
        for turn in range(8):
            stream, files = bench.arrived(bytes(8 * 1024 * 1024))
            path = elsewhere / f"target{turn}"
            answer = await bench.wire.ask(SERVICE, "UploadFile", (str(path), stream), files)
            answers.append(answer.error[0] if answer.error else "placed")
            assert answer.error or not path.is_symlink()
    finally:
        seen, _ = await swapping.communicate(b"")
    assert int(seen) > 0, answers
    assert any("was replaced while it was being written" in answer for answer in answers), answers
    assert (victim.read_bytes(), stat.S_IMODE(victim.stat().st_mode), victim.stat().st_uid) == (b"secret", 0o600, 0)


SMALL_DISK = """
import asyncio, sys
from pathlib import Path
from uuid import uuid4
from tentacle.contracts.data_stream import DataStream
from tentacle.errors import TentacleError
from tentacle.services.file_transfer import FileTransferService, absolute
folder, service = Path(sys.argv[1]), FileTransferService(None)
def upload(source, size):
    source.write_bytes(bytes(size))
    stream = DataStream(uuid4(), size)
    try:
        asyncio.run(service.methods["UploadFile"]((str(folder / "small" / "target"), stream), {stream.id: source}))
        print("placed", (folder / "small" / "target").stat().st_size, source.exists())
    except TentacleError as error:
        print(str(error).partition(" on machine")[0], str(error).rpartition("; ")[2])
upload(folder / "small" / "spooled", 7 * 2**20)
(folder / "small" / "target").unlink()
upload(folder / "spooled", 7 * 2**20)
upload(folder / "spooled", 6 * 2**20)
"""


def test_space_is_asked_for_where_a_copy_is_made_and_not_for_a_renaming(tmp_path: Path) -> None:
    """On a disk of 8 MiB, in a mount namespace of its own which ends with the process."""
    small = tmp_path / "small"
    small.mkdir()
    command = f"mount -t tmpfs -o size=8m tmpfs {small} && exec {sys.executable} -c '{SMALL_DISK}' {tmp_path}"
    namespace = ["--mount"] if os.geteuid() == 0 else ["--mount", "--map-root-user"]
    done = subprocess.run(
        ["unshare", *namespace, "sh", "-c", command], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.stdout.splitlines() == [
        f"placed {7 * 2**20} False",
        f"The drive '{small}' containing the directory '{small}' please free up at least 8.7 MB.",
        f"placed {6 * 2**20} True",
    ], done.stderr


@HALIBUT_ALONE
async def test_a_failure_in_the_middle_leaves_the_old_file_and_no_rubbish(bench: Bench, elsewhere: Path) -> None:
    (elsewhere / "file").write_text("old")
    stream, files = bench.arrived(b"x")
    for path in files.values():
        path.unlink()
        path.mkdir()
    message = await bench.refused(SERVICE, "UploadFile", str(elsewhere / "file"), stream, files=files)
    assert message.startswith("Could not write the file") or "directory" in message
    assert (elsewhere / "file").read_text() == "old"
    assert names(elsewhere) == ["file"]


async def test_uploads_to_one_path_at_once_leave_one_of_them_whole(bench: Bench, tmp_path: Path) -> None:
    bodies = [bytes([65 + n]) * 300_000 for n in range(8)]
    results = await asyncio.gather(*(upload(bench, str(tmp_path / "f"), body) for body in bodies))
    assert [r.hash for r in results] == [sha1(body) for body in bodies]
    assert (tmp_path / "f").read_bytes() in bodies
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["f"]


async def test_what_stands_in_the_way_of_a_path(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    target = tmp_path / "file" / "below"
    assert await refused_upload(bench, str(target)) == f"The file '{target.parent}' already exists."
    assert "Not a directory" in await refused_upload(bench, f"{target}/deeper")
    assert await download(bench, str(target)) is None
    assert await refused_upload(bench, "/proc/nope/x") == "Could not find file '/proc/nope'."


UNPRIVILEGED = """
import asyncio, concurrent.futures.thread, os, sys
from pathlib import Path
from tentacle.services.errors import ServiceError
from tentacle.services.file_transfer import FileTransferService, absolute
from tentacle.contracts.data_stream import DataStream
from uuid import uuid4
os.setgroups([]); os.setgid(65534); os.setuid(65534)
service = FileTransferService(None)
async def tell(name, *arguments, files={}):
    try:
        await service.methods[name](arguments, files)
    except ServiceError as error:
        print(error.dotnet_type, error)
stream = DataStream(uuid4(), 1)
asyncio.run(tell("UploadFile", sys.argv[1] + "/new", stream, files={stream.id: Path(sys.argv[1], "nothing")}))
asyncio.run(tell("DownloadFile", sys.argv[1] + "/secret"))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_what_the_agent_s_user_may_not_do(elsewhere: Path) -> None:
    elsewhere.chmod(0o755)
    (elsewhere / "secret").write_text("x")
    (elsewhere / "secret").chmod(0o600)
    (elsewhere / "nothing").write_text("x")
    done = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED, str(elsewhere)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stdout.splitlines() == [
        f"System.UnauthorizedAccessException Access to the path '{elsewhere}/{name}' is denied."
        for name in ("new", "secret")
    ], done.stderr


# --- down --------------------------------------------------------------------------------------------------------


async def test_a_download(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"hello")
    (tmp_path / "link").symlink_to("f")
    for path in (str(tmp_path / "f"), str(tmp_path / "link"), f"//{tmp_path}\\f"):
        assert await download(bench, path) == b"hello"
    (bench.home / "g").write_bytes(b"")
    assert await download(bench, "g") == b""


async def test_what_is_not_there_is_null(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    for path in ("nope", str(tmp_path), str(tmp_path / "dangling"), str(tmp_path / "loop"), "/", "."):
        assert await download(bench, path) is None


async def test_what_is_no_file_is_refused_without_hanging(bench: Bench, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    async with asyncio.timeout(PATIENCE):
        message = await bench.refused(SERVICE, "DownloadFile", str(tmp_path / "pipe"))
        assert message == f"'{tmp_path}/pipe' is neither a file nor a directory."
        assert await bench.refused(SERVICE, "DownloadFile", "/dev/zero")
        with tempfile.TemporaryDirectory(dir="/tmp") as short, socket.socket(socket.AF_UNIX) as sock:
            sock.bind(f"{short}/s")
            assert await bench.refused(SERVICE, "DownloadFile", f"{short}/s")


async def test_what_is_no_file_is_not_even_opened(bench: Bench, tmp_path: Path) -> None:
    """Opening alone arms a watchdog, rewinds a tape, or lets a pipe's writer go on."""
    libc = ctypes.CDLL(None, use_errno=True)
    os.mkfifo(tmp_path / "pipe")
    watch = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        assert libc.inotify_add_watch(watch, os.fsencode(tmp_path / "pipe"), IN_OPEN) >= 0
        assert await bench.refused(SERVICE, "DownloadFile", str(tmp_path / "pipe"))
        with pytest.raises(BlockingIOError):
            os.read(watch, 4096)
        os.close(os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK))
        assert os.read(watch, 4096), "it would have been seen"
    finally:
        os.close(watch)


async def test_a_file_that_vanishes_while_it_is_sent_is_sent_whole(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    opened = await bench.download(str(tmp_path / "f"))
    assert opened is not None
    (tmp_path / "f").unlink()
    assert (opened.length, await opened.read()) == (10, b"0123456789")


@HALIBUT_ALONE
async def test_the_length_is_that_of_the_moment_of_opening(bench: Bench, tmp_path: Path) -> None:
    """What is announced is what the file had; the transport drops a connection on which it cannot be kept."""
    (tmp_path / "f").write_bytes(b"x" * LARGE)
    opened = await bench.download(str(tmp_path / "f"))
    assert opened is not None
    (tmp_path / "f").write_bytes(b"01")
    assert opened.length == LARGE
    assert await opened.read() == b"01"


async def test_a_small_file_is_sent_as_it_was(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    opened = await bench.download(str(tmp_path / "f"))
    assert opened is not None
    (tmp_path / "f").write_bytes(b"01")
    assert (opened.length, await opened.read()) == (10, b"0123456789")


# --- paths -------------------------------------------------------------------------------------------------------


def test_without_a_home_only_full_paths_work() -> None:
    assert absolute(None, "/x") == "/x"
    with pytest.raises(ServiceError, match="home directory has not been set"):
        absolute(None, "x")


@given(st.text())
def test_every_text_is_a_plain_path_or_refused(text: str) -> None:
    try:
        path = absolute(Path("/home/of"), text)
    except ServiceError as error:
        assert "\n" not in error.message
        return
    assert path.startswith("/")
    assert not path.startswith("//")
    assert not {".", ".."} & set(path.split("/"))
    path.encode()
