"""The unit file of an instance: its name and its text.  Pure, but for the template that is read.

Knows how systemd quotes (systemd.syntax(7), systemd.service(5)).  Must not know systemctl, users or instances.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Final

from tentacle.host.errors import HostError

DESCRIPTION: Final = "Octopus Deploy: Tentacle deployment agent"
"""The same in the original's units, which are taken over (docs/spec/command-line.md, "Unit file")."""
SUFFIX: Final = ".service"
_UNNAMED: Final = "OctopusDeploy Tentacle"
_LONGEST_NAME: Final = 255
_TEMPLATE: Final = "tentacle.service"
_PLAIN: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:_.-")
_UNIT_TYPES: Final = ("service", "target", "socket", "mount", "automount", "path", "timer", "device", "slice", "scope")


@dataclass(frozen=True)
class UnitSettings:
    """What one unit runs: `command` is a program's absolute path and its arguments, `after` are full unit names.

    `systemd` is the version that reads it, 0 when that is not known.
    """

    name: str
    user: str
    command: tuple[str, ...]
    after: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    systemd: int = 0


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
    if len(escaped + SUFFIX) > _LONGEST_NAME:
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


def unit_text(settings: UnitSettings) -> str:
    """The text of the unit file.  Raises `HostError` for a program without an absolute path."""
    program, *arguments = settings.command
    if not program.startswith("/"):
        raise HostError(f"'{program}' is not the absolute path of a program.")
    after = "".join(f" {unit}" for unit in settings.after)
    values = {
        "UNIT": settings.name + SUFFIX,
        "WANTS": after,
        "AFTER": after,
        "USER": settings.user.replace("%", "%%"),
        "ENVIRONMENT": environment_text(settings.environment),
        # The path of the program is the one word in which systemd does not look for variables.
        "PROGRAM": program.replace("%", "%%"),
        "COMMAND": " ".join([quoted(program), *map(argument, arguments)]),
    }
    text = re.sub(
        r"^@(SINCE|BEFORE)(\d+)@(.*\n)",
        lambda line: line[3] if (settings.systemd >= int(line[2])) == (line[1] == "SINCE") else "",
        read_template(),
        flags=re.MULTILINE,
    )
    if not values["ENVIRONMENT"]:
        text = text.replace("@ENVIRONMENT@\n", "")
    return re.sub(r"@([A-Z]+)@", lambda match: values[match[1]], text)


def read_template() -> str:
    """The template that is installed with this package; `packaging/` shows the same file."""
    return files("tentacle.host").joinpath(_TEMPLATE).read_text(encoding="utf-8")


def environment_text(environment: Mapping[str, str]) -> str:
    """The lines that set variables, sorted."""
    return "\n".join(f"Environment={quoted(f'{name}={value}')}" for name, value in sorted(environment.items()))


def environment_of(text: str) -> str:
    """The lines of a unit file that set variables."""
    return "\n".join(line for line in text.splitlines() if line.startswith("Environment="))


def argument(word: str) -> str:
    """An argument of a unit's command, in which systemd looks for variables."""
    return quoted(word).replace("$", "$$")


def quoted(word: str) -> str:
    """`word` written so that systemd reads it back unchanged; in quotes only where it needs them."""
    special = {'"': '\\"', "\\": "\\\\", "%": "%%"}
    escaped = "".join(special.get(c) or (c if c.isprintable() else _hex(c)) for c in word)
    return escaped if escaped and re.fullmatch(r"[\w=:/.,@+%~-]+", escaped, re.ASCII) else f'"{escaped}"'


def is_ours(text: str) -> bool:
    """Whether a unit file runs an agent: this one or the original."""
    return any(line.strip() == f"Description={DESCRIPTION}" for line in text.splitlines())


def user_of(text: str) -> str | None:
    """The user that a unit file names; `None` when it names none."""
    found = re.findall(r"^User=(.+)$", text, re.MULTILINE)
    return found[-1].strip().replace("%%", "%") if found else None


def unit_path(directory: Path, name: str) -> Path:
    """The path of the unit `name`.  Raises `HostError` for a name that leads out of `directory`."""
    path = directory / (name + SUFFIX)
    if path.parent != directory or "\0" in name:
        raise HostError(f"'{name:.80}' is not the name of a service.")
    return path


def _hex(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))
