"""The machine itself: bash, systemd, Python and its libraries, proxies of the environment.

Knows of an instance only its service.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Final

from OpenSSL import SSL

from tentacle import __version__
from tentacle.cli.doctor.examined import ExaminedInstance
from tentacle.cli.doctor.finding import LIMIT, Finding, Probe, fail, local_probe, ok, warn
from tentacle.disk import user_name
from tentacle.errors import TentacleError
from tentacle.host.shortcomings import shortcomings
from tentacle.host.step_needs import missing_for_steps
from tentacle.host.systemctl import BASH, BOOTED, ServiceState, Systemctl
from tentacle.host.unit import SOCKET_SUFFIX, has_launcher, is_written_by_us, launcher_name, service_name
from tentacle.observe.redaction import MASK
from tentacle.observe.startup import operating_system

LIBRARIES: Final = ("cryptography", "pyOpenSSL", "aiohttp", "pymongo", "click", "PyYAML")
_OLD_BASH: Final = 4
_PROXY_VARIABLES: Final = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")


def machine_probes(instance: ExaminedInstance, environ: Mapping[str, str]) -> list[Probe]:
    """What is looked at whether or not there is an instance."""
    return [
        local_probe("system", system),
        local_probe("python", python),
        local_probe("bash", bash),
        local_probe("systemd", lambda: systemd(instance)),
        local_probe("host", lambda: host(environ)),
        local_probe("steps", lambda: step_needs(environ)),
        local_probe("proxy", lambda: environment_proxies(environ)),
    ]


def system() -> Sequence[Finding]:
    """The system, the user, and our version."""
    user = user_name(os.geteuid())
    return [ok("system", f"{operating_system()}, {platform.machine()}, as {user}; tentacle {__version__}")]


def python() -> Sequence[Finding]:
    """The interpreter and the libraries that matter."""
    found = [f"{platform.python_implementation()} {platform.python_version()}"]
    found += [f"{name} {version}" for name, version in library_versions().items()]
    return [ok("python", ", ".join(found))]


def library_versions() -> dict[str, str]:
    """Versions by name, OpenSSL's among them."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "(unknown)"
    openssl = SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode(errors="replace").split()
    return {**versions, "OpenSSL": openssl[1] if len(openssl) > 1 else "(unknown)"}


