"""The unit files of an instance: their names and their texts.  Pure, but for the templates that are read.

The agent has one, with the instance's name; what starts its scripts has two, a service and its socket, with `@scripts`
added, which no instance's name can hold.

Knows how systemd quotes (systemd.syntax(7), systemd.service(5)).  Must not know systemctl, users or instances.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Final

from tentacle.host.errors import HostError
from tentacle.host.launcher import LAUNCHER_COMMAND, LAUNCHER_VARIABLE
from tentacle.records import dataclass

DESCRIPTION: Final = "Octopus Deploy: Tentacle deployment agent"
"""The same in the original's units, which are taken over (docs/spec/command-line.md, "Unit file")."""
SUFFIX: Final = ".service"
SOCKET_SUFFIX: Final = ".socket"
LAUNCHER_DESCRIPTION: Final = "Octopus Deploy: what starts the scripts of a Tentacle agent"
_LAUNCHER: Final = "@scripts"
_SOCKETS: Final = "/run/tentacle"
_LONGEST_SOCKET: Final = 64
_UNNAMED: Final = "OctopusDeploy Tentacle"
_LONGEST_NAME: Final = 255
TEMPLATES: Final = ("tentacle.service", "launcher.service", "launcher.socket")
_PRIVILEGED_PORTS: Final = 1024
_CLOSED: Final = ("/usr", "/boot", "/efi")
"""What `ProtectSystem=yes` makes read-only (systemd.exec(5))."""
_LOCAL: Final = "-/usr/local"
"""Belongs to the machine's owner, and not to the system."""
_PLAIN: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:_.-")
_UNIT_TYPES: Final = ("service", "target", "socket", "mount", "automount", "path", "timer", "device", "slice", "scope")


@dataclass(frozen=True)
class UnitSettings:
    """What one unit runs: `command` is a program's absolute path and its arguments, `after` are full unit names.

    `port` is the one that the agent opens, if it does; `written` are directories of the instance, which it writes.
    `systemd` is the version that reads it, 0 when that is not known.  `credential` is the directive, and its value,
    that has systemd hand a secret to the agent; other processes of the user, whose number is `uid`, cannot get at it.
    """

    name: str
    user: str
    command: tuple[str, ...]
    after: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int | None = None
    written: tuple[Path, ...] = ()
    systemd: int = 0
    credential: tuple[str, str] | None = None
    uid: int | None = None

    @property
    def is_root(self) -> bool:
        return self.user in ("root", "0")


def service_name(instance: str | None) -> str:
    """The unit's name, without `.service`, of an instance, or of one without a name (docs/spec/command-line.md,
    "Unit file").

    Slashes are dropped, blanks become dashes.  What systemd does not allow in a name, and a dot in front, is written as
    `\\xNN`, as `systemd-escape` does.  Raises `HostError` when the result is empty or too long.
    """
    name = re.sub(r"\s+", "-", (_UNNAMED if instance is None else instance).strip()).replace("/", "")
    escaped = "".join(c if c in _PLAIN else _hex(c) for c in name)
    if escaped.startswith("."):
        escaped = _hex(".") + escaped[1:]
    if not escaped:
        raise HostError(f"No service can be named after the instance {instance!r:.80}.")
    if len(escaped + _LAUNCHER + SUFFIX) > _LONGEST_NAME:
        raise HostError(f"The instance name '{instance:.40}...' is too long for the name of a service.")
    return escaped


def dependencies(text: str) -> tuple[str, ...]:
    """Splits what somebody typed, e.g. `postgresql nginx.service`, into full unit names.  Raises `HostError`."""
    found = []
    for word in text.replace(",", " ").split():
        if not re.fullmatch(r"[A-Za-z0-9:_.\\@-]{1,200}", word):
            raise HostError(f"'{word:.80}' is not the name of a service to depend on.")
        found.append(word if word.rpartition(".")[2] in _UNIT_TYPES else word + SUFFIX)
    return tuple(found)


def launcher_name(name: str) -> str:
    """The name, without `.service` or `.socket`, of what starts the scripts of the service `name`."""
    return name + _LAUNCHER


def launcher_socket(name: str) -> str:
    """The path of the socket on which that is asked; short, since the system allows no more than 107 characters."""
    plain = len(name) <= _LONGEST_SOCKET and _PLAIN.issuperset(name)
    return f"{_SOCKETS}/{name if plain else hashlib.sha256(os.fsencode(name)).hexdigest()}.sock"


