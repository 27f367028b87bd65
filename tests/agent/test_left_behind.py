"""What scripts leave behind in the home, as root or not, keeps no agent from listening and from running scripts."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tentacle.home_layout import (
    AUDIT_FILE,
    CONTROL_SOCKET,
    HEARTBEAT_FILE,
    INBOX,
    LOCK_FILE,
    LOG_FILE,
    LOGS,
    MASK_KEY,
    POLLED_CALLS,
    RUNS,
    SPOOL,
    STATUS_FILE,
    UPLOADS,
    WORK,
)
from tentacle.scripts.workspace.removal import remove_tree
from tentacle.wire.messages import ServerError
from tests.agent.process import AgentHome, Server
from tests.patience import PATIENCE

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts, makes devices and immutable files")
FILES = (
    *(
        LOCK_FILE,
        CONTROL_SOCKET,
        STATUS_FILE,
        HEARTBEAT_FILE,
        f"{LOGS}/{LOG_FILE}",
        f"{LOGS}/{AUDIT_FILE}",
        f"{WORK}/{MASK_KEY}",
    ),
    *(f"{WORK}/{RUNS}/{name}" for name in ("finished", "history", "boots")),
)
DIRECTORIES = (*(f"{WORK}/{name}" for name in (RUNS, SPOOL, UPLOADS, INBOX, POLLED_CALLS)), LOGS)
IN_PLACE = {
    "a file": "touch %s",
    "a pipe": "mkfifo %s",
    "a link to a file": "ln -s /etc/hostname %s",
    "a link to a directory": "mkdir -p other; ln -s $PWD/other %s",
    "directories": "mkdir -p %s/one/more",
    "a closed directory": "mkdir -m 0 %s",
}
BY_ROOT = {
    "an immutable file in the spool": "touch ../.spool/x; chattr +i ../.spool/x",
    "a mount on the spool": "mount -t tmpfs -o ro tmpfs ../.spool",
    "mounts": "mkdir m ../.trash-1; mount -t tmpfs tmpfs m; mount -t tmpfs tmpfs ../.trash-1; touch m/x ../.trash-1/x",
    "an immutable workspace": "mkdir d; touch d/f; chattr +i d/f d .; mkdir ../.trash-1; chattr +i ../.trash-1",
    "devices": "rm -f ../../agent.lock ../.runs/finished; for f in ../../agent.lock ../.runs/finished ../.mask.key; do "
    "mknod $f c 1 5; done",
    "immutable runs": "chattr +i ../.runs/*",
    "runs that can only grow": "chattr +a ../.runs/*",
    "everything immutable": "chattr -R +i ../.. || true",
    "runs of another user": "chown -R 20001:20001 ../.runs",
    "a workspace directory of another user": "chown 20001:20001 ..",
    "another workspace directory": "mount -t tmpfs tmpfs ..",
    "an immutable home": "chattr +i ../..",
    "an immutable workspace directory": "chattr +i ..",
    "an immutable directory of runs": "chattr +i ../.runs",
    "everything can only grow": "chattr -R +a ../.. || true",
}
TAKES_A_LOCK = "rm ../../agent.lock; exec 9>../../agent.lock; flock 9; { %s sleep 600 >/dev/null 2>&1 & }"
BY_ANYBODY = {
    "a run of a newer version": f"echo 'tentacle run 2' > ../.runs/{'a' * 64}.run",
    "directories and pipes as runs": "for i in $(seq 100 199); do mkdir ../.runs/$(printf %064d $i).run; "
    "mkfifo ../.runs/$(printf %064d 9$i).run; done",
    "names that are no text": "cd ../..; mkdir -p Work/{,.uploads/,.spool/,.spool-,.trash-,.tentacle/}$'\\xff'; "
    "mkdir -p Work/$'\\xff'/.tentacle; touch Work/$'\\xff'/.tentacle/claimed Work/.runs/$'\\xff'.run",
    "a lock that is held": TAKES_A_LOCK % "setsid",
    "a lock that is held without a mark": TAKES_A_LOCK % "setsid env -i",
    "a lock that is held by what seems an agent": TAKES_A_LOCK % "setsid bash -c 'exec -a tentacle \"$@\"' - ",
    "a directory of thirty thousand levels": 'rm -rf ../.spool; python3 -c \'import os; os.chdir("..")\n'
    'for name in (".spool", *"d" * 30000): os.mkdir(name); os.chdir(name)\'',
    **{f"{what} in place of {WORK}": f"cd ../..; mv {WORK} gone; {how % WORK}" for what, how in IN_PLACE.items()},
    **{
        f"{what} in place of all else": "cd ../..; "
        + "; ".join(
            # The agent may write one of them again meanwhile.
            f"{{ mv {name} gone-$RANDOM || true; }} 2>/dev/null; "
            f"{{ {how % name}; }} || {{ mv {name} gone-$RANDOM; {how % name}; }}"
            for name in (*FILES, *DIRECTORIES)
        )
        for what, how in {**IN_PLACE, "links to nowhere": "ln -s /nowhere/at/all %s"}.items()
    },
}


@pytest.fixture
async def home(agent: AgentHome) -> AsyncIterator[AgentHome]:
    # The script that has done it may run for ever.
    agent.environment["TENTACLE_DRAIN_TIMEOUT"] = "0"
    yield agent
    for point in mounts_below(agent.home):
        assert call("umount", point) == 0
    call("chattr", "-R", "-f", "-ia", agent.home)
    # Others than our own do not get down to any depth.
    assert remove_tree(agent.home)


def mounts_below(home: Path) -> Iterator[str]:
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        if (point := line.split()[4]).startswith(str(home)):
            yield point


def call(*words: str | Path) -> int:
    return subprocess.run(words, capture_output=True, check=False, timeout=PATIENCE).returncode


async def leave(agent: AgentHome, server: Server, body: str) -> None:
    """Has a script do that, and its agent killed."""
    first = await agent.start()
    server.port = await first.port()
    await server.script(f"set -e; {body}; echo left; sleep 600")
    await server.said("left")
    first.send(signal.SIGKILL)
    await first.ended()


async def require_next_agent(agent: AgentHome, server: Server) -> list[str]:
    """The next agent listens and runs a script; returns what it has said."""
    second = await agent.start()
    server.port = await second.port()
    answer = await server.script("exit 3", wait=PATIENCE, ticket="N")
    assert getattr(answer, "exit_code", answer) == 3
    second.send(signal.SIGTERM)
    code, problems = await second.ended()
    # What it goes on without, it says.
    assert code == 0, (problems, second.said)
    return second.said


@only_root
@pytest.mark.parametrize("what", BY_ROOT)
async def test_what_a_script_of_root_leaves_keeps_no_agent_from_listening(
    what: str, home: AgentHome, server: Server
) -> None:
    if "chattr" in BY_ROOT[what] and call("chattr", "+i", home.config) != 0:
        pytest.skip("this file system has no immutable files")
    call("chattr", "-i", home.config)
    await leave(home, server, BY_ROOT[what])
    await require_next_agent(home, server)


@pytest.mark.parametrize("what", BY_ANYBODY)
async def test_what_any_script_leaves_keeps_no_agent_from_listening(what: str, home: AgentHome, server: Server) -> None:
    await leave(home, server, BY_ANYBODY[what])
    await require_next_agent(home, server)


@only_root
async def test_root_is_told_of_a_home_of_another_user(home: AgentHome, server: Server) -> None:
    (home.home / WORK).mkdir()
    os.chown(home.home / WORK, 20001, 20001)
    said = await require_next_agent(home, server)
    told = f"the agent runs as root, but '{home.home / WORK}' belongs to 20001, who can replace what is there"
    assert any(told in line for line in said)


@only_root
@pytest.mark.parametrize(
    "how",
    [
        f"cd ../..; mv {WORK} gone; ln -s /nowhere/at/all {WORK}",
        f"cd ../..; mount --bind {WORK} {WORK}; mount -o remount,bind,ro $PWD/{WORK}",
    ],
    ids=["a link to nowhere", "a read-only mount"],
)
async def test_a_place_that_cannot_be_used_is_told_to_whoever_starts_a_script(
    how: str, home: AgentHome, server: Server
) -> None:
    await leave(home, server, how)
    second = await home.start()
    server.port = await second.port()
    answer = await server.script("exit 3", wait=PATIENCE, ticket="N")
    assert isinstance(answer, ServerError)
    assert WORK in answer.message
    second.send(signal.SIGTERM)
    code, problems = await second.ended()
    assert code == 0
    assert all("No script can be run now" in line or WORK in line for line in problems)


TAKES_THE_PORT = """cat >squatter.py <<'END'
import os, socket, sys, time
own = socket.socket()
own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
while True:
    try:
        own.bind(("127.0.0.1", int(sys.argv[1])))
        own.listen()
        break
    except OSError:
        time.sleep(0.01)
open(sys.argv[2], "w").close()
time.sleep(600)
END
setsid {python} squatter.py {port} {ready} >/dev/null 2>&1 & true"""


async def test_a_process_of_a_script_that_listens_on_the_port_is_ended(home: AgentHome, server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    home.set(port=port)
    ready = home.home / "squats"
    await leave(home, server, TAKES_THE_PORT.format(python=sys.executable, port=port, ready=ready))
    async with asyncio.timeout(PATIENCE):
        while not ready.exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    said = await require_next_agent(home, server)
    assert any(f"listens on port {port} of this agent: it is ended" in line for line in said)
