"""The services of this machine that run agents, each with what starts its scripts: installs, removes, starts and stops
them.

Knows unit files and `systemctl`.  Must not know users, instances or the texts of commands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from tentacle.host.errors import HostError, SystemctlFailed
from tentacle.host.systemctl import ServiceState, Systemctl
from tentacle.host.unit import SOCKET_SUFFIX, SUFFIX, has_launcher, is_ours, launcher_name, unit_path

UNIT_DIRECTORY: Final = Path("/etc/systemd/system")
_LARGEST_UNIT: Final = 256 * 1024


class Services:
    """Unit files in `directory`; `write` must write atomically and so that everybody may read the file."""

    def __init__(self, directory: Path, systemctl: Systemctl, write: Callable[[Path, bytes], None]) -> None:
        self._directory = directory
        self._systemctl = systemctl
        self._write = write

    def state(self, name: str) -> ServiceState:
        """What systemd knows of the service.  Raises `SystemctlFailed`."""
        return self._systemctl.state(name)

    def launcher_state(self, name: str) -> ServiceState | None:
        """The same of what starts the scripts of the service; `None` where its agent does.  Raises `TentacleError`."""
        return self._systemctl.state(launcher_name(name)) if has_launcher(self.text(name) or "") else None

    def version(self) -> int:
        """The version of systemd."""
        return self._systemctl.version()

    def text(self, name: str) -> str | None:
        """The content of the service's unit file; `None` when there is none.  Raises `HostError`."""
        return _read(unit_path(self._directory, name))

    def require_ours(self, name: str) -> None:
        """Raises `HostError` when the service `name` runs something else than Tentacle."""
        found = {*self._paths(name), self.state(name).unit} - {None}
        for path in found:
            text = _read(path) if path else None
            if text is not None and not is_ours(text):
                raise HostError(
                    f"The service '{name}' ({path}) is not one that runs Tentacle; it is left as it is.",
                    hint="Give the instance another name, so that its service gets another one too.",
                )

    def act(self, verb: str, name: str) -> None:
        """`start`, `stop` or `restart`.  Raises `SystemctlFailed`.

        A person who starts a service is not refused because it was started too often before.
        """
        if verb != "stop":
            self._forget_failures(name)
        self._systemctl.act(verb, name)

    def texts(self, name: str) -> Mapping[str, str]:
        """The contents of all unit files of the service that there are, by their names.  Raises `HostError`."""
        found = ((path.name, _read(path)) for path in self._paths(name))
        return {file: text for file, text in found if text is not None}

    def install(self, name: str, texts: Mapping[str, str]) -> Path:
        """Writes the unit files and enables the service; returns the path of its own.  Raises `TentacleError`."""
        # The agent's comes last: without the others it could not start.
        for file, text in sorted(texts.items(), key=lambda one: one[0] == name + SUFFIX):
            self._write(self._directory / file, text.encode())
        self._systemctl.reload()
        self._systemctl.act("enable", name)
        return unit_path(self._directory, name)

    def remove(self, name: str) -> None:
        """Stops the service, which leaves its scripts running, and removes its unit files, if there are any."""
        if self.state(name).is_active:
            self._systemctl.act("stop", name)
        present = [path for path in self._paths(name) if path.exists() or path.is_symlink()]
        if unit_path(self._directory, name) in present:
            self._systemctl.act("disable", name)
        if len(present) > 1:
            self._stop_launcher(name)
        for path in present:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise HostError(f"'{path}' cannot be removed: {error.strerror}") from None
        self._systemctl.reload()
        self._forget_failures(name)

    def drop_ins(self, name: str) -> Path:
        """The directory of what people have added to the unit with `systemctl edit`; it need not exist."""
        return Path(f"{unit_path(self._directory, name)}.d")

    def _paths(self, name: str) -> tuple[Path, ...]:
        launcher = launcher_name(name)
        return (
            unit_path(self._directory, name),
            unit_path(self._directory, launcher),
            unit_path(self._directory, launcher, SOCKET_SUFFIX),
        )

    def _stop_launcher(self, name: str) -> None:
        """It ends with the agent, but may have been started without it."""
        with suppress(SystemctlFailed):
            self._systemctl.act("stop", launcher_name(name), SOCKET_SUFFIX)
        with suppress(SystemctlFailed):
            self._systemctl.act("stop", launcher_name(name))

    def _forget_failures(self, name: str) -> None:
        """Has systemd count a service's starts from 0 again."""
        # This is an error for a service that systemd has not loaded.
        with suppress(SystemctlFailed):
            self._systemctl.act("reset-failed", name)


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST_UNIT).decode(errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HostError(f"'{path}' cannot be read: {error.strerror}") from None
