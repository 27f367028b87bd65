"""One instance on this machine: its files and who may read them, its certificate, its room, its agent.

Must not know any server.
"""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tentacle.agent.status import STOPPED
from tentacle.cli.doctor.finding import Finding, Probe, blocking, fail, ok, warn
from tentacle.cli.frame.certificate_text import facts_of_pem
from tentacle.cli.frame.style import moment, size, span
from tentacle.cli.status.state import Agent, agent_of, disk_of, option_for
from tentacle.errors import TentacleError
from tentacle.host.systemctl import BOOTED
from tentacle.observe.startup import user_name
from tentacle.settings.model import Settings
from tentacle.settings.origin import origin_path_of, read_origin, this_machine
from tentacle.settings.store import key_path, linked_file

LEAST_INODES: Final = 1000
"""A script needs a dozen; with so few left the disk is about to be full."""
_UNREADABLE: Final = "Run this as the user of the agent, or as root; if that is no help: is the file still there?"
_LOG_FILE: Final = Path("Logs") / "OctopusTentacle.txt"


@dataclass(frozen=True)
class Patient:
    """The instance as far as it is known: without settings, `problem` says why.  `now` in seconds since 1970.

    `twins` are the names of other instances of this machine that have the same certificate.
    """

    name: str | None = None
    config: Path | None = None
    home: Path | None = None
    settings: Settings | None = None
    problem: TentacleError | None = None
    now: float = 0.0
    twins: tuple[str, ...] = ()

    @property
    def option(self) -> str:
        """What to add to a command so that it means this instance."""
        return option_for(self.name, self.config)


def instance_probes(patient: Patient) -> list[Probe]:
    """What is looked at of the instance itself."""
    probes = [blocking("configuration", lambda: configuration(patient))]
    config, home, settings = patient.config, patient.home, patient.settings
    if config is not None:
        probes.append(blocking("rights", lambda: list(rights(config, home, patient.option))))
    if settings is not None and config is not None and home is not None:
        probes += [
            blocking("certificate", lambda: certificate(patient, settings)),
            blocking("clone", lambda: clone(config, settings, patient.twins, patient.option)),
            blocking("disk", lambda: room(home)),
            blocking("agent", lambda: agent(patient, home)),
        ]
    return probes


def configuration(patient: Patient) -> Sequence[Finding]:
    """Whether there is an instance, and it can be read."""
    if patient.problem is not None:
        if patient.config is None:
            advice = "Set one up with tentacle init, or name one with --instance."
            return [warn("configuration", patient.problem.message, advice)]
        return [fail("configuration", patient.problem.message, patient.problem.hint or _UNREADABLE)]
    return [ok("configuration", f"{patient.config}")]


def rights(config: Path, home: Path | None, option: str = "") -> Iterator[Finding]:
    """Who may read the secrets, and whether we may write what an agent writes."""
    owners = {}
    wrong = []
    for path in (config, key_path(config), origin_path_of(linked_file(config))):
        status = _status(path)
        if status is None or not stat.S_ISREG(status.st_mode):
            continue
        owners[path] = status.st_uid
        if stat.S_IMODE(status.st_mode) & 0o077:
            wrong.append(path)
            found = f"{path} can be read by others (mode {stat.S_IMODE(status.st_mode):04o})"
            again = f"tentacle new-certificate{option}"
            yield fail("rights", found, f"chmod 600 {shlex.quote(str(path))}; if others could see it: {again}")
    if home is not None:
        found_wrong = list(_home_rights(home, owners))
        yield from found_wrong
        wrong += [home] * len(found_wrong)
    if not wrong:
        yield ok("rights", f"secrets are private, and {user_name()} may write the home and the log")


def _home_rights(home: Path, owners: dict[Path, int]) -> Iterator[Finding]:
    status = _status(home)
    if status is None:
        yield fail("rights", f"the home directory {home} does not exist", f"mkdir -m 700 '{home}'")
        return
    if not status.st_mode & stat.S_ISVTX:
        # Else it also holds the register of instances, and is root's on purpose.
        owners[home] = status.st_uid
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o022 and not mode & stat.S_ISVTX:
        yield fail("rights", f"others may write to {home} (mode {mode:04o})", f"chmod go-w '{home}'")
    for path in (home, home / "Work", home / "Logs", home / _LOG_FILE):
        found = _status(path)
        if found is None:
            continue
        if path != home:
            owners[path] = found.st_uid
        if not os.access(path, os.W_OK):
            yield fail(
                "rights",
                f"{user_name()} may not write {path}, which belongs to {_name(found.st_uid)}",
                f"Run this as the user of the agent, or: chown {user_name()} '{path}'",
            )
    if len(set(owners.values())) > 1:
        by_owner = sorted({_name(uid): path for path, uid in owners.items()}.items())
        told = ", ".join(f"{path} belongs to {name}" for name, path in by_owner)
        yield warn("rights", told, f"Give all of {home} to the user that runs the agent: chown -R USER '{home}'")


