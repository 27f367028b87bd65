"""Whatever lies in `Work/`, the agent starts, serves everything else, and touches nothing outside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tentacle.cli.status.work_directory import read_work_directory
from tentacle.errors import TentacleError
from tentacle.home_layout import MASK_KEY, RUNS
from tentacle.scripts.retention import Quota, WorkspaceCleaner
from tentacle.scripts.shim import run_record
from tentacle.scripts.shim.clock import BOOT
from tentacle.scripts.shim.log_format import VERSION, record
from tentacle.scripts.shim.run_record import Result
from tentacle.scripts.workspace.run_directory import LONGEST_HEADER, RunDirectory
from tentacle.scripts.workspace.run_files import run_name
from tentacle.scripts.workspace.run_header import RunHeader
from tests.patience import PATIENCE
from tests.scripts.lab import Lab, lines

TICKETS = ("T-0", "T-1", "T-2", "../victim", "..", ".", "", ".runs", "/", "\ud800", "a\0b", "x" * 300)
SPARSE = 1 << 40
DEEP = 100_000

Throw = Callable[[Path], None]
"""Puts something at a path at which nothing is."""


def run_file(header: bytes, result: Result | None = None, *, claimed: bool = False) -> bytes:
    """A `.run` file with valid checksums."""
    run = os.memfd_create("run")
    with os.fdopen(run, "r+b") as file:
        os.write(run, run_record.head() + run_record.encode_header(header))
        if claimed:
            run_record.mark_claimed(run)
        if result is not None:
            run_record.write_result(run, result)
        file.seek(0)
        return file.read()


def header(ticket: str, changes: dict[str, Any] | None = None) -> bytes:
    """A header as ours, but for the changes; what JSON cannot hold is written as Python's reader would take it."""
    values = json.loads(RunHeader("T", "Task", "M", 1, None, ()).encode())
    return json.dumps({**values, "ticket": ticket, **(changes or {})}).encode()


VALUES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([None, True, -1, 2**53, 2**70, 1e300, float("nan"), float("inf"), 253_402_300_800_000]),
    st.sampled_from(["", "x", "\0", "\ud800", "../x", "/"]),
    st.integers(1, DEEP).map(lambda length: "x" * length),
    st.sampled_from([[], {}, [[]], {"a": []}, [None], [1e300] * 3, ["\0"], ["\ud800"], [1, "2"]]),
)
CHANGES = st.dictionaries(st.sampled_from(list(json.loads(header("T")))), VALUES, max_size=3)
RAW_HEADERS = st.one_of(
    st.binary(max_size=50),
    st.sampled_from([b"null", b"[]", b'"x"', b"{}", b'{"arguments": 1}']),
    st.sampled_from([b"[", b'{"a":', b"1"]).map(lambda start: start * DEEP),
)
RESULTS = st.builds(
    Result,
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([BOOT, bytes(16)]),
    st.integers(0, 2**64 - 1),
    st.binary(min_size=1, max_size=1),
    st.text(max_size=80),
    cpu=st.integers(-1, 2**63 - 1),
    memory=st.integers(-1, 2**63 - 1),
)
RUN_FILES = st.one_of(
    st.builds(
        lambda ticket, changes, result, claimed: run_file(header(ticket, changes), result, claimed=claimed),
        st.sampled_from(TICKETS),
        CHANGES,
        st.none() | RESULTS,
        st.booleans(),
    ),
    st.builds(lambda raw, claimed: run_file(raw, claimed=claimed), RAW_HEADERS, st.booleans()),
)
LOGS = st.builds(
    lambda kind, occurred, body, tail: VERSION + record(kind, occurred, body) + tail,
    st.binary(min_size=1, max_size=1) | st.sampled_from([b"o", b"E", b"D"]),
    st.integers(0, 2**64 - 1),
    st.binary(max_size=100),
    st.binary(max_size=40),
)
CONTENTS = st.one_of(RUN_FILES, LOGS, st.binary(max_size=200), st.just(b"tentacle run x\n"), st.just(VERSION))


def content(data: bytes) -> Throw:
    def throw(path: Path) -> None:
        path.write_bytes(data)

    return throw


def sparse(start: bytes) -> Throw:
    def throw(path: Path) -> None:
        path.write_bytes(start)
        os.truncate(path, SPARSE)

    return throw


def directory(path: Path) -> None:
    (path / "in").mkdir(parents=True)
    (path / "in" / "Bootstrap.sh").write_text("exit 0")


