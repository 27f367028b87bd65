"""Starting bash, plainly and in a sandbox: what it finds around it, and what is told when it cannot be started."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tentacle.scripts.shim.run_cgroup import RunCgroup
from tentacle.scripts.shim.run_order import RunOrder, ScriptView, ViewPlace
from tentacle.scripts.shim.spawn import start
from tests.scripts.sandboxes import cgroup_parents, own_uids

KINDS = ["plain", "user", "cgroup", "private"]


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory that other users can reach; whatever a start does to the working directory is undone."""
    monkeypatch.chdir("/")
    base = Path(tempfile.mkdtemp(dir="/tmp", prefix="tentacle-test-"))
    base.chmod(0o755)
    (base / "own").mkdir(mode=0o755)
    yield base
    shutil.rmtree(base)


@pytest.fixture
def cgroup() -> Iterator[RunCgroup]:
    cgroup = RunCgroup.of(f"{cgroup_parents().unified}/tentacle-run-test-{os.getpid()}")
    yield cgroup
    cgroup.remove()
    assert not Path(cgroup.directory).exists()


class Starter:
    """Starts scripts of one kind, and gives what they write and how they end."""

    def __init__(self, kind: str, base: Path, cgroup: RunCgroup) -> None:
        self.kind = kind
        self.workspace = base / "own"
        self._cgroup = cgroup

    def order(self, body: str = "", *arguments: str, **environment: str) -> RunOrder:
        script = self.workspace / "script"
        script.write_text(body)
        order = RunOrder("", "", str(self.workspace), str(script), arguments, environment, "", (), 1.0)
        view = ScriptView(str(self.workspace.parent), (), (ViewPlace(str(self.workspace), str(self.workspace)),))
        if self.kind == "user":
            return order._replace(uid=own_uids().last, view=view._replace(owner=own_uids().owner))
        if self.kind == "private":
            return order._replace(view=view)
        return order

    def run(self, order: RunOrder) -> tuple[int, str, str]:
        """The exit code, and what was written to both streams."""
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(2)]
        try:
            bash = self._start(order, [writer for _, writer in pipes])
        except OSError:
            for reader, _ in pipes:
                os.close(reader)
            if self.kind != "plain":
                # The child that has failed is its parent's to bury.
                os.waitpid(-1, 0)
            raise
        finally:
            for _, writer in pipes:
                os.close(writer)
            if self.kind == "cgroup":
                self._cgroup.inside = False
        out, err = (self._all_of(reader) for reader, _ in pipes)
        _, status = os.waitpid(bash, 0)
        return os.waitstatus_to_exitcode(status), out, err

    def _start(self, order: RunOrder, writers: list[int]) -> int:
        if self.kind != "cgroup":
            return start(order, writers, None)
        self._cgroup.make()
        return start(order, writers, self._cgroup)

    @staticmethod
    def _all_of(reader: int) -> str:
        with os.fdopen(reader, "rb") as file:
            return file.read().decode()


@pytest.fixture(params=KINDS)
def starter(request: pytest.FixtureRequest, base: Path, cgroup: RunCgroup) -> Starter:
    return Starter(request.param, base, cgroup)


def test_a_script_writes_to_both_streams_and_ends(starter: Starter) -> None:
    order = starter.order('echo "out $1 $2"; echo err >&2; echo again >/dev/stderr; exit 7', "a b", "")
    assert starter.run(order) == (7, "out a b \n", "err\nagain\n")


def test_it_finds_its_workspace_its_environment_and_nothing_to_read(starter: Starter) -> None:
    body = "pwd; cat; readlink /proc/self/fd/0; /usr/bin/env | grep -vE '^(_|PWD|SHLVL)=' | sort"
    code, out, _ = starter.run(starter.order(body, PATH="/usr/bin:/bin", NAME="a value"))
    assert (code, out.splitlines()) == (
        0,
        [str(starter.workspace), "/dev/null", "NAME=a value", "PATH=/usr/bin:/bin"],
    )


def test_it_leads_a_session_of_its_own(starter: Starter) -> None:
    code, out, _ = starter.run(starter.order("read -r line </proc/$$/stat; echo $$ ${line##*)}"))
    pid, _state, _parent, group, session, terminal, *_ = out.split()
    assert (code, group, session, terminal) == (0, pid, pid, "0")


def is_inheritable(descriptor: int) -> bool:
    """Whether children of the test run get it; a shim has no such descriptor."""
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        return False


