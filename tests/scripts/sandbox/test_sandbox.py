"""Scripts that are kept apart: what they cannot see of each other, and that nobody else sees a difference."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tentacle.contracts.exit_codes import ScriptExitCode
from tentacle.contracts.script import ProcessState
from tentacle.scripts.engine import EngineOptions
from tentacle.scripts.errors import SandboxUnavailableError
from tentacle.scripts.sandbox import sandbox as sandbox_module
from tentacle.scripts.sandbox.cgroups import CgroupParents, ScriptLimits
from tentacle.scripts.sandbox.sandbox import Mode, SandboxOptions
from tentacle.scripts.sandbox.uids import UidRange
from tentacle.scripts.shim.run_processes import real_and_saved_uids
from tentacle.scripts.shim.syscalls import join_new_session_keyring
from tests.scripts.lab import Lab, lines, recorded_form, until
from tests.scripts.sandboxes import ADD_KEY, KEYCTL, SANDBOXES, living, options, own_uids

BODIES = {
    "both streams": "echo one; echo two >&2; exit 3",
    "opened again": "echo one >/dev/stderr; echo two >/dev/stdout; cat /dev/stdin; echo three >/proc/self/fd/1",
    "killed": "echo one; kill -9 $$",
    "ended by TERM": "echo one; kill $$; echo two",
    "not a command": "nowhere_to_be_found",
    "background": "(sleep 0.2; echo late) & echo early",
    "workspace": 'pwd; echo "$PWD"; echo x >made; cat made; test -r Bootstrap.sh && test -w . && echo mine',
    "arguments": 'printf "<%s>" "$@"; echo',
    # All but the two that the C library keeps for itself.
    "signals": "trap -p; cat /proc/self/status | grep -E '^Sig(Blk|Ign)' | grep -o '.......$'",
    "descriptors": "ls /proc/self/fd | head -3; echo $(( $(ls /proc/self/fd | wc -l) ))",
}


@pytest.fixture
def open_work() -> Iterator[Path]:
    """A directory that other users can reach, which pytest's own are not."""
    base = Path(tempfile.mkdtemp(dir="/tmp", prefix="tentacle-test-"))
    base.chmod(0o755)
    yield base / "Work"
    shutil.rmtree(base)


@pytest.fixture
async def make_lab(open_work: Path, new_lab: Callable[..., Lab]) -> AsyncIterator[Callable[..., Lab]]:
    def make(sandbox: str, work: Path = open_work) -> Lab:
        return new_lab(options(replace(SANDBOXES[sandbox], uids=own_uids())), work)

    yield make


@pytest.mark.parametrize("sandbox", [sandbox for sandbox in SANDBOXES if sandbox != "tree"])
async def test_the_peer_sees_no_difference(make_lab: Callable[..., Lab], open_work: Path, sandbox: str) -> None:
    seen: list[list[tuple[ProcessState, int, list[dict[str, str]]]]] = []
    for lab in (make_lab("tree", open_work.parent / "plain"), make_lab(sandbox)):
        await lab.engine.start()
        seen.append([])
        for number, body in enumerate(BODIES.values()):
            status = await lab.run(body, f"T-{number}", arguments=("a b", "c"))
            form = recorded_form(status, lab.work / f"T-{number}")
            # Under whom it runs is told as it is.
            form[5]["text"] = form[5]["text"].rpartition(" running as ")[0]
            seen[-1].append((status.state, status.exit_code, form))
    for plain, other in zip(*seen, strict=True):
        assert other == plain


@pytest.mark.parametrize("sandbox", ["private", "private, cgroup"])
async def test_private_scripts_do_not_see_each_other(make_lab: Callable[..., Lab], sandbox: str) -> None:
    lab = make_lab(sandbox)
    await lab.engine.start()
    await lab.start("echo secret >/tmp/one; echo secret >/var/tmp/one; echo ready; exec sleep 600", "T-1")
    await lab.started("T-1")
    body = "ls -A /tmp | grep one; ls -A /var/tmp; ls -A ..; ls ../T-1; mktemp >/dev/null && echo made"
    found = lines(await lab.run(body, "T-2"))
    assert found == ["T-2", "ls: cannot access '../T-1': No such file or directory", "made"]
    assert not Path("/tmp/one").exists()
    await lab.engine.cancel("T-1", 0)
    assert (await lab.ended("T-1")).exit_code == ScriptExitCode.CANCELLED_WHILE_RUNNING
    await lab.engine.complete("T-1")
    assert not (lab.work / "T-1").exists()


