"""Every command with every kind of bad value for every option, from the command tree itself: new ones are covered.

Whatever is given: an exit code of 0, 1 or 2, a few lines for the person, each printable, nothing half-written, and what
is secret stays secret.  Most runs are in this process; those that cannot be are in `test_bad_circumstances`.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import re
import shutil
import stat
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from tentacle.cli.catalogue import ENTRIES, entry_of
from tentacle.cli.command import TentacleOption
from tentacle.cli.main import load, run
from tentacle.cli.session import Surroundings
from tentacle.settings.store import SettingsFile

MARK: Final = "S3CR3T-M4RK"
LINES_ON_STDERR: Final = 4
LONGEST_LINE: Final = 2000
SERVING: Final = {"agent", "devserver"}
EXIT_CODES: Final = {"status": {0, 1, 2, 3}}
"""Where a command has a code of its own beside 0, 1 and 2."""

VALUES: Final[dict[str, str]] = {
    "empty": "",
    "huge": "x" * 1024 * 1024,
    "not UTF-8": b"caf\xe9\xff".decode("utf-8", "surrogateescape"),
    "control characters": "a\x1b[2J\x07\r\nb",
    "above": "../../x",
    "device": "null",
    "pipe": "pipe",
    "directory": ".",
    "below a file": "file/x",
    "word": "Pl\u00e4tzchen",
    "beyond 64 bits": "99999999999999999999",
}

Case = tuple[str, list[str], bool]
"""What it is, the arguments, and whether the value is a secret."""


class Nowhere(BaseHTTPRequestHandler):
    """A server that is none of ours: every path is missing."""

    def do_GET(self) -> None:
        self.send_error(404)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Nowhere)
    thread = threading.Thread(target=server.serve_forever, daemon=True, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Place:
    """A directory deep enough that nothing leaves it, with an instance I and things that are no files."""

    cwd: Path
    top: Path
    environ: dict[str, str]

    def run(self, *arguments: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        world = Surroundings(
            environ=self.environ, cwd=self.cwd, stdin=io.StringIO(""), stdout=out, stderr=err, machine_name="vm"
        )
        return run(arguments, world), out.getvalue(), err.getvalue()


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """Keeps megabytes of rubbish out of pytest's own record of log lines."""
    root = logging.getLogger()
    listening, root.handlers = root.handlers, []
    try:
        yield
    finally:
        root.handlers = listening


