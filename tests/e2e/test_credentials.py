"""The key of an instance's secrets as a credential of systemd: the agent has it, and its scripts do not.

On a real systemd; scripts of mode `none` have the agent's own user.  What takes longer is in
`packaging/tests/test_credentials.py`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.machine import Machine
from tests.e2e.test_systemd import HOME, UNIT, WORKER, Site, make_instance, set_up_polling, wait_until
from tests.e2e.test_two_units import LAUNCHER, MOST_EXPOSED, WHOLE, exposure, main_process

THIEF = """\
for path in /run/credentials/{unit}.service/tentacle.key {key} {home}/tentacle.config.key \\
    /proc/{pid}/root/run/credentials/{unit}.service/tentacle.key /proc/{pid}/mem /proc/{pid}/environ /proc/{pid}/fd/0
do
    head -c 1 "$path" >&2 && echo "line read: $path"
    unshare --user --map-root-user head -c 1 "$path" >&2 && echo "line read as root of nothing: $path"
done
ls /run/credentials >&2 && echo "line all credentials are named"
python3 -c 'import ctypes; print("line traced", ctypes.CDLL(None).ptrace(0x4206, {pid}, 0, 0))'
echo "line ${{CREDENTIALS_DIRECTORY-none}} $(tr '\\0' '\\n' </proc/$PPID/environ | grep --count CREDENTIALS_DIRECTORY)"
{tentacle} show-thumbprint '--instance={worker}' >&2 || echo "line the key is root's"
cat {home}/tentacle.config >&2 && echo "line what is sealed can be read"
"""
NOTHING_FOUND = ["line traced -1", "line none 0", "line the key is root's", "line what is sealed can be read"]

# Each change of who can open the key, ended before each change of a name on the disk.
KILLED = """\
import itertools, os, signal, sys
from pathlib import Path
from tentacle.settings.key_places import KeyAccess
from tentacle.settings.store import SettingsFile

file = SettingsFile(Path(sys.argv[1]))
first, left = file.load(), 0

def hook(event, _):
    global left
    if event in ("os.rename", "os.remove"):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
for start, wanted in itertools.permutations(KeyAccess, 2):
    for point in itertools.count(1):
        file.reseal(start)
        child = os.fork()
        if child == 0:
            left = point
            file.reseal(wanted)
            os._exit(0)
        ended = os.waitpid(child, 0)[1] == 0
        assert file.load() == first, (start, wanted, point)
        file.update(lambda settings: settings)
        if ended:
            break
    assert point > 6, point
file.reseal(KeyAccess.USER)
print("as at first:", file.load() == first)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Machine(tmp_path_factory.mktemp("machine")) as machine:
        made = set_up_polling(machine)
        machine.on_the_network(int)
        yield made


@pytest.fixture(scope="module")
def installed(site: Site) -> str:
    """What was said when the service got the key that root alone has."""
    return site.service("--install", "--start", "--key=root")


def key_of(site: Site) -> Path:
    """The key as the service's status names it, seen from outside."""
    path: str = json.loads(site.service("--status", "--format=json"))["Key"]["Path"]
    return site.machine.root / path[1:]


def inside(site: Site) -> str:
    """The key's path below the machine's root."""
    return str(key_of(site).relative_to(site.machine.root))


def steal(site: Site) -> list[str]:
    """What a script finds that looks for the key wherever it might be."""
    program = site.machine.run("which", "tentacle").strip()
    places = {"unit": UNIT, "home": HOME, "pid": main_process(site, UNIT), "worker": WORKER, "tentacle": program}
    return site.output(THIEF.format(key=f"/{inside(site)}", **places))