def certificate(patient: Patient, settings: Settings) -> Sequence[Finding]:
    """How strong our own certificate is and how long it holds."""
    if settings.certificate is None:
        return [warn("certificate", "there is none yet", f"tentacle new-certificate{patient.option} --if-blank")]
    facts = facts_of_pem(settings.certificate.certificate_pem)
    told = f"{facts.thumbprint}, {facts.algorithm}, {facts.key}, valid until {facts.day}"
    weak = facts.weaknesses(patient.now)
    if weak:
        advice = f"tentacle new-certificate{patient.option}, then register again with --force"
        return [warn("certificate", f"{told}: {'; '.join(weak)}", advice)]
    return [ok("certificate", told)]


def clone(config: Path, settings: Settings, twins: Sequence[str] = (), option: str = "") -> Sequence[Finding]:
    """Whether the identity was made on this machine, and is had once.  Two agents with one take each other's work."""
    if settings.certificate is None:
        return []
    if twins:
        found = f"the same certificate is that of {', '.join(twins)} here: both would take each other's work"
        advice = f"tentacle new-certificate{option_for(twins[0], None)}, and register that one again"
        return [warn("clone", found, advice)]
    thumbprint = settings.certificate.thumbprint
    file = linked_file(config)
    first, here = read_origin(file, thumbprint), this_machine(thumbprint)
    if first is None:
        return [ok("clone", "not known on which machine this certificate was first used")]
    gone = f"rm {shlex.quote(str(origin_path_of(file)))}"
    accept = f"If the other one is gone for good: {gone}.  Else: tentacle new-certificate{option}"
    if first.digest and here.digest and first.digest != here.digest:
        found = f"this certificate was first used on another machine, {first.name}; this one is {here.name}"
        return [warn("clone", f"{found}: a clone?  Both would take each other's work", accept)]
    if first.name != here.name:
        found = f"this machine was called {first.name} when its certificate was new, and now {here.name}"
        return [warn("clone", f"{found}: renamed, or a clone with the same machine-id", accept)]
    return [ok("clone", "the certificate was made or installed on this machine")]


def room(home: Path) -> Sequence[Finding]:
    """The free space against what is asked for before each script."""
    disk = disk_of(home)
    if disk is None:
        return []
    inodes = os.statvfs(disk.path)
    told = f"{size(disk.free)} free at {disk.path}"
    advice = f"Make room, e.g. below {home / 'Work'}; see also: du -xsh {home}/*"
    if disk.free < disk.needed:
        return [fail("disk", f"{told}: without {size(disk.needed)} no script is started", advice)]
    if inodes.f_files and inodes.f_favail < LEAST_INODES:
        return [fail("disk", f"{told}, but only {inodes.f_favail} files more can be made there", advice)]
    if disk.free < 2 * disk.needed:
        return [warn("disk", f"{told}; without {size(disk.needed)} no script is started", advice)]
    return [ok("disk", f"{told} ({size(disk.needed)} are needed for a script to start)")]


def agent(patient: Patient, home: Path) -> Sequence[Finding]:
    """Whether an agent runs, and is alive."""
    found = agent_of(home, patient.now)
    start = f"tentacle agent{patient.option}"
    if BOOTED.is_dir() and patient.name:
        start = f"tentacle service{patient.option} --start"
    if found.running is None:
        return [warn("agent", found.problem or "not known", "Run this as the user of the agent, or as root.")]
    if not found.running:
        return [warn("agent", f"it is not running{_last_seen(found)}", start)]
    who = f"process {found.pid}" if found.pid else "a process"
    who += f" as {found.user}" if found.user else ""
    if found.live is None:
        return [
            warn(
                "agent",
                f"{who} has the lock of {home}, but its state is {span(found.age)} old"
                if found.last
                else f"{who} runs",
                f"It has just started, or it hangs: look at {home / _LOG_FILE}",
            )
        ]
    owner = _name(patient.config.stat().st_uid) if patient.config else found.user
    if found.user and found.user != owner:
        told = f"{who} is the agent, but the configuration belongs to {owner}"
        return [warn("agent", told, f"Stop it and start it as {owner}: what it writes now, {owner} may not write.")]
    return [ok("agent", f"running since {moment(found.live.since)} ({who}, version {found.live.version})")]


def _last_seen(found: Agent) -> str:
    if found.last is None:
        return ""
    ended = "was stopped at" if found.last.phase == STOPPED else "was last seen at"
    return f"; it {ended} {moment(found.last.written)}"


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
