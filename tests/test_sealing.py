"""Secrets at rest: only the right key, for the right purpose."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.disk import DiskError
from tentacle.sealing import KeyDamaged, KeyFile, KeyLocked, KeyMissing, Sealer, SealingError, UnsealError, is_sealed
from tests.other_user import as_nobody, of_nobody, only_root, second_name, secret_of_root

KEY = bytes(range(32))


def key_file(folder: Path, wait: float = 5) -> KeyFile:
    return KeyFile(folder / "x.key", wait=wait)


@given(st.text())
def test_what_is_sealed_is_unsealed(text: str) -> None:
    sealed = Sealer(KEY).seal("proxy.password", text)
    assert is_sealed(sealed)
    assert sealed.isascii()
    assert sealed.isprintable()
    assert Sealer(KEY).unseal("proxy.password", sealed) == text


def test_the_same_text_is_never_sealed_the_same() -> None:
    assert Sealer(KEY).seal("p", "text") != Sealer(KEY).seal("p", "text")


def test_another_key_or_purpose_does_not_unseal() -> None:
    sealed = Sealer(KEY).seal("proxy.password", "text")
    with pytest.raises(UnsealError):
        Sealer(bytes(32)).unseal("proxy.password", sealed)
    with pytest.raises(UnsealError):
        Sealer(KEY).unseal("polling-proxy.password", sealed)


@given(st.text())
def test_anything_else_is_not_unsealed(text: str) -> None:
    with pytest.raises(UnsealError):
        Sealer(KEY).unseal("p", f"sealed:1:{text}")


def test_a_key_is_made_once_and_private(tmp_path: Path) -> None:
    with key_file(tmp_path).hold(like=tmp_path, may_make=lambda: True) as sealer:
        sealed = sealer.seal("p", "text")
    with key_file(tmp_path).hold(like=tmp_path, may_make=lambda: False) as sealer:
        assert sealer.unseal("p", sealed) == "text"
    assert key_file(tmp_path).read().unseal("p", sealed) == "text"
    assert stat.S_IMODE((tmp_path / "x.key").stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"\0" * 45, b"AAAA", b"not base64!"])
def test_a_key_that_was_never_finished_is_made_anew_unless_needed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.key"
    path.write_bytes(content)
    with pytest.raises(KeyDamaged, match=r"The key file '.*/x.key' is damaged"):
        key_file(tmp_path).read()
    with (
        pytest.raises(KeyDamaged, match="is damaged"),
        key_file(tmp_path).hold(like=path, may_make=lambda: False),
    ):
        pass
    assert path.read_bytes() == content
    with key_file(tmp_path).hold(like=path, may_make=lambda: True) as sealer:
        sealed = sealer.seal("p", "text")
    assert key_file(tmp_path).read().unseal("p", sealed) == "text"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_missing_key(tmp_path: Path) -> None:
    with pytest.raises(KeyMissing, match=r"The key file '.*/x.key' is missing"):
        key_file(tmp_path).read()


def test_the_second_holder_is_told_after_a_while(tmp_path: Path) -> None:
    with (
        key_file(tmp_path).hold(like=tmp_path, may_make=lambda: True),
        pytest.raises(KeyLocked, match=r"Another process holds '.*/x\.key' locked"),
        key_file(tmp_path, wait=0.05).hold(like=tmp_path, may_make=lambda: True),
    ):
        pass


def test_a_key_that_is_replaced_under_the_lock_is_locked_itself(tmp_path: Path) -> None:
    """Whoever restores the key from a backup while we wait must not end with two writers."""
    with key_file(tmp_path).hold(like=tmp_path, may_make=lambda: True):
        content = (tmp_path / "x.key").read_bytes()
        (tmp_path / "copy").write_bytes(content)
        (tmp_path / "copy").rename(tmp_path / "x.key")
        with (
            key_file(tmp_path).hold(like=tmp_path, may_make=lambda: True),
            pytest.raises(KeyLocked),
            key_file(tmp_path, wait=0).hold(like=tmp_path, may_make=lambda: True),
        ):
            pass


@pytest.mark.parametrize("there", [True, False])
def test_a_key_is_never_written_through_a_link(tmp_path: Path, there: bool) -> None:
    victim = tmp_path / "victim"
    if there:
        victim.write_bytes(b"precious")
    (tmp_path / "x.key").symlink_to(victim)
    with (
        pytest.raises(DiskError, match="Unable to write file"),
        key_file(tmp_path).hold(like=tmp_path, may_make=lambda: True),
    ):
        pass
    assert victim.exists() is there
    assert not there or victim.read_bytes() == b"precious"


def test_a_pipe_is_no_key(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.key")
    with (
        pytest.raises((DiskError, SealingError)),
        key_file(tmp_path, wait=0).hold(like=tmp_path, may_make=lambda: True),
    ):
        pass
    with pytest.raises(DiskError):
        key_file(tmp_path).read()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_makes_the_key_of_another_user_s_configuration_his(tmp_path: Path) -> None:
    config = tmp_path / "x"
    config.touch()
    os.chown(config, 12345, 12346)
    with key_file(tmp_path).hold(like=config, may_make=lambda: True):
        pass
    assert (tmp_path / "x.key").stat().st_uid == 12345


def test_a_key_of_bare_bytes_is_read_and_kept(tmp_path: Path) -> None:
    """The key of the agent's workspaces was written that way."""
    (tmp_path / "x.key").write_bytes(KEY)
    assert key_file(tmp_path).read().unseal("p", Sealer(KEY).seal("p", "text")) == "text"
    with key_file(tmp_path).hold(may_make=lambda: False) as sealer:
        assert sealer.unseal("p", Sealer(KEY).seal("p", "text").removeprefix("sealed:1:")) == "text"
    assert (tmp_path / "x.key").read_bytes() == KEY


def test_a_purpose_and_a_text_may_hold_what_is_no_unicode() -> None:
    assert Sealer(KEY).unseal("\udcff", Sealer(KEY).seal("\udcff", "\udcfe")) == "\udcfe"


@only_root
def test_root_makes_no_key_of_a_file_that_another_user_gave_a_second_name(open_way: Path) -> None:
    """It would get another mode, and be written over with a key."""
    victim = secret_of_root(open_way / "outside" / "victim")
    victim.chmod(0o644)
    home = of_nobody(open_way / "home")
    second_name(home, "x.key", victim)
    with (
        pytest.raises(DiskError, match="several names"),
        key_file(home).hold(like=home / "x", may_make=lambda: True),
    ):
        pass
    assert (victim.read_bytes(), victim.stat().st_mode & 0o777) == (b"secret", 0o644)
    (home / "x.key").unlink()
    as_nobody(home, "ln", "-s", str(victim.parent), "folder")
    with (
        pytest.raises(DiskError, match="is not followed"),
        key_file(home / "folder").hold(like=home / "x", may_make=lambda: True),
    ):
        pass
    assert [path.name for path in victim.parent.iterdir()] == ["victim"]


def test_a_key_that_was_put_elsewhere_while_it_was_waited_for_is_not_made_anew(tmp_path: Path) -> None:
    """Else an empty file in its place would count as the key."""
    with key_file(tmp_path).hold(may_make=lambda: True):
        waiter = KeyFile(tmp_path / "x.key", wait=5, waiting=(tmp_path / "x.key").unlink)
        with pytest.raises(KeyMissing), waiter.hold(may_make=lambda: False):
            pass
    assert list(tmp_path.iterdir()) == []
