"""A whole machine for a test: systemd, booted in namespaces on a throw-away copy of this one, or of another root.

`machine.sh` does the booting.  Commands are run in it with `nsenter`.  Nothing of it is left when it is switched off,
nor when the test itself is killed.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self, TypeVar

from tests.e2e.stage import TENTACLE, Process, StepFailed
from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("machine.sh")
TOOLS = ("unshare", "nsenter", "setpriv", "ip", "systemctl", "/lib/systemd/systemd", "dbus-daemon", "useradd", "mount")
_CLONE_NEWNET = 0x40000000
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

T = TypeVar("T")


def missing_tools() -> list[str]:
    """What this machine lacks to boot another one."""
    found = [tool for tool in TOOLS if shutil.which(tool, path=os.environ["PATH"] + ":" + SYSTEM_PATH) is None]
    return found if os.geteuid() == 0 else [*found, "the rights of root"]


class Machine:
    """Use as a context manager.  `directory` is empty and ours; `root` is the root directory that is copied.

    On a copy of this machine the programs under test are those of this checkout; another has what is installed in it.
    """

    def __init__(self, directory: Path, root: Path = Path("/")) -> None:
        self._of = root
        self._top = directory / "machine"
        self._log = directory / "machine.log"
        self._init = 0
        self._network: ThreadPoolExecutor | None = None
        self._processes: list[Process] = []

    def __enter__(self) -> Self:
        self._top.mkdir()
        needed = _needed() if self._is_copy else []
        with self._log.open("wb") as log:
            self._boot = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "unshare", "--mount", "bash", SCRIPT, self._top, self._of, *needed],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_up()
            if self._is_copy:
                self._open_the_way()
            self._enter_network()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._init:
            os.kill(self._init, signal.SIGKILL)
        else:
            self._boot.terminate()
        self._boot.wait(PATIENCE)
        for process in self._processes:
            process.stop()
        if self._network is not None:
            self._network.shutdown()

    @property
    def path(self) -> str:
        """Where commands are looked for."""
        return f"{TENTACLE.parent}:{SYSTEM_PATH}" if self._is_copy else SYSTEM_PATH

    @property
    def root(self) -> Path:
        """The machine's root directory, seen from outside."""
        return Path(f"/proc/{self._init}/root")

    def command(self, *arguments: str, environment: Mapping[str, str] | None = None) -> list[str]:
        """The command line that runs `arguments` inside, as root."""
        variables = {"PATH": self.path, "HOME": "/root", **(environment or {})}
        return [*_entering(self._init), "env", "-i", *(f"{k}={v}" for k, v in variables.items()), *arguments]

    def run(self, *arguments: str, expect: int | None = 0, environment: Mapping[str, str] | None = None) -> str:
        """Both outputs of a command.  Raises `StepFailed` unless it ends with `expect`."""
        done = subprocess.run(
            self.command(*arguments, environment=environment),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if expect is not None and done.returncode != expect:
            raise StepFailed(f"{' '.join(arguments)}: exit code {done.returncode}: {done.stdout.strip()}")
        return done.stdout

    def start(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Process:
        """A program that runs inside beside us."""
        process = Process(self.command(*arguments, environment=environment), os.environ, Path("/"))
        self._processes.append(process)
        return process

    def on_the_network(self, function: Callable[[], T]) -> T:
        """The result of `function`, whose sockets are the machine's."""
        assert self._network is not None
        return self._network.submit(function).result(PATIENCE)

    def properties(self, unit: str, *names: str) -> dict[str, str]:
        """What `systemctl show` says."""
        text = self.run("systemctl", "show", f"--property={','.join(names)}", "--", unit)
        return dict(line.partition("=")[::2] for line in text.splitlines())

    def journal(self, unit: str) -> str:
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}", expect=None)

    def reboot(self) -> None:
        """Returns when the machine is up again: its disk is as it was, its processes and its network are new."""
        for process in self._processes:
            # Not left to the machine, which stops everything before it ends it: `nsenter` then stops too, and the
            # machine waits for ever for it to take the end of its child.
            for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
                os.kill(int(child), signal.SIGTERM)
            process.stop()
        self._processes.clear()
        was, self._init = self._init, 0
        # The command may be ended by what it asks for.
        subprocess.run([*_entering(was), "systemctl", "reboot"], stdin=subprocess.DEVNULL, check=False)
        deadline = time.monotonic() + PATIENCE
        while Path(f"/proc/{was}").exists():
            if time.monotonic() > deadline:
                raise StepFailed("the machine did not go down")
            time.sleep(0.05)
        if self._network is not None:
            self._network.shutdown()
        self._wait_until_up()
        self._enter_network()

    @property
    def _is_copy(self) -> bool:
        return self._of == Path("/")

    def _enter_network(self) -> None:
        self._network = ThreadPoolExecutor(1, initializer=_enter_network, initargs=(self._init,))

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self._boot.poll() is not None:
                break
            self._init = self._init or _namespace_init(self._boot.pid)
            # The bus answers once the machine can be worked with; what else has failed is none of our business.
            if self._init and self._is_up():
                return
            time.sleep(0.1)
        raise StepFailed(f"the machine did not start: {self._log.read_text(errors='replace').strip()}")

    def _is_up(self) -> bool:
        if not (self.root / "run/systemd/private").exists():
            return False
        return self.run("systemctl", "is-active", "multi-user.target", expect=None).strip() == "active"

    def _open_the_way(self) -> None:
        """Lets every user reach the programs under test: in this machine's own layer, not on the real disk."""
        for program in (TENTACLE, Path(sys.executable).resolve()):
            for parent in program.resolve().parents:
                inside = self.root / parent.relative_to("/")
                inside.chmod(inside.stat().st_mode | 0o011)


def _entering(pid: int) -> list[str]:
    return ["nsenter", f"--target={pid}", "--all", "--root", "--wd"]


def _enter_network(pid: int) -> None:
    """Moves the calling thread, and it alone, into the network namespace of a process."""
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(namespace)


def _needed() -> list[str]:
    """Directories that the programs under test need and that the machine's root would not show.

    They are mounted over the root file system here, or lie in /tmp, which is the machine's own.
    """
    device = Path("/").stat().st_dev
    wanted = dict.fromkeys(path.resolve() for path in (ROOT, Path(sys.prefix), Path(sys.base_prefix)))
    return [str(path) for path in wanted if path.stat().st_dev != device or path.is_relative_to("/tmp")]


def _namespace_init(boot: int) -> int:
    """The process that is number 1 in a namespace below ours, once it has become systemd."""
    todo = [boot]
    for pid in todo:
        try:
            todo += [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
            numbers = Path(f"/proc/{pid}/status").read_text().partition("NSpid:")[2].partition("\n")[0].split()
            name = Path(f"/proc/{pid}/comm").read_text().strip()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if len(numbers) > 1 and numbers[-1] == "1" and name == "systemd":
            return pid
    return 0
