from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tentacle.scripts.shim import run_state


@pytest.fixture
def state(tmp_path: Path) -> Iterator[int]:
    (tmp_path / run_state.PREPARED).touch()
    (tmp_path / run_state.RESULT).touch()
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def in_a_process(state: int) -> tuple[int, int]:
    """A process that claims and then lives until the descriptor given back is closed; its number."""
    told, tell = os.pipe()
    wait, let_go = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(let_go)
        claimed = run_state.claim(state) is not None
        os.write(tell, b"y" if claimed else b"n")
        os.read(wait, 1)
        os._exit(0)
    os.close(wait)
    assert os.read(told, 1) == b"y"
    os.close(told)
    os.close(tell)
    return pid, let_go


def test_one_claims_and_is_known_while_it_lives(state: int) -> None:
    pid, let_go = in_a_process(state)
    lock = os.open(run_state.RESULT, os.O_RDWR, dir_fd=state)
    assert run_state.holder(lock) == pid
    assert run_state.claim(state) is None
    assert set(os.listdir(state)) == {run_state.CLAIMED, run_state.RESULT}
    os.close(let_go)
    os.waitpid(pid, 0)
    assert run_state.holder(lock) is None
    assert run_state.claim(state) is None, "nobody may claim again, even after the first has died"
    os.close(lock)


@pytest.mark.parametrize("code", [0, 255, -1, -46])
def test_the_result_is_read_as_written(state: int, code: int) -> None:
    result = os.open(run_state.RESULT, os.O_RDWR, dir_fd=state)
    assert run_state.read_result(result) is None
    run_state.reserve_result(result)
    assert run_state.read_result(result) is None
    assert os.fstat(result).st_size == run_state.RESULT_SPACE
    run_state.give_back_reserve(result)
    run_state.write_result(result, code, 123)
    assert run_state.read_result(result) == code
    os.close(result)


@pytest.mark.parametrize("torn", [b"", b"\0" * 64, b"exit 0 at 12", b"exit 0 at 12 en", b"rubbish"])
def test_a_torn_result_is_none(state: int, torn: bytes) -> None:
    result = os.open(run_state.RESULT, os.O_RDWR, dir_fd=state)
    os.write(result, torn)
    assert run_state.read_result(result) is None
    os.close(result)


@pytest.mark.parametrize(
    ("directory", "kept"),
    [
        ("/sys/fs/cgroup/tentacle-run-1", True),
        ("/with blanks/and \udcff/bytes", True),
        ("/" + "x" * 2046, True),
        ("/" + "x" * 2047, False),
    ],
)
def test_the_cgroup_is_kept_beside_the_result(state: int, directory: str, kept: bool) -> None:
    result = os.open(run_state.RESULT, os.O_RDWR, dir_fd=state)
    assert run_state.read_cgroup(result) == ""
    run_state.reserve_result(result)
    assert run_state.read_cgroup(result) == ""
    run_state.note_cgroup(result, directory)
    run_state.give_back_reserve(result)
    run_state.write_result(result, 3, 123)
    assert run_state.read_cgroup(result) == (directory if kept else "")
    assert run_state.read_result(result) == 3
    os.close(result)