def link(target: str) -> Throw:
    return lambda path: path.symlink_to(target.replace("{here}", path.name))


def unix_socket(path: Path) -> None:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def somebody_elses(data: bytes) -> Throw:
    def throw(path: Path) -> None:
        path.write_bytes(data)
        if os.geteuid() == 0:
            os.chown(path, 20001, 20001)

    return throw


THINGS: st.SearchStrategy[Throw] = st.one_of(
    st.builds(content, CONTENTS),
    st.builds(sparse, CONTENTS),
    st.builds(somebody_elses, CONTENTS),
    st.sampled_from([os.mkfifo, directory, unix_socket]),
    st.builds(link, st.sampled_from(["../../victim/file", "../victim", "/dev/zero", "{here}", "nowhere"])),
)
NAMES = [run_name(ticket) for ticket in TICKETS]
PLACES = st.one_of(
    st.builds(
        lambda name, ending: f"{RUNS}/{name}{ending}",
        st.sampled_from(NAMES) | st.sampled_from(["", ".", "..", "finished", "../T-1/x", "\udcff"]),
        st.sampled_from([".run", ".log", ".tmp", ""]),
    ),
    st.sampled_from([f"{RUNS}/finished", f"{RUNS}/finished.new", MASK_KEY, ".trash-1", "T-0", "T-1/Bootstrap.sh"]),
    st.sampled_from(["T-1/Output.log", "T-2/.tentacle", "T-2/.tentacle/claimed", "T-2/.tentacle/result"]),
)


def throw_at(work: Path, place: str, thing: Throw) -> None:
    path = work / place
    with contextlib.suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(path):
            thing(path)


class Kept(logging.Handler):
    """Keeps what is logged: no fixture may serve the many examples of one test."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextlib.contextmanager
def logged() -> Iterator[list[str]]:
    handler, logger = Kept(), logging.getLogger("tentacle")
    logger.addHandler(handler)
    try:
        yield handler.messages
    finally:
        logger.removeHandler(handler)


async def serve(lab: Lab) -> None:
    """An agent's life among what lies there: it may refuse with an error of its own, and do nothing else."""
    with logged() as messages:
        await lab.engine.start()
        assert [message for message in messages if "\n" in message] == []
        named = [message for message in messages if "The record of a script in" in message]
        assert len({message.split("'")[1] for message in named}) == len(named), "each of them is named once"
    status = await lab.run("echo good; exit 7", "good")
    assert (lines(status), status.exit_code) == (["good"], 7)
    for ticket in TICKETS:
        for call in (lab.engine.status(ticket, 0), lab.start("true", ticket), lab.engine.cancel(ticket, 0)):
            with contextlib.suppress(TentacleError):
                await call
    read_work_directory(lab.work)
    sweep = WorkspaceCleaner(lab.engine, older_than=timedelta(days=1), every=timedelta(days=1), quota=Quota(bytes=1))
    await sweep.sweep()
    much_later = WorkspaceCleaner(
        lab.engine, older_than=timedelta(0), every=timedelta(days=1), clock=lambda: 1e12, since_boot=lambda: 2**62
    )
    await much_later.sweep()
    for ticket in TICKETS:
        with contextlib.suppress(TentacleError):
            await lab.engine.complete(ticket)
    await lab.engine.completed.drained()
    status = await lab.run("echo better; exit 8", "better")
    assert (lines(status), status.exit_code) == (["better"], 8)


async def throw_and_serve(throws: list[tuple[str, Throw]], home: Path) -> None:
    victim = home / "victim"
    victim.mkdir()
    for name in ("file", "Bootstrap.sh", "Output.log"):
        (victim / name).write_text("untouched")
        os.utime(victim / name, (1, 1))
    lab = Lab(home / "Work")
    lab.engine.workspaces.ensure()
    for place, thing in throws:
        throw_at(lab.work, place, thing)
    try:
        async with asyncio.timeout(PATIENCE):
            await serve(lab)
    finally:
        await lab.close()
    assert {path.name: path.read_text() for path in victim.iterdir()} == dict.fromkeys(
        ("file", "Bootstrap.sh", "Output.log"), "untouched"
    )
    assert [path.name for path in home.iterdir() if path.name not in ("victim", "Work")] == []


@settings(max_examples=40)
@given(st.lists(st.tuples(PLACES, THINGS), min_size=1, max_size=10))
def test_whatever_lies_there_the_agent_serves_everything_else(throws: list[tuple[str, Throw]]) -> None:
    with tempfile.TemporaryDirectory() as home:
        asyncio.run(throw_and_serve(throws, Path(home)))