def bash(program: Path = BASH) -> Sequence[Finding]:
    """The shell that runs every script."""
    advice = "Install bash: scripts run under /bin/bash and nothing else."
    try:
        done = subprocess.run(
            [program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT, check=False
        )
    except FileNotFoundError:
        return [fail("bash", f"{program} does not exist", advice)]
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = getattr(error, "strerror", None) or "it does not answer"
        return [fail("bash", f"{program} does not work: {reason}", advice)]
    version = re.search(rb"version (\d+)\.([\d.]+)", done.stdout)
    if done.returncode != 0 or version is None:
        return [fail("bash", f"{program} does not say its version (exit code {done.returncode})", advice)]
    text = f"{program} {version[1].decode()}.{version[2].decode().rstrip('.')}"
    if int(version[1]) < _OLD_BASH:
        return [warn("bash", f"{text} is old", "Most scripts expect bash 4 or newer.")]
    return [ok("bash", text)]


def systemd(
    instance: ExaminedInstance, *, booted: Path = BOOTED, systemctl: Systemctl | None = None
) -> Sequence[Finding]:
    """The service of the instance, where there is systemd.

    All instances without a name share one service: it counts when its unit file names the configuration.
    """
    if not booted.is_dir():
        return [ok("systemd", "this system was not booted with systemd; start the agent by other means")]
    if instance.config is None:
        return [ok("systemd", "running")]
    try:
        name = service_name(instance.name)
        state = (systemctl or Systemctl()).state(name)
    except TentacleError as error:
        return [warn("systemd", error.message, error.hint or "systemctl status; journalctl -b -p err")]
    start = f"tentacle service{instance.option} --start"
    if instance.name is None:
        start = f"{f'systemctl reset-failed {name}; ' if state.gave_up else ''}systemctl start {name}"
        if state.unit is None or str(instance.config) not in state.unit.read_text(errors="replace"):
            return [ok("systemd", "running; no service runs this instance, which has no name")]
    elif not state.is_installed and os.geteuid() != 0:
        return [ok("systemd", "running; no service runs this instance, and only root can install one")]
    elif not state.is_installed:
        return [warn("systemd", f"there is no service {name}", f"tentacle service{instance.option} --install --start")]
    found = f"{name}.service is {state.active} ({state.detail}), {state.enabled}, runs as {state.user or 'root'}"
    if state.gave_up:
        found += "; it ended too often right after its start, and systemd starts it no more"
    if state.active == "failed":
        return [fail("systemd", found, f"journalctl -u {name} -n 50; then: {start}")]
    if not state.is_active:
        return [warn("systemd", found, start)]
    launcher = _launcher(instance, state, systemctl or Systemctl())
    if state.restarts:
        return [warn("systemd", f"{found}, restarted {state.restarts} times", f"journalctl -u {name} -n 50"), *launcher]
    return [ok("systemd", found), *launcher]


def _launcher(instance: ExaminedInstance, state: ServiceState, systemctl: Systemctl) -> Sequence[Finding]:
    """What starts the scripts of a service that runs."""
    try:
        text = state.unit.read_text(errors="replace") if state.unit else ""
        if not has_launcher(text):
            alone = "its scripts inherit what its unit allows and forbids, since an earlier version has installed it"
            renew = f"tentacle service{instance.option} --reconfigure --start"
            return [warn("systemd", f"{state.name}: {alone}", renew)] if is_written_by_us(text) else []
        name = launcher_name(state.name)
        found = systemctl.state(name, SOCKET_SUFFIX)
    except (OSError, TentacleError):
        # Told by the look at the service itself.
        return []
    if found.is_active:
        return [ok("systemd", f"{name} starts the scripts, with the ordinary rights of {state.user or 'root'}")]
    restart = f"tentacle service{instance.option} --restart" if instance.name else f"systemctl restart {state.name}"
    again = f"{restart}; if that does not help: journalctl -u {shlex.quote(name)}.service -n 50"
    return [fail("systemd", f"{name}.socket is {found.active} ({found.detail}): no script can be started", again)]


def host(environ: Mapping[str, str]) -> Sequence[Finding]:
    """What the agent works around here, as its log says when it starts."""
    found = [warn("host", one.what.removesuffix("."), one.advice) for one in shortcomings(environ)]
    return found or [ok("host", "nothing is missing that the agent would have to work around")]


def step_needs(environ: Mapping[str, str]) -> Sequence[Finding]:
    """What deployment steps miss here; for a service, with the environment of whoever asks."""
    found = [warn("steps", one.what.removesuffix("."), one.advice) for one in missing_for_steps(environ)]
    return found or [ok("steps", "openssl and all else that Octopus's own steps use is here")]


def environment_proxies(environ: Mapping[str, str]) -> Sequence[Finding]:
    """The proxy variables, without their passwords."""
    given = {name: value for name, value in environ.items() if name.upper() in _PROXY_VARIABLES and value}
    if not given:
        return [ok("proxy", "no proxy variables in the environment")]
    shown = ", ".join(f"{name}={without_userinfo(value)}" for name, value in sorted(given.items()))
    return [ok("proxy", f"in this environment (the service may have another): {shown}")]


def without_userinfo(text: str) -> str:
    """An address, or a list of them, without user names and passwords."""
    return re.sub(r"((?:^|[,\s])(?:[a-z][a-z0-9+.-]*://)?)[^,\s]*@", rf"\1{MASK}@", text, flags=re.IGNORECASE)
