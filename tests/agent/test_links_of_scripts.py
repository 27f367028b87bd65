"""What scripts plant for the agent, which is root, while they run as other users (docs/spec/services.md, "Links that
scripts make").
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE

from tentacle.contracts.script import ProcessState
from tentacle.contracts.script_v2 import ScriptStatusResponseV2
from tests.agent.process import AgentHome, Server
from tests.agent.transfer_calls import Caller
from tests.other_user import only_root, second_name, secret_of_root
from tests.patience import PATIENCE

REFUSED = "Access to the path '{}' is denied. The link '"
PLANT = """
set -e
ln -s "$SECRET" artifact.txt
ln -s /proc/self/root"$SECRET" magic
ln -s "/proc/$$/root$SECRET" magic-of-mine
ln -s "$(dirname "$SECRET")" out
mkdir -p inner; ln -s inner in; echo mine >inner/file; ln -s "$PWD/inner/file" absolute
ln -s /etc/hostname public
mkdir -p "$SHARED/dir"; ln -s "$SECRET" "$SHARED/dir/link"; ln -s "$(dirname "$SECRET")" "$SHARED/out"
ln -s "$SECRET" "$SHARED/link"
echo planted
"""


@only_root
async def test_no_link_of_a_script_leads_root_to_what_the_script_may_not_use(
    root_agent: AgentHome, server: Server
) -> None:
    secret = secret_of_root(root_agent.directory / "of-root" / "key")
    # What lies in /tmp otherwise is not in sight of a script.
    shared = root_agent.home / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    running = await root_agent.start()
    server.port = await running.port()
    caller = Caller(server, server.port)
    answer = await server.script(f"SECRET={secret} SHARED={shared}{PLANT}", PATIENCE)
    assert isinstance(answer, ScriptStatusResponseV2)
    assert (answer.state, answer.exit_code) == (ProcessState.COMPLETE, 0), [entry.text for entry in answer.logs]
    workspace = root_agent.home / "Work" / "T"
    for link in ("artifact.txt", "magic", "magic-of-mine", "public"):
        message, body = await caller.call("DownloadFile", f"{workspace}/{link}")
        assert str(message).startswith(REFUSED.format(f"{workspace}/{link}")), message
        assert body is None
    for method, data in (("DownloadFile", None), ("UploadFile", b"new")):
        for name in ("key", "fresh", "deep/fresh"):
            message, body = await caller.call(method, f"{workspace}/out/{name}", data)
            assert str(message).startswith(REFUSED.format(f"{workspace}/out/{name}")), message
    for link in ("link", "dir/link", "out/key"):
        message, body = await caller.call("DownloadFile", f"{shared}/{link}")
        assert "is not followed: it leads to what whoever may have made it must not use" in str(message)
        assert body is None
    message, _ = await caller.call("UploadFile", f"{shared}/out/fresh", b"new")
    assert "is not followed" in str(message)
    # As a script can where `fs.protected_hardlinks` is 0.
    second_name(workspace, "hard", secret)
    message, body = await caller.call("DownloadFile", f"{workspace}/hard")
    assert (str(message).startswith(REFUSED.format(f"{workspace}/hard")), body) == (True, None)
    assert isinstance((await caller.call("UploadFile", f"{workspace}/hard", b"new"))[0], dict)
    # What stays inside is as it always was, and a link in the place of the file is replaced.
    for name in ("in/file", "absolute"):
        assert (await caller.call("DownloadFile", f"{workspace}/{name}"))[1] == b"mine\n"
    assert isinstance((await caller.call("UploadFile", f"{workspace}/in/new", b"new"))[0], dict)
    assert (workspace / "inner" / "new").read_bytes() == b"new"
    assert isinstance((await caller.call("UploadFile", f"{workspace}/artifact.txt", b"new"))[0], dict)
    assert not (workspace / "artifact.txt").is_symlink()
    assert (secret.read_bytes(), [path.name for path in secret.parent.iterdir()]) == (b"secret", ["key"])
    await running.stop()


SWAP = """
import ctypes, os, sys, threading
uid, secret = int(sys.argv[1]), sys.argv[2]
os.setgroups([]); os.setgid(uid); os.setuid(uid)
os.symlink(secret, "link")
with open("plain", "w") as file: file.write("plain")
os.mkdir("real")
with open("real/key", "w") as file: file.write("plain")
os.symlink(os.path.dirname(secret), "linked")
print("ready", flush=True)
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
libc = ctypes.CDLL(None)
while not ended.is_set():
    # RENAME_EXCHANGE: there is no moment without either.
    libc.renameat2(-100, b"plain", -100, b"link", 2)
    libc.renameat2(-100, b"real", -100, b"linked", 2)
"""


@only_root
async def test_names_that_are_exchanged_all_the_time_lead_nowhere(root_agent: AgentHome, server: Server) -> None:
    secret = secret_of_root(root_agent.directory / "of-root" / "key")
    running = await root_agent.start()
    server.port = await running.port()
    caller = Caller(server, server.port)
    await server.script("mkdir -p sub; chmod 777 sub; echo ready", PATIENCE)
    workspace = root_agent.home / "Work" / "T"
    uid = workspace.stat().st_uid
    swapping = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SWAP, str(uid), str(secret)), cwd=workspace / "sub", stdin=PIPE, stdout=PIPE
    )
    assert swapping.stdout is not None
    assert await swapping.stdout.readline() == b"ready\n"
    bodies = set()
    try:
        for turn in range(150):
            name = ("plain", "link", "real/key", "linked/key")[turn % 4]
            bodies.add((await caller.call("DownloadFile", f"{workspace}/sub/{name}"))[1])
            await caller.call("UploadFile", f"{workspace}/sub/linked/up{turn}", b"up")
    finally:
        await swapping.communicate(b"")
    assert bodies <= {b"plain", None}
    assert b"plain" in bodies
    assert [path.name for path in secret.parent.iterdir()] == ["key"]
    assert secret.read_bytes() == b"secret"
    await running.stop()
