"""Where incoming files wait: a directory of the agent's own, swept when it is opened."""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path
from uuid import uuid4

import pytest

from tentacle.transport.errors import TransportError
from tentacle.transport.spool import Spool


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
    delivery.end()
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
    delivery.end()
    assert delivery.files == {}
    assert list(tmp_path.iterdir()) == []