def test_it_inherits_no_signal_that_is_ignored_or_blocked_and_no_descriptor(starter: Starter) -> None:
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGUSR1)}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    assert signal.SIGTERM not in before
    kept = os.pipe2(os.O_CLOEXEC)
    ours = {path.name for path in Path("/proc/self/fd").iterdir() if is_inheritable(int(path.name))}
    try:
        body = "grep -E '^Sig(Blk|Ign)' /proc/self/status; ls /proc/$$/fd"
        code, out, _ = starter.run(starter.order(body, PATH="/usr/bin:/bin"))
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before | {signal.SIGUSR2}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for descriptor in kept:
            os.close(descriptor)
    masks, descriptors = out.splitlines()[:2], out.splitlines()[2:]
    # The C library keeps signals 32 and 33 for itself.
    assert [int(line.split()[1], 16) & ~(3 << 31) for line in masks] == [0, 0]
    assert (code, set(descriptors) - ours | {"0", "1", "2"}) == (0, {"0", "1", "2", "255"})


def test_an_own_user_has_one_group_and_owns_what_it_writes_to(base: Path, cgroup: RunCgroup) -> None:
    starter = Starter("user", base, cgroup)
    uid = str(own_uids().last)
    body = "id -u; id -ru; id -G; stat -L -c %u /dev/stdout; stat -L -c %u /dev/stderr"
    groups = os.getgroups()
    os.setgroups([own_uids().first])
    try:
        assert starter.run(starter.order(body, PATH="/usr/bin:/bin")) == (0, f"{uid}\n" * 5, "")
    finally:
        os.setgroups(groups)


def test_a_cgroup_holds_the_script_and_not_who_started_it(base: Path, cgroup: RunCgroup) -> None:
    starter = Starter("cgroup", base, cgroup)
    code, out, _ = starter.run(starter.order("cat /proc/$$/cgroup", PATH="/usr/bin:/bin"))
    name = cgroup.directory.rpartition("/")[2]
    assert code == 0
    assert out.strip().endswith(name)
    assert name not in Path("/proc/self/cgroup").read_text()


def test_a_cgroup_that_the_starter_is_in_needs_no_fork(base: Path, cgroup: RunCgroup) -> None:
    """The script inherits it: what is told of the way is only that no directory is looked for."""
    starter = Starter("plain", base, cgroup)
    order = starter.order("echo fine")
    reader, writer = os.pipe2(os.O_CLOEXEC)
    bash = start(order, [writer, writer], RunCgroup.of("/nowhere/at/all", inside=True))
    os.close(writer)
    assert os.read(reader, 100) == b"fine\n"
    os.close(reader)
    os.waitpid(bash, 0)


@pytest.mark.parametrize("kind", ["user", "cgroup"])
def test_a_missing_workspace_is_told_with_the_step(kind: str, base: Path, cgroup: RunCgroup) -> None:
    starter = Starter(kind, base, cgroup)
    order = starter.order("echo never")._replace(workspace="/nowhere")
    with pytest.raises(FileNotFoundError, match=r"No such file or directory \(entering the workspace, /nowhere\)"):
        starter.run(order)


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_started_is_told_and_leaves_no_process(kind: str, base: Path, cgroup: RunCgroup) -> None:
    starter = Starter(kind, base, cgroup)
    with pytest.raises(OSError, match="Argument list too long") as caught:
        starter.run(starter.order("echo never", "x" * 200_000))
    assert caught.value.errno == errno.E2BIG
    if kind != "plain":
        assert str(caught.value).endswith("(starting bash, /bin/bash)")
    assert str(Path.cwd()) == "/"


def test_a_plain_start_without_workspace_is_told(base: Path, cgroup: RunCgroup) -> None:
    starter = Starter("plain", base, cgroup)
    with pytest.raises(FileNotFoundError, match="/nowhere"):
        starter.run(starter.order()._replace(workspace="/nowhere"))


def test_namespaces_that_cannot_be_made_are_told_as_such(base: Path, cgroup: RunCgroup) -> None:
    starter = Starter("private", base, cgroup)
    view = ScriptView(str(base), (ViewPlace("/nowhere", "/tmp"),), ())
    with pytest.raises(FileNotFoundError, match=r"\(giving the script namespaces of its own, /nowhere\)"):
        starter.run(starter.order()._replace(view=view))


def test_a_cgroup_that_has_gone_is_told_before_anything_runs(base: Path) -> None:
    gone = RunCgroup.of("/nowhere/at/all")
    with pytest.raises(FileNotFoundError):
        start(Starter("plain", base, gone).order("echo never"), [1, 2], gone)
