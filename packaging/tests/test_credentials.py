"""The key of an instance's secrets as a credential of systemd: what takes longer than `tests/e2e/test_credentials.py`.

These run the agent of this checkout, on a booted copy of this machine.
"""

from __future__ import annotations

import pytest

from tests.e2e.pages import blocks_of
from tests.e2e.test_credentials import NOTHING_FOUND, key_of, site, steal
from tests.e2e.test_systemd import HOME, UNIT, WORKER, Site, make_instance, wait_until
from tests.e2e.test_two_units import LAUNCHER, main_process

__all__ = ["site"]
pytestmark = pytest.mark.timeout(900)


def test_it_may_be_encrypted_for_the_machine(site: Site) -> None:
    site.service("--install", "--start", "--key=root")
    plain = key_of(site)
    (typed,) = (block for block in blocks_of("docs/security.md") if "--key=root" in block)
    for old, new in (("--key=root", "--key=encrypted"), ("--instance=Tentacle", f"'--instance={WORKER}'")):
        assert old in typed
        typed = typed.replace(old, new)
    site.machine.run("sh", "-c", typed)
    encrypted = key_of(site)
    assert encrypted.parent.name == "credstore.encrypted"
    assert not plain.exists()
    assert steal(site) == NOTHING_FOUND
    site.service("--reconfigure", "--start")
    assert key_of(site) == encrypted, "it stays as it is"
    site.machine.run("tentacle", "configure", f"--instance={WORKER}", "--pollingConnectionCount=2")
    assert site.output("echo line 1") == ["line 1"]


def test_given_back_and_taken_again_it_is_a_new_one(site: Site) -> None:
    encrypted, agent = key_of(site), site.machine.root / "var/lib/tentacle"
    site.service("--reconfigure", "--start", "--key=user")
    beside = key_of(site)
    assert (beside.name, beside.stat().st_uid) == ("tentacle.config.key", agent.stat().st_uid)
    assert not encrypted.exists()
    for unit in (UNIT, LAUNCHER):
        text = (site.machine.root / f"etc/systemd/system/{unit}.service").read_text()
        assert "Credential" not in text
        assert "/run/credentials" not in text
    assert site.output(f"head -c 1 {HOME}/tentacle.config.key >&2 && echo line read") == ["line read"]
    known = beside.read_bytes()
    said = site.service("--reconfigure", "--key=root")
    assert f"  Tentacle rotate-certificate '--instance={WORKER}'\n" in said
    assert key_of(site).read_bytes() != known, "a script may have kept that one"
    site.machine.run("tentacle", "new-certificate", f"--instance={WORKER}")
    kept = [path for path in (site.machine.root / HOME[1:]).iterdir() if ".certificate-" in path.name]
    assert len(kept) == 1
    for access in ("encrypted", "root"):
        said = site.service("--reconfigure", "--start", f"--key={access}")
        assert f"Service started: {UNIT}\n" in said, "it has read what the key seals"
    back = f"--from-file={HOME}/{kept[0].name}"
    said = site.machine.run("tentacle", "import-certificate", f"--instance={WORKER}", back)
    assert kept[0].name.rpartition("-")[2] in said, "what was replaced was sealed anew, too"


def test_where_credentials_cannot_be_closed_to_scripts_there_are_none(site: Site) -> None:
    """As on a host without access control lists, of which systemd-tmpfiles says nothing."""
    real = site.machine.run("which", "systemd-tmpfiles").strip()
    site.machine.run("mount", "--bind", "/bin/true", real)
    closed = 'import os; os.removexattr("/run/credentials", "system.posix_acl_access")'
    site.machine.run("python3", "-c", closed)
    site.machine.run("systemctl", "restart", "--no-block", UNIT)
    wait_until(lambda: "/run/credentials is open to scripts" in site.machine.journal(LAUNCHER))
    assert main_process(site, LAUNCHER) == 0
    site.machine.run("umount", real)
    site.service("--restart")
    assert main_process(site, LAUNCHER) != 0


def test_what_cannot_be_is_told(site: Site) -> None:
    make_instance(site.machine, "Other", "/etc/octopus/other/tentacle.config", "--noListen=True")
    for options, message in (
        (("--install", "--key=me"), "'me' is not who can open a key. (Use one of: user, root, encrypted"),
        (("--start", "--key=root"), "--key goes with --install or --reconfigure."),
    ):
        said = site.machine.run("tentacle", "service", "--instance=Other", *options, expect=1)
        print(said)
        assert message.partition(" (")[0] in said
