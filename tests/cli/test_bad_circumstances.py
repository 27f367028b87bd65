"""Every command on a full disk, on a read-only one and with a damaged instance; interrupted and simultaneous writes.

The disks are small ones in a mount namespace of their own, so that nothing is left of them.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tentacle.cli.frame.command_table import ENTRIES
from tentacle.settings.store import SettingsFile
from tests.cli.hostile import Place, base_of, complaint, litter, unheard
from tests.patience import PATIENCE

PROGRAM = Path(sys.executable).with_name("tentacle")
ROOT = Path(__file__).parent.parent.parent

ON_A_DISK = """
import json, os, subprocess, sys
from pathlib import Path
from tentacle.cli.frame.command_table import ENTRIES
from tests.cli.hostile import Place, base_of, complaint, litter, nowhere

kind, top = sys.argv[1], Path(sys.argv[2])
if kind != "forbidden":
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", top], check=True)
cwd = top / "a"
cwd.mkdir()
os.chdir(cwd)
(cwd / "file").write_text("x")
told = []
with nowhere() as url:
    place = Place(cwd, top, dict(os.environ))
    place.make_instance(url)
    before = (top / "I" / "I.cfg").read_bytes()
    if kind == "read-only":
        subprocess.run(["mount", "-o", "remount,ro", top], check=True)
    elif kind == "forbidden":
        for path in sorted(top.rglob("*")):
            path.chmod(0o500 if path.is_dir() else 0o400)
        top.chmod(0o500)
    else:
        with open(top / "filler", "wb", buffering=0) as filler:
            try:
                while filler.write(b"x" * 4096):
                    pass
            except OSError:
                pass
    writes = place.run("configure", "--instance=I", "--port=4711")
    for entry in sorted(ENTRIES, key=lambda entry: entry.name == "delete-instance"):
        ended = place.run(entry.name, *base_of(entry.name, url))
        if problem := complaint(entry.name, ended, secret=False):
            told.append(ascii((entry.name, problem, ended)))
        if (top / "I" / "I.cfg").read_bytes() != before:
            told.append(ascii((entry.name, "the configuration was changed", ended)))
        if litter(top):
            told.append(ascii((entry.name, litter(top))))
