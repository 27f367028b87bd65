"""The data directory: for one server, and clean at the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from tentacle.devserver.home import HomeUnusable, data_directory
from tentacle.devserver.main import DevServerOptions, running
from tests.devserver.running_server import running_server


async def test_two_servers_do_not_share_a_directory(tmp_path: Path) -> None:
    async with running_server(tmp_path):
        with pytest.raises(HomeUnusable, match="used by another server"):
            async with running(DevServerOptions(data=tmp_path / "server")):
                pass


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(Exception, match="file"), data_directory(tmp_path / "file" / "data"):
        pass


async def test_what_a_killed_server_left_is_swept(tmp_path: Path) -> None:
    files = tmp_path / "server" / "files"
    files.mkdir(parents=True)
    (files / "half").write_bytes(b"x")
    async with running_server(tmp_path):
        assert list(files.iterdir()) == []


def test_a_directory_that_everybody_may_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(HomeUnusable, match="Everybody"), data_directory(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
    tmp_path.chmod(0o775)
    with data_directory(tmp_path):
        pass