@pytest.fixture
def place(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Place:
    cwd = tmp_path / "a" / "b" / "c"
    cwd.mkdir(parents=True)
    monkeypatch.chdir(cwd)
    (tmp_path / "home").mkdir()
    made = Place(cwd, tmp_path, dict(os.environ))
    assert made.run("create-instance", "--instance=I", f"--config={tmp_path}/I/I.cfg")[0] == 0
    assert made.run("new-certificate", "--instance=I")[0] == 0
    assert made.run("configure", "--instance=I", "--listenIpAddress=127.0.0.1", f"--port={port_of(url)}")[0] == 0
    os.mkfifo(cwd / "pipe")
    (cwd / "file").write_text("hello")
    try:
        os.mknod(cwd / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        (cwd / "null").symlink_to("pipe")
    return made


def port_of(url: str) -> str:
    return url.rstrip("/").rpartition(":")[2]


def base_of(name: str, url: str) -> list[str]:
    """What a command needs beside the option that is tried, so that it gets as far as using it."""
    asking = ["--instance=I", f"--server={url}", "--apiKey=API-KEYKEYKEYKEY"]
    listening = [*asking, "--comms-style=TentaclePassive"]
    bases = {
        "create-instance": ["--instance=New", "--config=new/new.cfg"],
        "register-worker": [*listening, "--workerpool=P"],
        "register-with": [*listening, "--env=E", "--role=R"],
        "deregister-worker": asking,
        "deregister-from": asking,
        "show-configuration": asking,
        "poll-server": ["--instance=I", "--reuse-server-thumbprint", "--server-comms-address=https://o"],
        "server-comms": ["--instance=I", "--style=TentacleActive", "--host=h", "--thumbprint=T"],
        "update-trust": ["--instance=I", "--oldThumbprint=T", "--newThumbprint=U"],
        "extract": ["--package=file", "--destination=out"],
        "import-instance": ["--from=file", "--instance=New", "--config=new/new.cfg"],
        "import-certificate": ["--instance=I", "--from-file=file"],
        "new-certificate": ["--instance=I", "--export-pfx=new.pfx"],
        "service": ["--instance=I", "--status"],
        "proxy": ["--instance=I", "--proxyEnable=true"],
        "polling-proxy": ["--instance=I", "--proxyEnable=true"],
        # Both would serve until they are told to end, if their port were free.
        "agent": ["--instance=I", "--noninteractive"],
        "devserver": [f"--port={port_of(url)}", f"--comms-port={port_of(url)}"],
    }
    takes_instance = any(option.described.names[0] == "instance" for option in options_of(name))
    return bases.get(name, ["--instance=I"] if takes_instance else [])


def options_of(name: str) -> list[TentacleOption]:
    return [param for param in load(entry_of(name)).params if isinstance(param, TentacleOption)]


def cases_of(name: str, url: str) -> Iterator[Case]:
    """Each option with a value, alone and beside a command's other options; and a stray argument."""
    for what, value in list(VALUES.items())[1:4]:
        yield f"a stray {what}", [*base_of(name, url), value], False
    for option in options_of(name):
        if option.is_flag:
            continue
        spelled = f"--{max(option.described.names, key=len)}"
        base = [one for one in base_of(name, url) if not excludes(spelled, one)]
        for what, value in tried_values(name, option):
            given = f"{value}{MARK}" if option.sensitive else value
            yield f"{spelled} {what}", [*base, spelled, given], option.sensitive
        if name not in SERVING and first_of_their_kinds()[kind_of(option)] == name:
            yield f"{spelled} alone", [spelled, "x"], False


def excludes(spelled: str, given: str) -> bool:
    """Whether an option of the base is in the way of the one that is tried."""
    pairs = {"--config": "--instance=", "--instance": "--config="}
    secret = re.search("key|token|user|password", spelled, re.IGNORECASE)
    return given.startswith((f"{spelled}=", pairs.get(spelled, "\0"), "--apiKey=" if secret else "\0"))


@functools.cache
def first_of_their_kinds() -> dict[str, str]:
    """Which command tries all values of an option that several have: the first in the table."""
    return {kind_of(option): entry.name for entry in reversed(ENTRIES) for option in options_of(entry.name)}


def kind_of(option: TentacleOption) -> str:
    return f"{option.described.names} {option.described.description}"


def tried_values(name: str, option: TentacleOption) -> Iterator[tuple[str, str]]:
    """All values for an option of its own or of the first command that has it, two others each for the rest."""
    kind = kind_of(option)
    if first_of_their_kinds()[kind] == name:
        yield from VALUES.items()
        return
    turn = zlib.crc32(f"{name} {kind}".encode())
    chosen = {(turn + step) % len(VALUES) for step in (0, 5)}
    yield from (value for number, value in enumerate(VALUES.items()) if number in chosen)


def complaint(name: str, ended: tuple[int, str, str], *, secret: bool) -> str | None:
    """What is wrong with how a run ended; None when all is well."""
    code, out, err = ended
    if code not in (0, 1, 2, 3):  # 3: `status` of an agent that does not run
        return f"exit code {code}"
    if "Traceback" in out + err or "Unexpected error" in err:
        return "a traceback"
    lines = err.splitlines()
    if len(lines) > LINES_ON_STDERR or any(len(line) > LONGEST_LINE for line in lines):
        return f"{len(lines)} lines on standard error, the longest of {max(map(len, lines))} characters"
    if code == 1 and not (lines or out):  # what `doctor` found stands on standard output
        return "a failure without a word"
    if not all(line.isprintable() for line in (*lines, *out.replace("\t", " ").splitlines())):
        return "control characters in the output"
    if secret and MARK in out + err:
        return "a secret in the output"
    return None


def leaks(top: Path) -> list[Path]:
    """Files that hold a secret as it was given."""
    files = (path for path in top.rglob("*") if path.is_file() and not path.is_symlink())
    return [path for path in files if MARK.encode() in path.read_bytes()]


def litter(top: Path) -> list[Path]:
    """What writers that failed have left behind."""
    return [path for path in top.rglob("*") if path.name.endswith(".tmp")]


def try_all(place: Place, cases: Iterator[Case], restore: Callable[[], None]) -> list[str]:
    problems = []
    for what, arguments, secret in cases:
        ended = place.run(*arguments)
        if problem := complaint(arguments[0], ended, secret=secret):
            problems.append(ascii(f"{what}: {problem}: {ended[0]} {ended[2][:300]}"))
        if ended[0] == 0:
            SettingsFile(place.top / "I" / "I.cfg").load()
            restore()
    return problems


@pytest.mark.parametrize("name", [entry.name for entry in ENTRIES])
def test_no_value_of_any_option_does_any_harm(name: str, place: Place, url: str) -> None:
    kept = place.top / "kept"
    shutil.copytree(place.top / "I", kept)

    def restore() -> None:
        """The instance as it was: a value that was accepted must not spoil the next one."""
        for changed in (place.top / "I").glob("I.cfg*"):
            shutil.copy2(kept / changed.name, changed)

    cases = ((what, [name, *arguments], secret) for what, arguments, secret in cases_of(name, url))
    device = (place.cwd / "null").lstat().st_mode
    with unheard():
        problems = try_all(place, cases, restore)
    SettingsFile(place.top / "I" / "I.cfg").load()
    assert (place.cwd / "null").lstat().st_mode == device
    assert leaks(place.top) == []
    assert litter(place.top) == []
    assert not problems, "\n".join(problems)