print(json.dumps({"problems": told, "configure": writes}))
"""


def surroundings(kind: str) -> list[str]:
    """Where disks can be mounted that nobody else sees, or where root is bound by modes like everybody."""
    if kind == "forbidden":
        needed, options = "setpriv", ["--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    else:
        needed, options = "unshare", ["--mount"] if os.geteuid() == 0 else ["--mount", "--map-root-user"]
    program = shutil.which(needed)
    assert program is not None, f"This test needs '{needed}' (util-linux)"
    return [program, *options]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("full", "No space left on device"),
        ("read-only", "Read-only file system"),
        ("forbidden", "Please check file permissions."),
    ],
)
def test_a_disk_that_takes_nothing(kind: str, reason: str, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    for name, folder in (("HOME", "home"), ("TentacleMachineConfigurationHomeDirectory", "machine")):
        environ[name] = str(disk / folder)
    done = subprocess.run(
        [*surroundings(kind), sys.executable, "-c", ON_A_DISK, kind, str(disk)],
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["problems"] == []
    code, out, err = told["configure"]
    assert (code, out) == (1, "")
    assert reason in err


def damage(kind: str, home: Path, registry: Path) -> None:
    config = home / "I.cfg"
    whole = config.read_bytes()
    match kind:
        case "cut":
            config.write_bytes(whole[: len(whole) // 2])
        case "binary":
            config.write_bytes(os.urandom(5000))
        case "wrong type":
            config.write_bytes(whole.replace(b"no-listen: false", b"no-listen: [1, {2: 3}]"))
        case "huge":
            config.write_bytes(b"#" * (5 * 1024 * 1024))
        case "directory":
            config.unlink()
            config.mkdir()
        case "pipe":
            config.unlink()
            os.mkfifo(config)
        case "sealed with another key":
            (home / "I.cfg.key").write_bytes(b"A" * 43 + b"=\n")
        case "no key":
            (home / "I.cfg.key").unlink()
        case "registry":
            next(registry.iterdir()).write_text('{"Name": ')


def contents(folder: Path) -> dict[str, bytes | None]:
    found = (path for path in folder.rglob("*") if path.parent.name != "Logs" and path.name != "Logs")
    return {str(path): path.read_bytes() if path.is_file() else None for path in found}


@pytest.mark.parametrize(
    "kind",
    [
        "cut",
        "binary",
        "wrong type",
        "huge",
        "directory",
        "pipe",
        "sealed with another key",
        "no key",
        "registry",
    ],
)
def test_a_damaged_instance_is_told_in_a_line_and_left_alone(kind: str, place: Place, url: str) -> None:
    registry = place.top / "machine" / "Tentacle" / "Instances"
    damage(kind, place.top / "I", registry)
    entry = next(registry.iterdir())
    before, listed = contents(place.top / "I"), entry.read_bytes()
    problems = []
    with unheard():
        for one in ENTRIES:
            ended = place.run(one.name, *base_of(one.name, url))
            entry.write_bytes(listed)  # an instance that is damaged may be deleted
            if problem := complaint(one.name, ended, secret=False):
                problems.append(ascii((one.name, problem, ended)))
            if contents(place.top / "I") != before:
                problems.append(ascii((one.name, "something was changed", ended)))
    assert not problems, "\n".join(problems)
    assert place.run("configure", "--instance=I", "--port=1")[0] == 1


def test_a_write_that_breaks_off_leaves_what_was_there(place: Place) -> None:
    prlimit = shutil.which("prlimit")
    assert prlimit is not None, "This test needs 'prlimit' (util-linux)"
    # Python would leave compiled modules that break off too.
    subprocess.run([PROGRAM, "configure", "--instance=I", "--port=4711"], check=True, timeout=PATIENCE)
    before = (place.top / "I" / "I.cfg").read_bytes()
    done = subprocess.run(
        [prlimit, "--fsize=1000", PROGRAM, "configure", "--instance=I", "--port=4712"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "File too large" in done.stderr
    assert (place.top / "I" / "I.cfg").read_bytes() == before
    assert litter(place.top) == []


def test_what_a_killed_writer_left_is_cleared_away(place: Place) -> None:
    left = place.top / "I" / ".I.cfg.0123abcd.tmp"
    left.write_text("port: 1\n")
    assert place.run("configure", "--instance=I", "--port=4711")[0] == 0
    assert not left.exists()
    assert SettingsFile(place.top / "I" / "I.cfg").load().port == 4711


def at_once(*commands: tuple[str, ...]) -> list[str]:
    """Runs all commands as processes at the same time; what each said, after nothing on standard error."""
    running = [
        subprocess.Popen([PROGRAM, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    ended = [process.communicate(timeout=PATIENCE) for process in running]
    assert [(process.returncode, err) for process, (_, err) in zip(running, ended, strict=True)] == [(0, "")] * len(
        running
    )
    return [out for out, _ in ended]


def test_commands_at_once_on_one_instance_lose_nothing(place: Place) -> None:
    on = "--instance=I"
    place.run("configure", on, "--trust=AAAA")
    at_once(
        *(("configure", on, f"--trust=B{number}") for number in range(4)),
        ("configure", on, "--port=4711"),
        ("configure", on, "--noListen=True"),
        ("server-comms", on, "--thumbprint=AAAA", "--style=TentacleActive", "--host=h"),
        ("set-polling-connection-count", on, "--pollingConnectionCount=7"),
        ("proxy", on, "--proxyEnable=true", "--proxyHost=one", "--proxyPassword=secret"),
        ("polling-proxy", on, "--proxyEnable=true", "--proxyHost=two"),
    )
    settings = SettingsFile(place.top / "I" / "I.cfg").load()
    assert sorted(server.thumbprint for server in settings.servers) == ["AAAA", "AAAA", "B0", "B1", "B2", "B3"]
    assert [server.address for server in settings.servers if server.address] == ["https://h:10943"]
    assert (settings.port, settings.no_listen, settings.polling_connection_count) == (4711, True, 7)
    assert (settings.proxy.host, settings.proxy.password, settings.polling_proxy.host) == ("one", "secret", "two")
    assert litter(place.top) == []


def test_an_instance_made_by_several_at_once_is_one_with_one_certificate(place: Place) -> None:
    config = place.top / "New" / "New.cfg"
    made = at_once(*[("create-instance", "--instance=New", f"--config={config}")] * 4)
    assert sum(out.startswith("Creating empty configuration file") for out in made) == 1
    assert all("Saving instance: New\n" in out for out in made)
    certificates = at_once(*[("new-certificate", "--instance=New", "--if-blank")] * 4)
    assert sum(out.startswith("A new certificate has been generated") for out in certificates) == 1
    stored = SettingsFile(config).load().certificate
    assert stored is not None
    assert sum(stored.thumbprint in out for out in certificates) == 1


def test_who_has_to_wait_for_another_command_is_told_so(place: Place) -> None:
    with open(place.top / "I" / "I.cfg.key") as key:  # noqa: PTH123
        fcntl.flock(key, fcntl.LOCK_EX)
        with subprocess.Popen(
            [PROGRAM, "configure", "--instance=I", "--port=4711"], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            config = place.top / "I" / "I.cfg"
            assert process.stdout.readline() == f"Waiting for another process that is changing {config}...\n"
            fcntl.flock(key, fcntl.LOCK_UN)
            # To the end: whoever leaves before ends the command.
            assert process.stdout.readlines()[0] == "Services listen port: 4711\n"
    assert process.returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        [b"create-instance", b"--instance=caf\xe9", b"--config=x\xff"],
        [b"configure", b"--instance=I", b"--listenIpAddress=\xff\xfe"],
        [b"configure", b"--instance=\x80\x1b[2J"],
        [b"caf\xe9"],
        [b"show-thumbprint", b"--config=\xff/\xff"],
    ],
)
def test_arguments_that_are_no_text_as_a_process(place: Place, arguments: list[bytes]) -> None:
    before = contents(place.top / "I")
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, timeout=PATIENCE, check=False)
    ended = (done.returncode, done.stdout.decode("ascii"), done.stderr.decode("ascii"))
    assert complaint("", ended, secret=False) is None, ended
    assert ended[0] in (1, 2)
    assert contents(place.top / "I") == before


def test_a_registry_entry_of_somebody_else_s_stops_nobody(place: Place) -> None:
    (place.top / "machine" / "Tentacle" / "Instances" / "other.config").write_text("rubbish")
    thumbprint: Any = place.run("show-thumbprint", "--instance=I")
    assert thumbprint[0] == 0
    assert place.run("list-instances")[0] == 1