@pytest.mark.parametrize("ticket", ["../victim", "..", ".runs", "/", "\ud800", "a\0b", "x" * 300])
async def test_a_ticket_that_leaves_the_directory_is_not_believed(tmp_path: Path, ticket: str) -> None:
    """Valid in all else, and old: a sweep would remove the place that it names."""
    result = Result.now(0)._replace(since_boot=-(2**40))
    place = f"{RUNS}/{run_name(ticket)}.run"
    await throw_and_serve([(place, content(run_file(header(ticket), result)))], tmp_path)


@pytest.mark.parametrize("name", ["", ".", "..", "x", "f" * 63])
async def test_what_is_called_nearly_like_a_run_is_none(lab: Lab, name: str) -> None:
    """Of `...run` the name would be `..`, and so its directory the one with everything in it."""
    await lab.start("echo ready; sleep 600")
    await lab.started()
    other = lab.run_path().with_name(f"{name}.run")
    other.touch()
    os.utime(other, (1, 1))
    day = timedelta(days=1)
    assert await WorkspaceCleaner(lab.engine, older_than=day, every=day).sweep() == 0
    assert (lab.work / "T-1" / "Bootstrap.sh").exists()
    assert lab.run_path().exists()


@pytest.mark.parametrize("kind", [b"z", b"\0", b"o"])
async def test_a_result_of_a_kind_that_nobody_writes_is_a_result(lab: Lab, kind: bytes) -> None:
    await lab.run("exit 4")
    await lab.engine.aclose()
    with lab.run_path().open("r+b") as file:
        run_record.write_result(file.fileno(), Result.now(4, kind=kind, reason="why"))
    await lab.engine.start()
    status = await lab.ended()
    assert (status.exit_code, status.entries[-1].text) == (4, "why")


async def test_a_result_from_the_future_does_not_stay_for_ever(lab: Lab) -> None:
    await lab.run("exit 4")
    with lab.run_path().open("r+b") as file:
        run_record.write_result(file.fileno(), Result.now(4)._replace(since_boot=2**62))
    for path in (lab.log_path(), lab.run_path()):
        os.utime(path, (1, 1))
    day = timedelta(days=1)
    assert await WorkspaceCleaner(lab.engine, older_than=day, every=day).sweep() == 1


async def test_what_no_later_agent_would_read_is_not_begun(lab: Lab) -> None:
    with pytest.raises(TentacleError, match=r"could not be prepared: .*Argument list too long"):
        await lab.run("true", mutex_name="x" * LONGEST_HEADER)
    assert await lab.left() == []
    status = await lab.run("exit 3", mutex_name="x" * (LONGEST_HEADER - 1000))
    await lab.engine.aclose()
    await lab.engine.start()
    assert await lab.engine.status("T-1", 0) is not None
    assert status.exit_code == 3


BOUNDED = """
import asyncio, resource, sys
from pathlib import Path
from tentacle.scripts.engine import *
from tentacle.scripts.requests import *
from tentacle.scripts.errors import ScriptError
from tentacle.scripts.retention import *
from datetime import timedelta
async def main(work):
    engine = ScriptEngine(Path(work), options=EngineOptions(minimum_free_bytes=None))
    await engine.start()
    for number in range(6):
        for call in (engine.status(f"T-{number}", 0), engine.start_script(StartRequest(f"T-{number}", "true"))):
            try:
                await call
            except TentacleError:
                pass
    cleaner = WorkspaceCleaner(engine, older_than=timedelta(0), every=timedelta(1), quota=Quota(bytes=1))
    await cleaner.sweep()
    status = await engine.start_script(StartRequest("good", "exit 7"), timedelta(seconds=float(sys.argv[2])))
    await engine.aclose()
    print(status.exit_code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
asyncio.run(main(sys.argv[1]))
"""
LARGEST_RISE = 256 * 1024
"""KiB; the longest header is 16 MiB, and a few copies of it are in hand at a time."""


