"""One instance on this machine: its files and who may read them, its certificate, its disk.

Must not know any server.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tentacle import __version__
from tentacle.agent.own_files import foreign_place
from tentacle.cli.doctor.examined import ExaminedInstance
from tentacle.cli.doctor.finding import Finding, Level, Probe, ReportSection, fail, local_probe, ok, warn
from tentacle.cli.doctor.running_agent import agent, connections, from_outside, last_script
from tentacle.cli.frame.certificate_text import summary_of_pem
from tentacle.cli.frame.style import size
from tentacle.cli.status.state import InstanceState, disk_space, option_for
from tentacle.disk import user_name
from tentacle.home_layout import LOG_FILE, LOGS, WORK
from tentacle.settings.certificates import weaknesses
from tentacle.settings.identity_origin import origin_path_of, read_origin, this_machine
from tentacle.settings.key_places import KeyAccess, key_access, key_path_of
from tentacle.thumbprints import doubts_about

LEAST_INODES: Final = 1000
"""A script needs few, but with so few left the disk is about to be full."""


def instance_probes(instance: ExaminedInstance) -> list[Probe]:
    """What is looked at of the instance itself."""
    probes = [local_probe("configuration", lambda: configuration(instance))]
    if instance.outside is not None:
        probes.append(local_probe("agent", lambda: from_outside(instance)))
    elif instance.config is not None:
        probes.append(local_probe("rights", lambda: rights(instance)))
    if instance.settings is not None:
        probes += [
            local_probe("version", lambda: version(instance)),
            local_probe("certificate", lambda: certificate(instance)),
            local_probe("ciphers", lambda: ciphers(instance)),
            local_probe("trust", lambda: trusted(instance)),
            local_probe("clone", lambda: clone(instance)),
            local_probe("policy", lambda: host_policy(instance)),
            local_probe("disk", lambda: free_space(instance)),
            local_probe("agent", lambda: agent(instance)),
            local_probe("connections", lambda: connections(instance)),
            local_probe("last script", lambda: last_script(instance)),
        ]
    return probes


def configuration(instance: ExaminedInstance) -> Sequence[Finding]:
    """Whether there is an instance, and its configuration can be read."""
    if instance.problem is None:
        return [ok("configuration", f"{instance.config}")]
    if instance.config is None:
        advice = "Set one up with tentacle init, or name one with --instance."
        return [warn("configuration", instance.problem.message, advice)]
    if instance.outside is not None:
        return [warn("configuration", instance.problem.message, instance.problem.hint or "Run this as root.")]
    advice = "Run this as the user of the agent, or as root; if that is no help: is the file still there?"
    return [fail("configuration", instance.problem.message, instance.problem.hint or advice)]


def host_policy(instance: ExaminedInstance) -> list[Finding]:
    """What the host allows servers to do."""
    policy = instance.policy
    if policy is None or policy.source is None:
        return [ok("policy", "no policy file: servers that are trusted may do everything that the agent's user may")]
    if policy.problem:
        advice = f"Correct {policy.source}, or remove it; a running agent takes that up at once."
        return [fail("policy", f"nothing new is allowed: {policy.problem}", advice)]
    found = f"{policy.source}: {'; '.join(policy.lines())}"
    with suppress(OSError):
        if policy.source.stat().st_uid != 0 or policy.source.parent.stat().st_uid != 0:
            advice = "Scripts that run as the agent's user can change it: let root own it, in a directory of root's."
            return [warn("policy", found, advice)]
    return [ok("policy", found)]


def rights(instance: ExaminedInstance) -> list[Finding]:
    """Who may read the secrets, and whether we may write what an agent writes."""
    assert instance.config is not None, "nothing is known of the rights of a file that is not named"
    found: list[Finding] = []
    owners: dict[Path, int] = {}
    key = key_path_of(instance.config)
    for path in (instance.config, key, origin_path_of(instance.config)):
        status = _status(path)
        if status is None or not stat.S_ISREG(status.st_mode):
            continue
        if path == key and key_access(instance.config) is not KeyAccess.USER:
            found.append(ok("rights", f"systemd hands the key of the secrets to the agent alone; root's is {path}"))
        else:
            owners[path] = status.st_uid
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077:
            text = f"{path} can be read by others (mode {mode:04o})"
            again = f"tentacle new-certificate{instance.option}"
            found.append(fail("rights", text, f"chmod 600 {shlex.quote(str(path))}; if others could see it: {again}"))
    if instance.home is not None:
        found += _home_rights(instance.home, owners)
        running = instance.agent
        if running and running.user and (said := foreign_place(instance.home, running.user)):
            found.append(warn("rights", said, "Run the agent as that user, or give the directory to root"))
    user = user_name(os.geteuid())
    if all(one.level is Level.OK for one in found):
        found.append(ok("rights", f"secrets are private, and {user} may write the home and the log"))
    return found


def _is_read_only(path: Path) -> bool:
    """Whether the file system of `path`, or what is mounted there of it, can only be read."""
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _home_rights(home: Path, owners: dict[Path, int]) -> Iterator[Finding]:
    """`owners` are those of the files beside the configuration."""
    status = _status(home)
    if status is None:
        yield fail("rights", f"the home directory {home} does not exist", f"mkdir -m 700 '{home}'")
        return
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o022 and not mode & stat.S_ISVTX:
        yield fail("rights", f"others may write to {home} (mode {mode:04o})", f"chmod go-w '{home}'")
    user = user_name(os.geteuid())
    for path in (home, home / WORK, home / LOGS, home / LOGS / LOG_FILE):
        status = _status(path)
        if status is None:
            continue
        if path != home or not mode & stat.S_ISVTX:
            # A sticky home also holds the register of instances, and is root's on purpose.
            owners[path] = status.st_uid
        if _is_read_only(path):
            advice = f"Mount it for writing: findmnt --target '{path}' names what is mounted there."
            yield fail("rights", f"{path} lies on a file system that is read-only", advice)
        elif not os.access(path, os.W_OK):
            yield fail(
                "rights",
                f"{user} may not write {path}, which belongs to {user_name(status.st_uid)}",
                f"Run this as the user of the agent, or: chown {user} '{path}'",
            )
    if len(set(owners.values())) > 1:
        by_owner = sorted({user_name(uid): path for path, uid in owners.items()}.items())
        text = ", ".join(f"{path} belongs to {name}" for name, path in by_owner)
        yield warn("rights", text, f"Give all of {home} to the user that runs the agent: chown -R USER '{home}'")


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def certificate(instance: ExaminedInstance) -> Sequence[Finding]:
    """How strong our own certificate is and how long it is valid."""
    stored = instance.certificate
    if stored is None:
        return [warn("certificate", "there is none yet", f"tentacle new-certificate{instance.option} --if-blank")]
    summary = summary_of_pem(stored.certificate_pem)
    text = f"{summary.thumbprint}, {summary.algorithm}, {summary.key}, valid until {summary.day}"
    weak = weaknesses(stored, datetime.fromtimestamp(instance.now, UTC))
    if weak:
        advice = f"tentacle new-certificate{instance.option}, then register again with --force"
        return [warn("certificate", f"{text}: {'; '.join(f'it {one}' for one in weak)}", advice)]
    return [ok("certificate", text)]


def version(instance: ExaminedInstance) -> Sequence[Finding]:
    """Which version this is, and which one the servers are told."""
    return (
        [ok("version", f"{__version__}; servers are told {instance.state.reported_version}")] if instance.state else []
    )


def ciphers(instance: ExaminedInstance) -> Sequence[Finding]:
    """Whether ciphers are allowed that a scanner would flag."""
    if instance.settings is None or not instance.settings.legacy_ciphers:
        return []
    found = "TLS ciphers without forward secrecy or authenticated encryption are allowed"
    advice = f"When no server needs them: tentacle configure{instance.option} --tls-ciphers=strong"
    return [warn("ciphers", found, advice)]


def trusted(instance: ExaminedInstance) -> Sequence[Finding]:
    """Which thumbprints that are trusted no server can have."""
    servers = instance.settings.servers if instance.settings else ()
    return [
        warn("trust", f"{doubt}: no server can have it", _trust_another(instance, one))
        for one, doubt in doubts_about(server.thumbprint for server in servers).items()
    ]


def _trust_another(instance: ExaminedInstance, thumbprint: str) -> str:
    remove = shlex.quote(f"--remove-trust={thumbprint}")
    return f"tentacle configure{instance.option} {remove} --trust=THUMBPRINT, with the one that the server's pages show"


def clone(instance: ExaminedInstance) -> Sequence[Finding]:
    """Whether another machine or instance has the same certificate: the two would take each other's work."""
    stored = instance.certificate
    if stored is None or instance.config is None:
        return []
    if instance.clones:
        found = f"the same certificate is that of {', '.join(instance.clones)} here: both would take each other's work"
        advice = f"tentacle new-certificate{option_for(instance.clones[0], None)}, and register that one again"
        return [warn("clone", found, advice)]
    first, here = read_origin(instance.config, stored.thumbprint), this_machine(stored.thumbprint)
    if first is None:
        return [ok("clone", "not known on which machine this certificate was first used")]
    remove = f"rm {shlex.quote(str(origin_path_of(instance.config)))}"
    advice = f"If the other one is gone for good: {remove}.  Else: tentacle new-certificate{instance.option}"
    if first.digest and here.digest and first.digest != here.digest:
        found = f"this certificate was first used on another machine, {first.name}; this one is {here.name}"
        return [warn("clone", f"{found}: a clone?  Both would take each other's work", advice)]
    if first.name != here.name:
        found = f"this machine was called {first.name} when its certificate was new, and now {here.name}"
        return [warn("clone", f"{found}: renamed, or a clone with the same machine-id", advice)]
    return [ok("clone", "the certificate was made or installed on this machine")]


