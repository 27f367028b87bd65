"""Where incoming files wait: a directory of the agent's own, swept when it is opened."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import resource
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from uuid import uuid4

import pytest

from tentacle.transport.errors import TransportError
from tentacle.transport.spool import Delivery, Spool
from tentacle.transport.stream import piece_size
from tests.patience import PATIENCE


def test_what_a_killed_agent_left_is_swept(tmp_path: Path) -> None:
    directory = tmp_path / "Work" / ".spool"
    directory.mkdir(parents=True, mode=0o755)
    (directory / "left").touch()
    (directory / "link").symlink_to(tmp_path)
    Spool(directory).create()
    assert list(directory.iterdir()) == []
    assert directory.stat().st_mode & 0o777 == 0o700


def test_a_link_in_its_place_is_refused_and_what_it_leads_to_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir(mode=0o755)
    (precious / "file").touch()
    (tmp_path / ".spool").symlink_to(precious)
    with pytest.raises(TransportError, match="for incoming files: it is a symbolic link"):
        Spool(tmp_path / ".spool").create()
    assert (precious / "file").exists()
    assert precious.stat().st_mode & 0o777 == 0o755


def test_a_directory_inside_is_told_and_not_removed(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    with pytest.raises(TransportError, match="for incoming files"):
        Spool(tmp_path).create()
    assert (tmp_path / "inside").is_dir()


async def test_a_directory_that_somebody_has_removed_is_made_anew(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "Work" / ".spool")
    spool.create()
    shutil.rmtree(tmp_path / "Work")
    delivery, identity = spool.delivery(), uuid4()
    delivery.begin(identity, 4)
    await delivery.write(b"data")
    await delivery.end()
    assert delivery.files[identity].read_bytes() == b"data"
    assert delivery.files[identity].parent.stat().st_mode & 0o777 == 0o700
    delivery.discard()
    assert list((tmp_path / "Work" / ".spool").iterdir()) == []


async def test_where_too_few_files_can_be_opened_a_stream_is_thrown_away(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.create()
    delivery, identity = spool.delivery(), uuid4()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, before[1]))
    try:
        delivery.begin(identity, 4)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    await delivery.write(b"data")
    await delivery.end()
    assert delivery.files == {}
    assert list(tmp_path.iterdir()) == []


async def test_a_file_stays_open_until_the_thread_that_writes_it_is_done(tmp_path: Path) -> None:
    """Closed while it waits, its number could be another file's when the thread comes to write."""
    spool = Spool(tmp_path)
    spool.create()
    delivery, identity, go = spool.delivery(), uuid4(), Event()
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as executor:
        loop.set_default_executor(executor)
        occupied = loop.run_in_executor(None, go.wait, PATIENCE)
        delivery.begin(identity, 8 * piece_size())
        written = delivery.files[identity]
        writing = asyncio.create_task(_write(delivery, 8))
        # No more than this is written before the thread has had its turn.
        while not delivery._writing:  # noqa: ASYNC110
            await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        delivery.discard()
        assert not written.exists()
        assert is_open(written)
        go.set()
        await occupied
        while is_open(written):  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_what_is_written_behind_is_all_there_in_the_end(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.create()
    delivery, identity, pieces = spool.delivery(), uuid4(), [os.urandom(size) for size in (300_000, 1, 700_000, 65_536)]
    for _ in range(2):
        delivery.begin(identity, sum(map(len, pieces)))
        for piece in pieces:
            await delivery.write(piece)
        await delivery.end()
        assert delivery.files[identity].read_bytes() == b"".join(pieces)


async def test_what_is_for_keeps_is_hashed_while_it_arrives_and_forgotten_with_its_call(tmp_path: Path) -> None:
    spool = Spool(tmp_path, for_keeps=True)
    spool.create()
    delivery, contents = spool.delivery(), {uuid4(): os.urandom(size) for size in (0, 7, 65_536, 9_000_000)}
    for identity, content in contents.items():
        delivery.begin(identity, len(content))
        for start in range(0, len(content), 200_000):
            await delivery.write(content[start : start + 200_000])
        assert spool.digest_of(delivery.files[identity]) is None
        await delivery.end()
    for identity, content in contents.items():
        path = delivery.files[identity]
        assert path.read_bytes() == content
        assert spool.digest_of(path) == hashlib.sha1(content).hexdigest()
    delivery.discard()
    assert {spool.digest_of(path) for path in delivery.files.values()} == {None}


def is_open(path: Path) -> bool:
    """Here, also when it has been removed."""
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if str(descriptor.readlink()).removesuffix(" (deleted)") == str(path):
                return True
    return False


async def _write(delivery: Delivery, pieces: int) -> None:
    for _ in range(pieces):
        await delivery.write(bytes(piece_size()))