def peak(work: Path) -> int:
    done = subprocess.run(
        [sys.executable, "-c", BOUNDED, str(work), str(PATIENCE)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    code, size = done.stdout.split()
    assert code == "7"
    return int(size)


def test_what_is_huge_is_not_read_into_memory(tmp_path: Path) -> None:
    empty, full = tmp_path / "empty" / "Work", tmp_path / "full" / "Work"
    runs = RunDirectory(full)
    runs.path.mkdir(parents=True)
    huge = (2**32 - 1).to_bytes(4, "little")
    whole = run_file(header("T-1"))
    starts = [bytes(9), whole, run_record.head() + huge, run_file(b"[" * (16 << 20)), run_file(b"x" * (16 << 20))]
    for number, start in enumerate(starts):
        sparse(start)(runs.run_path(run_name(f"T-{number}")))
    sparse(VERSION)(runs.log_path(run_name("T-1")))
    sparse(b"")(runs.log_path(run_name("T-5")))
    runs.run_path(run_name("T-5")).write_bytes(run_file(header("T-5"), Result.now(3)))
    for name in ("finished", "finished.new"):
        sparse(b"rubbish")(runs.path / name)
    sparse(b"")(full / MASK_KEY)
    assert peak(full) - peak(empty) < LARGEST_RISE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_somebody_else_s_file_does_not_pass_for_a_newer_version_s(new_lab: Callable[..., Lab]) -> None:
    lab = new_lab()
    lab.engine.workspaces.ensure()
    somebody_elses(b"tentacle run 2\n")(lab.run_path())
    await lab.engine.start()
    assert lines(await lab.run("echo one", "T-2")) == ["one"]


WITHOUT_LOCKS = """
import asyncio, ctypes, platform, struct, sys
from pathlib import Path
from tentacle.scripts.engine import ScriptEngine
from tentacle.scripts.errors import ScriptError

# A filter that lets fcntl(F_SETLK) fail with ENOLCK, as some network file systems do, and everything else through.
AUDIT, FCNTL = {"x86_64": (0xC000003E, 72), "aarch64": (0xC00000B7, 25)}[platform.machine()]
LOAD, EQUAL, RETURN, ALLOW, ENOLCK = 0x20, 0x15, 0x06, 0x7FFF0000, 0x00050000 | 37
steps = [(LOAD, 0, 0, 4), (EQUAL, 0, 5, AUDIT), (LOAD, 0, 0, 0), (EQUAL, 0, 3, FCNTL), (LOAD, 0, 0, 24),
         (EQUAL, 0, 1, 6), (RETURN, 0, 0, ENOLCK), (RETURN, 0, 0, ALLOW)]
program = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *step) for step in steps))
filter_ = struct.pack("@HP", len(steps), ctypes.addressof(program))
prctl = ctypes.CDLL(None, use_errno=True).prctl
assert prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, ctypes.c_char_p(filter_), 0, 0) == 0, ctypes.get_errno()

async def main():
    engine = ScriptEngine(Path(sys.argv[1]))
    try:
        await engine.start()
    except ScriptError as error:
        print(error)
    finally:
        await engine.aclose()
asyncio.run(main())
"""


def test_a_file_system_without_locks_is_refused_at_the_start_with_its_name(tmp_path: Path) -> None:
    work = tmp_path / "Work"
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_LOCKS, str(work)], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert done.stdout.splitlines()[0] == f"The file system of '{work / RUNS}' cannot lock files: No locks available"
    assert list((work / RUNS).iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "pipe", "socket"])
async def test_what_lies_in_place_of_the_directory_is_moved_aside(
    lab: Lab, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    await lab.engine.aclose()
    place = lab.work / RUNS
    place.rmdir() if not any(place.iterdir()) else place.rename(lab.work / "former")
    with contextlib.ExitStack() as undo:
        if kind == "file":
            place.write_text("somebody's work")
        elif kind == "pipe":
            os.mkfifo(place)
        else:
            undo.enter_context(socket.socket(socket.AF_UNIX)).bind(str(place))
        next_lab = Lab(lab.work)
        await next_lab.engine.start()
        try:
            assert lines(await next_lab.run("echo here", "T-2")) == ["here"]
        finally:
            await next_lab.engine.aclose()
    (aside,) = lab.work.glob(f"{RUNS}-*")
    assert [str(aside) in message for message in caplog.messages if "was no directory" in message] == [True]
    if kind == "file":
        assert aside.read_text() == "somebody's work"


async def test_a_link_in_place_of_the_directory_is_moved_aside(tmp_path: Path) -> None:
    """Runs may be where it leads, but no script may keep an agent from starting."""
    work = tmp_path / "Work"
    work.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (work / RUNS).symlink_to(tmp_path / "elsewhere")
    RunDirectory(work).ensure()
    assert (work / RUNS).lstat().st_mode & 0o777 == 0o700
    (aside,) = work.glob(f"{RUNS}-*")
    assert aside.readlink() == tmp_path / "elsewhere"
    assert list((tmp_path / "elsewhere").iterdir()) == []