def test_no_script_gets_at_the_key_that_the_agent_has(site: Site, installed: str) -> None:
    closed, handed = (
        int(site.machine.properties(unit, f"{when}TimestampMonotonic").popitem()[1])
        for unit, when in ((LAUNCHER, "ExecMainStart"), (UNIT, "InactiveExit"))
    )
    assert 0 < closed <= handed, "credentials are closed before there are any: a script may run on from before"
    key = key_of(site)
    assert f"handed to the agent alone: /{inside(site)}\n" in installed
    assert "rotate-certificate" not in installed, "no script has run yet"
    assert (key.stat().st_uid, key.stat().st_mode & 0o777, key.parent.stat().st_mode & 0o777) == (0, 0o600, 0o700)
    assert not (site.machine.root / f"{HOME[1:]}/tentacle.config.key").exists()
    assert steal(site) == NOTHING_FOUND
    task = site.begin("all-killed", 3)
    before = [main_process(site, unit) for unit in (UNIT, LAUNCHER)]
    site.machine.run("kill", "-KILL", *map(str, before))
    wait_until(lambda: not {0, *before}.intersection(main_process(site, unit) for unit in (UNIT, LAUNCHER)))
    site.go("all-killed")
    assert site.end(task) == ("Failed", WHOLE)
    site.service("--restart")
    assert steal(site) == NOTHING_FOUND
    assert exposure(site.machine, f"{UNIT}.service") <= MOST_EXPOSED
    said = site.machine.run("systemd-analyze", "verify", *(f"/etc/systemd/system/{u}" for u in site.unit_files))
    assert said.strip() == ""


@pytest.mark.usefixtures("installed")
def test_root_s_commands_work_as_ever_and_its_user_s_say_why_they_do_not(site: Site) -> None:
    which = f"--instance={WORKER}"
    shown = site.machine.run("tentacle", "show-thumbprint", which).strip()
    site.machine.run("tentacle", "rotate-certificate", which)
    assert site.output("echo line 1") == ["line 1"]
    status = json.loads(site.machine.run("tentacle", "status", "--format=json", expect=None))
    assert (status["Agent"]["Running"], status["Certificate"]["Thumbprint"]) == (True, shown)
    said = " ".join(site.machine.run("tentacle", "doctor").split())
    assert f"ok rights systemd hands the key of the secrets to the agent alone; root's is /{inside(site)}" in said
    assert "warn" not in said
    for mode in (0o755, 0o700):
        key_of(site).parent.chmod(mode)
        said = site.machine.run("setpriv", "--reuid=tentacle", "--clear-groups", "tentacle", "status", which, expect=1)
        assert "Run this as root, whose it is after 'service --key=root'" in said


def test_whoever_is_killed_while_the_key_is_changed_leaves_one_that_opens_the_secrets(site: Site) -> None:
    config = "/etc/octopus/killed/tentacle.config"
    make_instance(site.machine, "Killed", config, "--noListen=True")
    assert site.machine.run(sys.executable, "-c", KILLED, config) == "as at first: True\n"
    stores = [site.machine.root / "etc" / name for name in ("credstore", "credstore.encrypted")]
    assert [path for store in stores for path in store.iterdir() if "killed" in path.name] == []


def test_a_key_that_cannot_be_made_leaves_the_old_one(site: Site) -> None:
    config = "/etc/octopus/refused/tentacle.config"
    make_instance(site.machine, "Refused", config, "--noListen=True")
    shown = site.machine.run("tentacle", "show-thumbprint", "--instance=Refused")
    program = site.machine.run("which", "systemd-creds").strip()
    refused = (
        ("--key=encrypted", f"mount --bind /bin/false {program}", program, "it ended with exit code 1"),
        (
            "--key=root",
            "mkdir -p /etc/credstore && mount -t tmpfs -o size=4k,mode=0700 full /etc/credstore"
            " && ! cat /dev/zero >/etc/credstore/full",
            "/etc/credstore",
            "No space left on device",
        ),
    )
    for key, breaking, mended, said in refused:
        site.machine.run("sh", "-c", breaking)
        assert said in site.machine.run("tentacle", "service", "--instance=Refused", "--install", key, expect=1)
        site.machine.run("umount", mended)
        assert site.machine.run("tentacle", "show-thumbprint", "--instance=Refused") == shown