def free_space(instance: ExaminedInstance) -> Sequence[Finding]:
    """The free space, compared with what must be free before each script."""
    disk = instance.home and disk_space(instance.home)
    if not disk:
        return []
    inodes = os.statvfs(disk.path)
    text = f"{size(disk.free)} free at {disk.path}"
    advice = f"Make room, e.g. below {instance.home}/Work; see also: du -xsh {instance.home}/*"
    if not disk.enough:
        return [fail("disk", f"{text}: without {size(disk.needed)} no script is started", advice)]
    if inodes.f_files and inodes.f_favail < LEAST_INODES:
        return [fail("disk", f"{text}, but only {inodes.f_favail} files more can be made there", advice)]
    if disk.free < 2 * disk.needed:
        return [warn("disk", f"{text}; without {size(disk.needed)} no script is started", advice)]
    return [ok("disk", f"{text} ({size(disk.needed)} are needed for a script to start)")]


def unmentioned(state: InstanceState, sections: Sequence[ReportSection]) -> Iterator[Finding]:
    """What `status` calls a problem, or notes, and no finding has told: the two never differ."""
    told = {one.check for part in sections for one in part.findings if one.level is not Level.OK}
    for level, remarks in ((fail, state.problems), (warn, state.notes)):
        for remark in remarks:
            if remark.about not in told:
                option = option_for(state.instance, state.config)
                yield level(remark.about, remark.text, f"See also: tentacle status{option}")
