"""A disk that fills while scripts run: a small tmpfs in a mount namespace of its own, so that nothing is left of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.patience import PATIENCE

PROGRAM = """
import asyncio, json, subprocess, sys
from pathlib import Path
from tentacle.scripts.engine import EngineOptions
from tests.scripts.lab import Lab

async def main(home, *scripts):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", home], check=True)
    lab = Lab(Path(home) / "Work", EngineOptions(minimum_free_bytes=None))
    await lab.engine.start()
    told = []
    for number, script in enumerate(scripts):
        status = await lab.run(script, f"T-{number}")
        told.append({"code": status.exit_code, "texts": [e.text for e in status.entries]})
        await lab.engine.complete(f"T-{number}")
    await lab.close()
    print(json.dumps(told))

asyncio.run(main(*sys.argv[1:]))
"""


def on_a_small_disk(program: str, home: Path, *arguments: str) -> Any:
    """What the program prints, run where it may mount a disk of 3 MiB on `home`."""
    home.mkdir()
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.fail("This test needs 'unshare' (util-linux)")
    namespace = ["--mount"] if os.geteuid() == 0 else ["--mount", "--map-root-user"]
    command = [unshare, *namespace, sys.executable, "-c", program, str(home), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, f"no small disk could be mounted, or the engine failed on it: {done.stderr}"
    return json.loads(done.stdout)


def run_on_a_small_disk(home: Path, *scripts: str) -> list[dict[str, Any]]:
    """Exit code and log of each script, one after another on a disk of 3 MiB."""
    found: list[dict[str, Any]] = on_a_small_disk(PROGRAM, home, *scripts)
    return found


def test_a_script_that_fills_the_disk_with_output_keeps_its_exit_code(tmp_path: Path) -> None:
    flood = "echo first; head -c 20000000 /dev/zero | tr '\\0' x | fold -w 1000; echo last; exit 7"
    filled, next_one = run_on_a_small_disk(tmp_path / "disk", flood, "echo still here; exit 2")
    assert filled["code"] == 7
    assert filled["texts"][6] == "first"
    marks = [text for text in filled["texts"] if text.startswith("Tentacle could not write ")]
    assert marks
    assert "No space left on device" in marks[0]
    assert filled["texts"][-1].endswith("exited with code 7")
    kept = sum(len(text) + 1 for text in filled["texts"] if set(text) == {"x"})
    lost = sum(int(mark.split()[4]) for mark in marks)
    assert abs(kept + lost - 20_020_000) < 5000
    assert (next_one["code"], next_one["texts"][6]) == (2, "still here")


def test_the_log_goes_on_when_there_is_space_again(tmp_path: Path) -> None:
    script = """
        echo before; head -c 10000000 /dev/zero > filler
        head -c 100000 /dev/zero | tr '\\0' y; echo
        sleep 0.1; rm filler; echo after; exit 3
    """
    (told,) = run_on_a_small_disk(tmp_path / "disk", script)
    assert told["code"] == 3
    texts = told["texts"]
    assert texts[6] == "before"
    # An entry that tells of a loss may have fitted where the output did not.
    marks = [text for text in texts if text.startswith("Tentacle could not write ")]
    assert texts.index("after") > texts.index(marks[-1])
    kept = sum(len(text) for text in texts if set(text) == {"y"})
    assert abs(kept + sum(int(mark.split()[4]) for mark in marks) - 100_000) <= 1
    assert texts[-1].endswith("exited with code 3")


def test_the_last_line_is_not_lost_when_it_is_the_first_that_has_no_room(tmp_path: Path) -> None:
    """The output just fits: a block of the log is filled but for 40 bytes, and there is no other one."""
    script = """
        log=$(echo ../.runs/*.log)
        echo first; until grep -q first $log; do sleep 0.01; done
        cat /dev/zero >filler 2>/dev/null
        room=$((4096 - $(stat -c %s $log) - 40 - 18))
        printf "%${room}s\\n" x; exit 7
    """
    (told,) = run_on_a_small_disk(tmp_path / "disk", script)
    assert told["code"] == 7
    assert told["texts"][-2].endswith(" x")
    assert told["texts"][-1] == "Process /bin/bash exited with code 7"


AMONG_OTHERS = """
import asyncio, json, subprocess, sys
from datetime import timedelta
from pathlib import Path
from tentacle.scripts.engine import EngineOptions, StartRequest
from tentacle.scripts.errors import ScriptError
from tentacle.scripts.workspace.workspaces import WorkspaceFile
from tests.scripts.lab import Lab

def texts(status):
    return [e.text for e in status.entries]

async def main(home):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", home], check=True)
    lab = Lab(Path(home) / "Work", EngineOptions(minimum_free_bytes=None))
    await lab.engine.start()
    told = {}
    wait = "until [ -e ../go ]; do sleep 0.02; done"
    await lab.start(f"echo ready; {wait}; echo other goes on; exit 5", "other")
    await lab.started("other")
    flood = "head -c 9000000 /dev/zero | tr '\\\\0' x | fold -w 1000"
    await lab.start(f"echo ready; {flood}; echo full > ../full; {wait}; echo end; exit 7", "flood")
    while not (lab.work / "full").exists():
        status = await lab.engine.status("flood", 0)
        assert status.entries
        await asyncio.sleep(0.01)
    told["status while full"] = [texts(await lab.engine.status(t, 0))[6] for t in ("flood", "other")]
    source = Path(sys.argv[2])
    source.write_bytes(b"x" * 1000000)
    for name, password in (("refused", None), ("sealed", "password")):
        files = (WorkspaceFile("f", source, password),)
        try:
            await lab.start("echo never", name, files=files)
        except ScriptError as error:
            told[name] = str(error)
    told["left"] = sorted(p.name for p in lab.work.iterdir() if p.name not in ("go", "full", ".mask.key", ".runs"))
    (lab.work / "go").touch()
    for ticket in ("other", "flood"):
        status = await lab.ended(ticket)
        told[ticket] = [status.exit_code, [t for t in texts(status)[6:] if set(t) != {"x"}]]
    await lab.engine.complete("flood")
    told["after"] = texts(await lab.run("echo room again", "after"))[6]
    await lab.close()
    print(json.dumps(told))

asyncio.run(main(sys.argv[1]))
"""


def test_others_and_the_agent_go_on_while_the_disk_is_full(tmp_path: Path) -> None:
    told: dict[str, Any] = on_a_small_disk(AMONG_OTHERS, tmp_path / "disk", str(tmp_path / "source"))
    assert told["status while full"] == ["ready", "ready"]
    assert "No space left on device" in told["refused"]
    assert "No space left on device" in told["sealed"]
    assert told["left"] == ["flood", "other"]
    code, lines = told["other"]
    assert (code, lines[0], lines[-1][-18:]) == (5, "ready", "exited with code 5")
    assert "other goes on" in lines or any("could not write 14 bytes" in line for line in lines)
    code, lines = told["flood"]
    assert code == 7
    assert any(line.startswith("Tentacle could not write ") for line in lines)
    assert lines[-1].endswith("exited with code 7")
    assert told["after"] == "room again"


FULL_AT_START = """
import asyncio, json, logging, subprocess, sys
from datetime import timedelta
from pathlib import Path
from tentacle.scripts.errors import ScriptError
from tentacle.scripts.retention import Quota, WorkspaceCleaner
from tentacle.scripts.sandbox.sandbox import SandboxOptions, Mode
from tests.scripts.lab import Lab
from tests.scripts.sandboxes import options

async def main(home):
    subprocess.run(["mount", "-t", "tmpfs", "-o", sys.argv[2], "tmpfs", home], check=True)
    work = Path(home) / "Work"
    private = options(SandboxOptions(Mode.PRIVATE, use_cgroup=False))
    lab = Lab(work, private)
    await lab.engine.start()
    await lab.run("for n in {1..50}; do echo x >$n; done", "old")
    lab.age("old")
    await lab.engine.aclose()
    filler = work / "old" / "filler"
    try:
        for number in range(10**6):
            (work / "old" / f"filler-{number}").write_bytes(b"x" * 4096)
    except OSError:
        pass
    told = []
    logging.getLogger("tentacle").addHandler(handler := logging.Handler())
    handler.emit = lambda record: told.append(record.getMessage())
    lab = Lab(work, private)
    await lab.engine.start()
    try:
        await lab.run("echo never", "refused")
    except ScriptError as error:
        told.append(str(error))
    handler.emit = lambda record: None
    cleaner = WorkspaceCleaner(lab.engine, older_than=timedelta(days=1), every=timedelta(days=1))
    told.append(await cleaner.sweep())
    told.append((await lab.run("ls -A ..", "after")).entries[6].text)
    await lab.close()
    print(json.dumps(told))

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ("size=2m", "was not tried out: the disk is full."),
        ("size=64m,nr_inodes=300", "/disk/Work': No space left on device"),
    ],
)
def test_an_agent_starts_on_a_full_disk_and_makes_room(tmp_path: Path, limits: str, told: str) -> None:
    """Also when scripts are kept apart, which cannot be tried out there."""
    untried, refused, swept, after = on_a_small_disk(FULL_AT_START, tmp_path / "disk", limits)
    assert untried.endswith(told)
    assert "No space left on device" in refused
    assert (swept, after) == (1, "after")
