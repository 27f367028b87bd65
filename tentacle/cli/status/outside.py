"""What a user may see of an instance whose files belong to another user: its service, its process, its heartbeat.

Knows systemd and `/proc`.  Reads and never changes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tentacle import __version__
from tentacle.cli.frame.session import InstanceOptions
from tentacle.cli.frame.style import Style, columns, iso, moment, span
from tentacle.disk import user_name
from tentacle.errors import TentacleError
from tentacle.home_layout import HEARTBEAT_FILE
from tentacle.late_imports import LateModule
from tentacle.observe.text import visible
from tentacle.records import dataclass
from tentacle.settings.instances import DEFAULT_NAME, Instance, InstanceRegistry

if TYPE_CHECKING:
    from tentacle.cli.status import state_text
    from tentacle.host import systemctl, unit
else:  # nearly everything
    state_text = LateModule("tentacle.cli.status.state_text")
    systemctl = LateModule("tentacle.host.systemctl")
    unit = LateModule("tentacle.host.unit")


_FRESH_SECONDS: Final = 60.0
"""An agent touches its heartbeat every ten seconds."""


@dataclass(frozen=True)
class OutsideView:
    """`service` is None where systemd knows none, `pid` 0 where no process is seen; `heartbeat` is its age in seconds,
    None where it may not be seen either.
    """

    instance: Instance
    service: systemctl.ServiceState | None
    pid: int
    heartbeat: float | None

    @property
    def running(self) -> bool | None:
        """Whether an agent runs; None when nothing that may be seen says so."""
        if self.pid or (self.service is not None and self.service.is_active):
            return True
        if self.heartbeat is not None:
            return self.heartbeat <= _FRESH_SECONDS
        return False if self.service is not None else None


def hidden_instance(registry: InstanceRegistry, where: InstanceOptions, cwd: Path) -> Instance | None:
    """The instance that the options mean, if it is there and this user may not read its configuration."""
    with suppress(TentacleError):
        if (where.instance or "").strip():
            meant = registry.find(where.instance or "")
        elif (where.config or "").strip():
            meant = Instance(None, cwd / (where.config or ""))
        else:
            known = registry.list_all()
            default = [one for one in known if one.name == DEFAULT_NAME] or list(known)
            if len(default) != 1:
                return None
            meant = default[0]
        return meant if is_hidden(meant.config_path) else None
    return None


def is_hidden(path: Path) -> bool:
    """Whether this user may not read `path`, or not even see whether it is there."""
    try:
        path.stat()
    except PermissionError:
        return True
    except OSError:
        return False
    return not os.access(path, os.R_OK)


def outside_view(instance: Instance, now: float, proc: Path = Path("/proc")) -> OutsideView:
    """Looks at everything that everybody may see; `now` in seconds since 1970."""
    service = None
    with suppress(TentacleError):
        if systemctl.BOOTED.is_dir():
            found = systemctl.Systemctl().state(unit.service_name(instance.name))
            service = found if found.is_installed else None
    heartbeat = None
    with suppress(OSError):
        heartbeat = max(now - (instance.config_path.parent / HEARTBEAT_FILE).stat().st_mtime, 0.0)
    pid = (service and service.pid) or next(_agents(instance, proc), 0)
    return OutsideView(instance, service, pid, heartbeat)


def _agents(instance: Instance, proc: Path) -> Iterator[int]:
    """The processes whose command line is that of an agent of the instance."""
    named = {f"instance={instance.name}", f"config={instance.config_path}"} - {"instance=None"}
    with suppress(OSError):
        for entry in (one for one in proc.iterdir() if one.name.isdigit()):
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
                if {"agent", "run"} & set(words) and named & {word.lstrip("-/") for word in words}:
                    yield int(entry.name)


def outside_text(view: OutsideView, style: Style) -> str:
    """The page.  Ends with a newline."""
    name = style.title(visible(view.instance.name or str(view.instance.config_path)))
    state = {
        True: f"{style.good(style.dot)} {name} is {style.good('running')}",
        False: f"{style.faint(style.dot)} {name} is {style.title('not running')}",
        None: f"{style.warn(style.dot)} {name}: not known whether it is running",
    }[view.running]
    rows = [("Configuration", str(view.instance.config_path))]
    if view.service is not None:
        since = f" since {moment(view.service.since.timestamp())}" if view.service.since else ""
        rows.append(("Service", f"{view.service.name}: {view.service.active} ({view.service.detail}){since}"))
        rows += [("It says", view.service.status)] if view.service.status else []
    if view.pid:
        rows.append(("Process", str(view.pid)))
    if view.heartbeat is not None:
        rows.append(("Heartbeat", f"{span(view.heartbeat)} ago"))
    me = user_name(os.geteuid())
    remark = f"{me} may not read this instance: for the rest, run this as root{_or_owner(view)}"
    note = f"  {style.warn('note')}     {state_text.sentence(remark, style)}"
    return "\n".join([state, note, "", *columns(rows, line_width=style.width)]) + "\n"


def _or_owner(view: OutsideView) -> str:
    user = view.service.user if view.service is not None else ""
    if view.pid and not user:
        with suppress(OSError):
            user = user_name(Path(f"/proc/{view.pid}").stat().st_uid)
    return f" or as {user}" if user not in ("", "root") else ""


def outside_document(view: OutsideView) -> dict[str, Any]:
    """The same for programs, under the names of `status` and `service`; what is not known is null."""
    service = view.service
    return {
        "Version": __version__,
        "Instance": view.instance.name,
        "ConfigurationFilePath": str(view.instance.config_path),
        "Complete": False,
        "Healthy": None,
        "Agent": {"Running": view.running, "ProcessId": view.pid or None},
        "HeartbeatAgeSeconds": None if view.heartbeat is None else round(view.heartbeat, 1),
        "Service": service and service.name,
        "Active": service and service.active,
        "State": service and service.detail,
        "Since": iso(service.since.timestamp()) if service and service.since else None,
        "Status": (service and service.status) or None,
    }
