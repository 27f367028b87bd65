"""Where one secret is looked for, in which order, and what is said of a place that holds none."""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import io
import os
import pty
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.cli.frame.secrets import SecretOptions, read_secret
from tentacle.cli.frame.session import CommandSession, ProcessContext
from tentacle.errors import TentacleError
from tentacle.settings.key_places import CREDENTIALS_VARIABLE

CTRL_D: Final = "\x04"
ONE_LINE: Final = st.characters(exclude_categories=["Cs"], exclude_characters="\r\n")
ENDS: Final = ["", "\n", "\r\n", "\n\n"]
ASK: Final = """
import hashlib
from tentacle.cli.frame.secrets import SecretOptions, read_secret
from tentacle.cli.frame.session import CommandSession, ProcessContext
from tentacle.errors import TentacleError
try:
    found = read_secret(CommandSession(ProcessContext()), SecretOptions("API key", None, None, True))
except TentacleError as error:
    raise SystemExit(error.message)
print("hash", hashlib.sha1(found.encode()).hexdigest())
"""


def session(cwd: Path, stdin: str = "", **environ: str) -> CommandSession:
    return CommandSession(ProcessContext(environ=environ, cwd=cwd, stdin=io.StringIO(stdin)))


def options(
    value: str | None = None, file: str | None = None, *, stdin: bool = False, credential: str | None = None
) -> SecretOptions:
    return SecretOptions("API key", value, file, stdin, credential)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "The file 'key' with the API key is empty."),
        (b" \n\n", "The file 'key' with the API key is empty."),
        (b"one\ntwo\n", "The file 'key' with the API key has more than one line."),
        (b"\xff\xfe", "The file 'key' with the API key is not UTF-8 text."),
        (None, "The file 'key' with the API key does not exist."),
    ],
)
def test_files_that_hold_no_key(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    with pytest.raises(TentacleError) as caught:
        read_secret(session(tmp_path), options(file="key"))
    assert caught.value.message == message


def test_passwords_may_hold_blanks_at_their_ends(tmp_path: Path) -> None:
    (tmp_path / "p").write_text(" p \n")
    assert read_secret(session(tmp_path), options(file="p")) == " p "


def test_the_option_wins_then_the_file_then_the_credential_then_standard_input(tmp_path: Path) -> None:
    for name, content in (("key", "of-the-file\n"), ("unit", "of-systemd")):
        (tmp_path / name).write_text(content)
    world = session(tmp_path, "of-stdin\nmore\n", **{CREDENTIALS_VARIABLE: str(tmp_path)})
    everywhere = options("of-the-option", "key", stdin=True, credential="unit")
    assert read_secret(world, everywhere) == "of-the-option"
    assert read_secret(world, replace(everywhere, value="")) == "of-the-file"
    assert read_secret(world, replace(everywhere, value=None, file=None)) == "of-systemd"
    assert read_secret(world, options(stdin=True)) == "of-stdin"
    assert read_secret(world, options()) is None
    found = "of-the-option of-the-file of-systemd of-stdin"
    assert world.redactor.redact(found) == "******** ******** ******** ********"


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=200), st.sampled_from(ENDS)
)
def test_a_file_of_one_line_is_the_secret_and_nothing_is_told_of_any_other(text: str, end: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "key")
        path.write_bytes(codecs.BOM_UTF8 + (text + end).encode())
        try:
            assert read_secret(session(path.parent), options(file="key")) == text
            assert text.strip()
        except TentacleError as error:
            assert not text.strip()
            assert error.message == "The file 'key' with the API key is empty."


@pytest.mark.parametrize("content", [b"hush\nhush", b"hush\rhush", b"hush\xff", b"\r\nhush", b"hush" * 10_000])
def test_what_a_file_holds_is_not_in_its_refusal(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(TentacleError) as caught:
        read_secret(session(tmp_path), options(file="key"))
    assert "hush" not in f"{caught.value.message} {caught.value.hint}"


def test_a_secret_that_is_longer_than_any_is_refused(tmp_path: Path) -> None:
    longest = "x" * 16 * 1024
    assert read_secret(session(tmp_path), options(longest)) == longest
    with pytest.raises(TentacleError, match=r"^The API key is longer than 16384 characters, which none is\.$"):
        read_secret(session(tmp_path), options(longest + "x"))
    assert read_secret(session(tmp_path, longest + "x\n"), options(stdin=True)) == longest


@pytest.mark.parametrize("name", [".", "..", "a/b", "../unit", "/etc/passwd", "a\nb", "a\0b"])
def test_a_credential_is_a_file_of_systemds_directory_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / "unit").write_text("hush")
    (tmp_path / "inner").mkdir()
    world = session(tmp_path, **{CREDENTIALS_VARIABLE: str(tmp_path / "inner")})
    with pytest.raises(TentacleError, match="is not the name of a systemd credential"):
        read_secret(world, options(credential=name))


def test_without_systemds_directory_there_is_no_credential(tmp_path: Path) -> None:
    with pytest.raises(TentacleError) as caught:
        read_secret(session(tmp_path), options(credential="unit"))
    assert caught.value.message == (
        "There is no systemd credential 'unit' with the API key: $CREDENTIALS_DIRECTORY is not set."
    )
    assert "LoadCredential=unit:PATH" in (caught.value.hint or "")


@pytest.mark.parametrize("text", ["", "\n", "  \n", "\nAPI-LATER\n"])
def test_only_the_first_line_of_standard_input_counts(tmp_path: Path, text: str) -> None:
    with pytest.raises(TentacleError, match=r"^Standard input holds no API key in its first line\.$"):
        read_secret(session(tmp_path, text), options(stdin=True))


def test_at_a_terminal_the_secret_is_asked_for_and_not_shown() -> None:
    """A process with a terminal of its own, as a person has; the end of the input is no secret."""
    for typed, code, last in (("typed-in-secret\n", 0, "typed-in-secret"), (CTRL_D, 1, "")):
        pid, terminal = pty.fork()
        if pid == 0:
            os.execv(sys.executable, [sys.executable, "-c", ASK])
        shown = b""
        while b"API key: " not in shown:
            shown += os.read(terminal, 4096)
        os.write(terminal, typed.encode())
        with contextlib.suppress(OSError):  # Linux says so when nobody has the other side open any more.
            while data := os.read(terminal, 4096):
                shown += data
        os.close(terminal)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == code
        after = shown.partition(b"API key: ")[2]
        assert b"typed-in-secret" not in after
        assert f"hash {hashlib.sha1(last.encode()).hexdigest()}".encode() in after or code


def test_no_representation_shows_a_secret() -> None:
    assert "hush" not in repr(options("hush"))
