"""What an agent that is killed in the middle of an upload leaves beside the target is found again and removed."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tentacle.home_layout import UPLOADS
from tentacle.path_walk import Trust, parent_of
from tentacle.services.parts import Parts
from tests.patience import PATIENCE

KILLED = """
import asyncio, resource, signal, sys
from pathlib import Path
from uuid import uuid4
from tentacle.contracts.data_stream import DataStream
from tentacle.services.file_transfer import FileTransferService
from tentacle.services.parts import Parts
home, target, source = map(Path, sys.argv[1:])
source.write_bytes(b"x" * 3_000_000)
# The kernel ends this process in the middle of the write that would make a file longer than this.
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
stream = DataStream(uuid4(), 3_000_000)
service = FileTransferService(home, Parts(home / "Work" / ".uploads"))
asyncio.run(service.methods["UploadFile"]((str(target), stream), {stream.id: source}))
"""

SWEEP = """
import os, sys
from pathlib import Path
from tentacle.services.parts import Parts
home = Path(sys.argv[1])
if os.geteuid() == 0:
    # Root may read everything, so the sweep is another user's.
    for path in (home, home / ".uploads"):
        os.chown(path, 65534, 65534)
    os.chdir(home)
    os.setresuid(65534, 65534, 65534)
Parts(Path(".uploads")).sweep()
"""


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A directory on another file system than the spool's, with an old file in it."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        (Path(directory) / "file").write_text("old")
        yield Path(directory)


def die_in_an_upload(home: Path, target: Path) -> None:
    """A process with the service of the instance in `home` dies while it writes beside `target`."""
    command = [sys.executable, "-c", KILLED, str(home), str(target), str(home / "source")]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode == -signal.SIGXFSZ, done.stderr


def test_what_is_half_written_is_swept_and_the_old_file_stays(tmp_path: Path, elsewhere: Path) -> None:
    die_in_an_upload(tmp_path, elsewhere / "file")
    (part,) = (path for path in elsewhere.iterdir() if path.name != "file")
    assert 0 < part.stat().st_size <= 1_000_000
    Parts(tmp_path / "Work" / UPLOADS).sweep()
    assert [path.name for path in elsewhere.iterdir()] == ["file"]
    assert (elsewhere / "file").read_text() == "old"
    assert list((tmp_path / "Work" / UPLOADS).iterdir()) == []


def test_notes_lead_to_nothing_but_what_was_noted(tmp_path: Path) -> None:
    notes = tmp_path / UPLOADS
    Parts(notes).sweep()
    Parts(None).sweep()
    notes.mkdir()
    precious = tmp_path / "precious"
    precious.touch()
    (notes / "0123").symlink_to(precious)
    (notes / "4567").symlink_to(tmp_path / "gone" / ".4567.part")
    (notes / "file").touch()
    Parts(notes).sweep()
    assert precious.exists()
    assert [path.name for path in notes.iterdir()] == ["file"]


IN_PLACE_OF_NOTES: dict[str, Callable[[Path, Path], object]] = {
    "a file": lambda notes, _: notes.touch(),
    "a pipe": lambda notes, _: os.mkfifo(notes),
    "a link to a directory": lambda notes, other: notes.symlink_to(other),
    "a link to nothing": lambda notes, other: notes.symlink_to(other / "nothing"),
}


@pytest.mark.parametrize("what", IN_PLACE_OF_NOTES)
def test_what_lies_in_place_of_the_notes_hinders_no_copy(what: str, tmp_path: Path) -> None:
    notes, other = tmp_path / UPLOADS, tmp_path / "other"
    other.mkdir(mode=0o755)
    IN_PLACE_OF_NOTES[what](notes, other)
    parts = Parts(notes)
    parts.sweep()
    with parent_of(tmp_path / "target", Trust()) as target, parts.beside(target):
        assert notes.is_dir()
        assert not notes.is_symlink()
    assert stat.S_IMODE(other.stat().st_mode) == 0o755
    assert list(other.iterdir()) == []


def test_notes_that_may_not_be_read_are_swept_all_the_same(tmp_path: Path) -> None:
    (tmp_path / UPLOADS).mkdir()
    (tmp_path / UPLOADS / "4567").symlink_to("/nowhere/.4567.part")
    (tmp_path / UPLOADS).chmod(0)
    subprocess.run([sys.executable, "-c", SWEEP, str(tmp_path)], timeout=PATIENCE, check=True)
    assert list((tmp_path / UPLOADS).iterdir()) == []


def test_nothing_is_noted_of_what_is_done(tmp_path: Path) -> None:
    parts = Parts(tmp_path / UPLOADS)
    with parent_of(tmp_path / "target", Trust()) as target:
        with parts.beside(target) as part:
            assert [note.readlink() for note in (tmp_path / UPLOADS).iterdir()] == [tmp_path / part.name]
        with pytest.raises(OSError, match="No space"), parts.beside(target):
            raise OSError("No space")
    assert [path.name for path in tmp_path.iterdir()] == [UPLOADS]
    assert list((tmp_path / UPLOADS).iterdir()) == []