def unit_texts(settings: UnitSettings) -> Mapping[str, str]:
    """The texts of the unit files by their names.  Raises `HostError` for a program without an absolute path."""
    program = settings.command[0]
    if not program.startswith("/"):
        raise HostError(f"'{program}' is not the absolute path of a program.")
    launcher = launcher_name(settings.name)
    after = "".join(f" {unit}" for unit in settings.after)
    common = {
        "AGENT": settings.name + SUFFIX,
        "SOCKET": launcher + SOCKET_SUFFIX,
        "STARTER": launcher + SUFFIX,
        "USER": settings.user.replace("%", "%%"),
        # The path of the program is the one word in which systemd does not look for variables.
        "PROGRAM": program.replace("%", "%%"),
    }
    capabilities = ["CAP_NET_BIND_SERVICE"] if 0 < (settings.port or 0) < _PRIVILEGED_PORTS else []
    if settings.credential is not None:
        # Processes that lack it cannot look into one that has it, though they have the same user (ptrace(2)); this one
        # is of no use without a terminal.
        capabilities.append("CAP_SYS_TTY_CONFIG")
    agent = {
        **common,
        "UNIT": settings.name + SUFFIX,
        "WANTS": after,
        "AFTER": after,
        "ENVIRONMENT": environment_text(settings.environment),
        "LAUNCHER": quoted(f"{LAUNCHER_VARIABLE}={launcher_socket(settings.name)}"),
        "COMMAND": _command(settings.command),
        "CAPABILITIES": " ".join(capabilities),
        "CREDENTIAL": "{}={}".format(*map(quoted, settings.credential)) if settings.credential else "",
        "WRITABLE": " ".join((_LOCAL, *(quoted(f"-{path}") for path in settings.written if _is_closed(path)))),
    }
    starts = {**common, "COMMAND": _command((program, LAUNCHER_COMMAND)), "ADDRESS": launcher_socket(settings.name)}
    starts["UID"] = "" if settings.uid is None else str(settings.uid)
    names = (settings.name + SUFFIX, launcher + SUFFIX, launcher + SOCKET_SUFFIX)
    values = (agent, {**starts, "UNIT": names[1]}, {**starts, "UNIT": names[2]})
    filled = zip(names, TEMPLATES, values, strict=True)
    return {name: _filled(read_template(template), settings, value) for name, template, value in filled}


def _filled(template: str, settings: UnitSettings, values: Mapping[str, str]) -> str:
    def kept(line: re.Match[str]) -> str:
        if line[1] in ("USERS", "KEY", "BARRED"):
            wanted = {"USERS": not settings.is_root, "KEY": settings.credential is not None}
            wanted["BARRED"] = all(wanted.values())
            return line[3] if wanted[line[1]] else ""
        return line[3] if (settings.systemd >= int(line[2])) == (line[1] == "SINCE") else ""

    text = re.sub(r"^@(SINCE|BEFORE|USERS|KEY|BARRED)(\d*)@(.*\n)", kept, template, flags=re.MULTILINE)
    if not values.get("ENVIRONMENT"):
        text = text.replace("@ENVIRONMENT@\n", "")
    return re.sub(r"@([A-Z]+)@", lambda match: values[match[1]], text)


def _command(words: tuple[str, ...]) -> str:
    return " ".join([quoted(words[0]), *map(argument, words[1:])])


def _is_closed(path: Path) -> bool:
    return any(path.is_relative_to(closed) for closed in _CLOSED)


def read_template(name: str) -> str:
    """A template that is installed with this package; `packaging/` shows the same file."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def environment_text(environment: Mapping[str, str]) -> str:
    """The lines that set variables, sorted."""
    return "\n".join(f"Environment={quoted(f'{name}={value}')}" for name, value in sorted(environment.items()))


def environment_of(text: str) -> str:
    """The lines of a unit file that set variables, but for the one that names the launcher."""
    lines = (line for line in text.splitlines() if line.startswith("Environment="))
    return "\n".join(line for line in lines if LAUNCHER_VARIABLE not in line)


def is_written_by_us(text: str) -> bool:
    """Whether `tentacle service` has written a unit file."""
    return text.startswith('# Written by "tentacle service"')


def has_launcher(text: str) -> bool:
    """Whether the scripts of an agent's unit are started by another one; not so before version 0.2."""
    return f"Environment={LAUNCHER_VARIABLE}=" in text.replace('"', "")


def argument(word: str) -> str:
    """An argument of a unit's command, in which systemd looks for variables."""
    return quoted(word).replace("$", "$$")


def quoted(word: str) -> str:
    """`word` written so that systemd reads it back unchanged; in quotes only where it needs them."""
    special = {'"': '\\"', "\\": "\\\\", "%": "%%"}
    escaped = "".join(special.get(c) or (c if c.isprintable() else _hex(c)) for c in word)
    return escaped if escaped and re.fullmatch(r"[\w=:/.,@+%~-]+", escaped, re.ASCII) else f'"{escaped}"'


def is_ours(text: str) -> bool:
    """Whether a unit file runs an agent, this one or the original, or is what starts the scripts of this one."""
    ours = (f"Description={DESCRIPTION}", f"Description={LAUNCHER_DESCRIPTION}")
    return any(line.strip() in ours for line in text.splitlines())


def user_of(text: str) -> str | None:
    """The user that a unit file names; `None` when it names none."""
    found = re.findall(r"^User=(.+)$", text, re.MULTILINE)
    return found[-1].strip().replace("%%", "%") if found else None


def unit_path(directory: Path, name: str, suffix: str = SUFFIX) -> Path:
    """The path of the unit `name`.  Raises `HostError` for a name that leads out of `directory`."""
    path = directory / (name + suffix)
    if path.parent != directory or "\0" in name:
        raise HostError(f"'{name:.80}' is not the name of a service.")
    return path


def _hex(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))
