"""Commands killed with `-9` at every single step that they take on the disk: the same command again always succeeds.

A step is what Python's audit events show: a file opened, renamed, removed, locked, a mode changed, a directory made.
Each run is a fork of one process that has imported everything, and kills itself just before its nth step.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.patience import MUCH_WORK

ROOT = Path(__file__).parent.parent.parent

KILLED_EVERYWHERE = """
import json, os, signal, sys
from pathlib import Path
import tentacle.cli.main
from tentacle.cli.frame.command_table import ENTRIES
from tentacle.settings.store import SettingsFile
from tests.cli.hostile import Place, litter

STEPS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "os.truncate", "fcntl.flock"}
MOST = 100
top = Path(sys.argv[1])
home = top / "I"
place = Place(top, top, dict(os.environ))
for entry in ENTRIES:
    tentacle.cli.main.load(entry)


def of_interest(path):
    return path.startswith(str(top)) and "/Logs/" not in path


def child(arguments, last=None):
    pid = os.fork()
    if pid == 0:
        left = last

        def count(event, values):
            nonlocal left
            if event not in STEPS or left is None or (event == "open" and not of_interest(str(values[0]))):
                return
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        code, out, err = place.run(*arguments)
        print(err, end="", file=sys.stderr, flush=True)
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


COMMANDS = [
    ["create-instance", "--instance=I", f"--config={home}/I.cfg"],
    ["new-certificate", "--instance=I", "--if-blank"],
    ["configure", "--instance=I", "--trust=AAAA", f"--home={home}/home", "--port=4711"],
    ["server-comms", "--instance=I", "--style=TentacleActive", "--host=h"],
    ["proxy", "--instance=I", "--proxyEnable=true", "--proxyHost=h", "--proxyPassword=secret"],
    ["show-configuration", "--instance=I", f"--file={top}/shown/I.json"],
    ["new-certificate", "--instance=I", f"--export-pfx={top}/I.pfx"],
    ["import-certificate", "--instance=I", f"--from-file={top}/I.pfx"],
    ["delete-instance", "--instance=I"],
]
told, kills = [], {}
for arguments in COMMANDS:
    before = {path: path.read_bytes() for path in home.glob("I.cfg*")}
    entries = {path: path.read_bytes() for path in (top / "machine").rglob("*.config")}
    for step in range(1, MOST):
        ended = child(arguments, step)
        if ended == 0:
            break
        kills[arguments[0]] = step
        if ended != -signal.SIGKILL:
            told.append((arguments, step, f"ended with {ended}"))
        gone = arguments[0] == "delete-instance" and not list((top / "machine" / "Tentacle" / "Instances").iterdir())
        if not gone and (again := child(arguments)) != 0:
            told.append((arguments, step, f"cannot be repeated: {again}"))
        if (home / "I.cfg").exists():
            SettingsFile(home / "I.cfg").update(lambda settings: settings)
        told += [(arguments, step, str(path)) for path in litter(home) if path.parent == home]
        for path in set(home.glob("I.cfg*")) - set(before):
            path.unlink()
        for path, content in (before | entries).items():
            path.write_bytes(content)
    else:
        told.append((arguments, "is never finished"))
settings = SettingsFile(home / "I.cfg").load()
print(json.dumps({"told": told, "kills": kills, "port": settings.port, "password": settings.proxy.password}))
"""


def test_a_command_that_is_killed_at_any_step_can_be_repeated(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED_EVERYWHERE, tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=MUCH_WORK,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["told"] == []
    assert all(steps >= 4 for steps in found["kills"].values()), found["kills"]
    assert len(found["kills"]) == 8
    assert (found["port"], found["password"]) == (4711, "secret")