async def test_a_private_workspace_is_the_real_one(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab("private")
    await lab.engine.start()
    await lab.start("echo ready; until test -e go; do read -t 0.02 </dev/zero; done; cat go; echo back >answer")
    await lab.started()
    (lab.work / "T-1" / "go").write_text("late file\n")
    assert lines(await lab.ended())[-1] == "late file"
    assert (lab.work / "T-1" / "answer").read_text() == "back\n"


@pytest.mark.parametrize("below", [True, False])
async def test_the_directory_for_temporary_files_is_private_too(
    make_lab: Callable[..., Lab], open_work: Path, monkeypatch: pytest.MonkeyPatch, below: bool
) -> None:
    shared = open_work.parent / "shared" if below else Path("/dev/shm") / f"tentacle-{os.getpid()}"
    shared.mkdir()
    try:
        monkeypatch.setenv("TMPDIR", str(shared))
        lab = make_lab("private")
        await lab.engine.start()
        assert lines(await lab.run('echo x >"$TMPDIR/file" && mktemp')) != []
        assert list(shared.iterdir()) == []
    finally:
        shutil.rmtree(shared)


@pytest.mark.parametrize("sandbox", ["private", "user"])
async def test_the_work_directory_may_be_a_link_into_what_is_covered(
    make_lab: Callable[..., Lab], open_work: Path, sandbox: str
) -> None:
    real = open_work.parent / "real"
    real.mkdir()
    link = open_work.parent / "link"
    link.symlink_to(real)
    lab = make_lab(sandbox, link)
    await lab.engine.start()
    await lab.start("echo ready; sleep 600", "T-1")
    await lab.started("T-1")
    found = lines(await lab.run("pwd; ls -A .. 2>/dev/null; echo x >file; cat Bootstrap.sh | wc -l", "T-2"))
    assert found == [f"{real}/T-2", *(["T-2"] if sandbox == "private" else []), "0"]
    assert (real / "T-2" / "file").read_text() == "x\n"


async def test_the_sandbox_that_was_tried_is_logged(
    make_lab: Callable[..., Lab], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    lab = make_lab("user")
    await lab.engine.start()
    users = lab.engine.options.sandbox.uids
    (said,) = [text for text in caplog.messages if text.startswith("Scripts run with")]
    assert said == f"Scripts run with the isolation 'user' (users {users}) and no limits; an empty one was run so."
    limits = ScriptLimits(64 * 1024**2, 1.5, 100)
    assert str(limits) == "at most 64 MiB of memory, 1.5 processors, 100 tasks each"


async def test_a_file_that_comes_while_a_script_runs_can_be_read_by_it(make_lab: Callable[..., Lab]) -> None:
    """As an upload into the workspace does: the agent's own file, with the mode of any new one."""
    for sandbox in ("private", "user"):
        lab = make_lab(sandbox)
        await lab.engine.start()
        body = "mkdir sub; echo ready; until test -e sub/go; do read -t 0.02 <>/dev/zero; done; cat sub/go; rm -r sub"
        await lab.start(body, f"T-{sandbox}")
        await lab.started(f"T-{sandbox}")
        part = lab.work / f"T-{sandbox}" / "sub" / ".part"
        part.write_text("late file\n")
        part.chmod(0o644)
        part.rename(part.with_name("go"))
        status = await lab.ended(f"T-{sandbox}")
        assert (status.exit_code, lines(status)[-1]) == (0, "late file")
        await lab.close()


async def test_a_user_of_its_own_has_its_own_directory_for_temporary_files_in_the_place_of_the_agents(
    make_lab: Callable[..., Lab], open_work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = open_work.parent / "temporary"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("TMPDIR", str(directory))
    lab = make_lab("user")
    await lab.engine.start()
    assert lines(await lab.run('f=$(mktemp) && echo "${TMPDIR-none}"')) == [str(directory)]
    assert list(directory.iterdir()) == []


async def test_what_a_private_script_leaves_on_purpose_lives_on(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab("private")
    await lab.engine.start()
    token = f"600.{os.getpid()}"
    status = await lab.run(f"setsid sleep {token} >/dev/null 2>&1 & echo $!; exit 4")
    assert (status.state, status.exit_code) == (ProcessState.COMPLETE, 4)
    (daemon,) = (int(line) for line in lines(status))
    await until(lambda: living(token) == [daemon])  # bash may end before its child has become `sleep`
    os.kill(daemon, signal.SIGKILL)
    await until(lambda: not lab.alive())


@pytest.mark.parametrize("sandbox", ["user", "user, cgroup"])
async def test_each_script_has_a_user_of_its_own(make_lab: Callable[..., Lab], open_work: Path, sandbox: str) -> None:
    key = open_work.parent / "agent.key"
    key.write_text("secret")
    key.chmod(0o600)
    lab = make_lab(sandbox)
    await lab.engine.start()
    await lab.start("id -u; echo secret >file; chmod 644 file; echo $$; echo ready; sleep 600", "T-1")
    await lab.started("T-1")
    first = await lab.engine.status("T-1", 0)
    assert first is not None
    uid, pid = (int(entry.text) for entry in first.entries[6:8])
    assert real_and_saved_uids(pid) == (uid,) * 3
    body = (
        f"id -u; id -G; cat ../T-1/file; ls ..; cat {key}; kill -9 {pid}; ls ../.runs; cat {lab.log_path()}; "
        "echo kept >~/file; stat -c %u ~ ~/file; grep hidepid /proc/self/mounts | wc -l"
    )
    found = lines(await lab.run(body, "T-2"))
    other = int(found[0])
    assert other != uid
    assert found[1] == found[0]
    assert found[-3:] == [found[0], found[0], "1"]
    refused = [line for line in found if "ermission denied" in line or "not permitted" in line]
    hidden = [line for line in found if "No such file" in line]
    assert (len(refused), len(hidden)) == (4, 2)
    assert (lab.work / "T-2").stat().st_uid == other
    await lab.engine.cancel("T-1", 0)
    await lab.ended("T-1")
    await until(lambda: not living(str(lab.work / "T-1")))


@pytest.mark.usefixtures("open_work")
async def test_a_shim_whose_script_had_a_user_of_its_own_is_never_used_again(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab("user")
    await lab.engine.start()
    shims = [lines(await lab.run("echo $PPID", f"T-{number}")) for number in range(3)]
    assert len({line for (line,) in shims}) == 3
    assert not lab.engine._shims._idle


@pytest.mark.parametrize("sandbox", SANDBOXES)
@pytest.mark.usefixtures("open_work")
async def test_the_keys_of_a_script_are_its_own(sandbox: str, make_lab: Callable[..., Lab]) -> None:
    """The session keyring is inherited: a service has one, and all its scripts would share it."""
    join_new_session_keyring()
    lab = make_lab(sandbox)
    await lab.engine.start()
    names = 'my ($kind, $name, $key) = ("user", "tentacle-test", "secret"); print'
    add = f"perl -e '{names} syscall({ADD_KEY}, $kind, $name, $key, 6, -3)'; echo"
    find = f"perl -e '{names} syscall({KEYCTL}, 10, -3, $kind, $name, 0)'; echo"
    (added, found) = lines(await lab.run(f"{add}; {find}", "T-1"))
    assert added == found != "-1"
    assert lines(await lab.run(find, "T-2")) == ["-1"]


async def test_refused_without_rights(make_lab: Callable[..., Lab], tmp_path: Path) -> None:
    closed = make_lab("user", tmp_path / "Work")
    with pytest.raises(SandboxUnavailableError, match="cannot reach their workspaces through") as refused:
        await closed.engine.start()
    assert (refused.value.hint or "").startswith("Run: chmod o+x '/")
    taken = Lab(tmp_path / "Work", options(SandboxOptions(Mode.USER, uids=UidRange(65533, 65534))))
    with pytest.raises(SandboxUnavailableError, match="holds 65534, which is 'nobody'"):
        await taken.engine.start()
    await taken.engine.aclose()


async def test_nothing_is_tried_out_where_nothing_is_asked_for(lab: Lab) -> None:
    assert not lab.engine.options.sandbox.asks
    assert EngineOptions().sandbox == SandboxOptions()
    assert await lab.left() == []


async def test_the_cgroup_of_a_run_is_named_after_its_ticket(make_lab: Callable[..., Lab], tmp_path: Path) -> None:
    """And one that an earlier version has made for a run that goes on is still found."""
    lab = make_lab("private")
    await lab.engine.start()
    await lab.run("true", "Ticket 1.x")
    run = await lab.engine.find("Ticket 1.x")
    assert run is not None
    parents, limits = CgroupParents(tmp_path), ScriptLimits()
    [directory] = sandbox_module._cgroup_order(parents, run.files, limits).directories
    mark = sandbox_module._mark(run.files)
    assert directory == f"{tmp_path}/tentacle-run-Ticket_1_x-{mark}"
    (tmp_path / f"tentacle-run-{mark}").mkdir()
    assert sandbox_module._cgroup_order(parents, run.files, limits).directories == (f"{tmp_path}/tentacle-run-{mark}",)
