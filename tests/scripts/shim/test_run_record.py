from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.scripts.shim import run_record
from tentacle.scripts.shim.clock import BOOT
from tentacle.scripts.shim.run_record import HEAD, Result

HEADER = b'{"ticket": "T"}'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "x.run"
    path.write_bytes(run_record.head() + run_record.encode_header(HEADER))
    return path


@pytest.fixture
def run(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR)
    yield descriptor
    os.close(descriptor)


def in_a_child(path: Path, hold: int, release: int) -> tuple[int, bool]:
    """Claims in another process, which keeps the claim until `release` is closed; its number and whether it could."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(release)
        claimed = run_record.claim(str(path)) is not None
        os.write(writer, b"y" if claimed else b"n")
        os.read(hold, 1)
        os._exit(0)
    os.close(writer)
    answer = os.read(reader, 1)
    os.close(reader)
    return pid, answer == b"y"


def test_the_head_is_made_of_real_bytes_and_nobody_has_claimed_it(path: Path, run: int) -> None:
    assert path.read_bytes()[:HEAD].startswith(b"tentacle run 1\n")
    assert b"\0" not in path.read_bytes()[:HEAD]
    assert path.stat().st_blocks * 512 >= HEAD
    assert run_record.version_of(run) == 1
    assert not run_record.is_claimed(run)
    assert not run_record.is_completed(run)
    assert run_record.read_result(run) is None
    assert run_record.read_cgroup(run) == ""
    assert run_record.holder(run) is None
    assert run_record.read_header(run, 1000) == HEADER


def test_only_one_ever_claims_and_the_lock_dies_with_it(path: Path, run: int) -> None:
    hold, release = os.pipe()
    pid, claimed = in_a_child(path, hold, release)
    assert claimed
    assert run_record.holder(run) == pid
    assert run_record.claim(str(path)) is None
    os.close(release)
    os.waitpid(pid, 0)
    os.close(hold)
    assert run_record.holder(run) is None
    assert run_record.is_claimed(run)
    assert run_record.claim(str(path)) is None, "nobody may claim again, even after the first has died"
    assert run_record.claim(f"{path}-that-is-gone") is None


def open_descriptors() -> set[int]:
    return {number for number in range(256) if Path(f"/proc/self/fd/{number}").exists()}


def test_a_claim_takes_one_descriptor_that_no_child_inherits(path: Path) -> None:
    # What tests before this one have let go of must not be closed in between.
    gc.collect()
    before = open_descriptors()
    claimed = run_record.claim(str(path))
    assert claimed is not None
    assert open_descriptors() - before == {claimed}
    assert not os.get_inheritable(claimed)
    os.close(claimed)


@pytest.mark.parametrize("end", ["completed", "ended"])
def test_what_is_completed_or_over_is_not_claimed(path: Path, run: int, end: str) -> None:
    if end == "completed":
        run_record.mark_completed(run)
    else:
        run_record.write_result(run, Result.now(0))
    assert run_record.claim(str(path)) is None


RESULTS = st.builds(
    Result,
    st.integers(-(2**31), 2**31 - 1),
    st.integers(0, 2**62),
    st.integers(0, 2**62),
    st.binary(min_size=16, max_size=16),
    st.integers(0, 2**62),
    st.sampled_from([b"E", b"D"]),
    st.text(st.characters(codec="utf-8"), max_size=40),
    st.integers(-1, 2**62),
    st.integers(-1, 2**62),
)


@given(RESULTS)
def test_a_result_is_read_as_it_was_written_and_disturbs_nothing(result: Result) -> None:
    run = os.memfd_create("run")
    os.write(run, run_record.head() + run_record.encode_header(HEADER))
    run_record.note_cgroup(run, "/sys/fs/cgroup/x")
    run_record.mark_claimed(run)
    run_record.write_result(run, result)
    assert run_record.read_result(run) == result
    assert (run_record.read_cgroup(run), run_record.is_claimed(run)) == ("/sys/fs/cgroup/x", True)
    assert run_record.read_header(run, 1000) == HEADER
    os.close(run)


@given(RESULTS, st.integers(0, 511), st.binary(min_size=1, max_size=300))
def test_a_torn_result_is_none_or_the_whole_one(result: Result, position: int, rubbish: bytes) -> None:
    run = os.memfd_create("run")
    os.write(run, run_record.head())
    run_record.write_result(run, result)
    os.pwrite(run, rubbish, 512 + position)
    # What was used is written behind the result, and may be lost alone.
    assert run_record.read_result(run) in (None, result, result._replace(cpu=-1, memory=-1))
    os.close(run)


def test_a_reason_that_is_too_long_is_cut_between_characters_or_shows_it(run: int) -> None:
    run_record.write_result(run, Result.now(3, reason="\u00e4" * 300))
    found = run_record.read_result(run)
    assert found is not None
    assert (found.exit_code, found.reason, found.boot) == (3, "\u00e4" * 100, BOOT)


@given(st.binary(max_size=9000), st.integers(0, 2**20))
def test_any_bytes_are_read_as_something(data: bytes, longest: int) -> None:
    run = os.memfd_create("run")
    os.write(run, data)
    assert run_record.read_header(run, longest) is None
    assert run_record.read_result(run) is None
    assert run_record.holder(run) is None
    assert run_record.version_of(run) >= 0
    assert run_record.was_begun(run) in (True, False)
    assert run_record.read_cgroup(run).startswith("/") or run_record.read_cgroup(run) == ""
    os.close(run)


@given(st.binary(max_size=200), st.integers(0, 400))
def test_a_header_is_whole_or_none(header: bytes, end: int) -> None:
    run = os.memfd_create("run")
    whole = run_record.head() + run_record.encode_header(header)
    os.write(run, whole[: HEAD + end])
    assert run_record.read_header(run, 1000) == (header if header and HEAD + end >= len(whole) else None)
    os.close(run)


def test_a_header_that_says_it_is_huge_is_not_looked_for(run: int) -> None:
    os.ftruncate(run, 2**40)
    os.pwrite(run, (2**32 - 1).to_bytes(4, "little"), HEAD)
    assert run_record.read_header(run, 1000) is None


@pytest.mark.parametrize(("directory", "kept"), [("/a b/\udcff", True), ("/" + "x" * 3000, False)])
def test_a_cgroup_is_kept_when_it_has_room(run: int, directory: str, kept: bool) -> None:
    run_record.note_cgroup(run, directory)
    assert run_record.read_cgroup(run) == (directory if kept else "")
