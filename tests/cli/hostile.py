"""What the tests of bad input and bad circumstances share: how every command is run, and how it may end.

Whatever is given: an exit code of 0, 1 or 2, a few lines for the person, each printable, nothing half-written, and what
is secret stays secret.
"""

from __future__ import annotations

import contextlib
import io
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Final

from tentacle.cli.frame.command import TentacleOption
from tentacle.cli.frame.command_table import entry_of
from tentacle.cli.frame.session import ProcessContext
from tentacle.cli.main import load, run

MARK: Final = "S3CR3T-M4RK"
LINES_ON_STDERR: Final = 4
LONGEST_LINE: Final = 2000
SERVING: Final = {"agent", "devserver"}
EXIT_CODES: Final = {"status": {0, 1, 2, 3}}
"""Where a command has a code of its own beside 0, 1 and 2."""


class Nowhere(BaseHTTPRequestHandler):
    """A server that is none of ours: every path is missing."""

    def do_GET(self) -> None:
        self.send_error(404)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@contextlib.contextmanager
def nowhere() -> Iterator[str]:
    """The address of a server that has nothing; its port is taken, too."""
    server = HTTPServer(("127.0.0.1", 0), Nowhere)
    thread = threading.Thread(target=server.serve_forever, daemon=True, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
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
        world = ProcessContext(
            environ=self.environ, cwd=self.cwd, stdin=io.StringIO(""), stdout=out, stderr=err, machine_name="vm"
        )
        return run(arguments, world), out.getvalue(), err.getvalue()

    def make_instance(self, url: str) -> None:
        """An instance I, of which an agent would find its port taken."""
        listening = ("--listenIpAddress=127.0.0.1", f"--port={port_of(url)}")
        for arguments in (
            ("create-instance", "--instance=I", f"--config={self.top}/I/I.cfg"),
            ("new-certificate", "--instance=I"),
            ("configure", "--instance=I", *listening),
        ):
            code, out, err = self.run(*arguments)
            assert (code, err) == (0, ""), (out, err)


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """Keeps megabytes of rubbish out of pytest's own record of log lines."""
    root = logging.getLogger()
    listening, root.handlers = root.handlers, []
    try:
        yield
    finally:
        root.handlers = listening


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
        "rotate-certificate": [*asking, "--update-server"],
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
        "devserver": ["--data=server", f"--port={port_of(url)}", f"--comms-port={port_of(url)}"],
    }
    takes_instance = any(option.described.names[0] == "instance" for option in options_of(name))
    return bases.get(name, ["--instance=I"] if takes_instance else [])


def options_of(name: str) -> list[TentacleOption]:
    return [param for param in load(entry_of(name)).params if isinstance(param, TentacleOption)]


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
