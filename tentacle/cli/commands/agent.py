"""`agent` (also `run`): the worker itself (docs/spec/command-line.md, "agent")."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tentacle.cli.frame.command import command, name_of, option, order_given
from tentacle.cli.frame.options import instance_options
from tentacle.cli.frame.render import say
from tentacle.cli.frame.result import CommandResult, Steps
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.cli.frame.values import file_path, whole_number
from tentacle.cli.registration.options import (
    ApiOptions,
    RegisterOptions,
    api_options,
    extra_api_options,
    register_options,
)
from tentacle.errors import TentacleError
from tentacle.late_imports import LateModule
from tentacle.settings import certificates
from tentacle.settings.environment_switch import is_enabled
from tentacle.settings.model import Settings, resolved_home

if TYPE_CHECKING:
    from tentacle.cli.frame import certificate_check
    from tentacle.cli.registration import ephemeral as ephemeral_run
    from tentacle.cli.status import state, state_text
else:  # which an agent of an installed instance may never need
    certificate_check = LateModule("tentacle.cli.frame.certificate_check")
    ephemeral_run = LateModule("tentacle.cli.registration.ephemeral")
    state = LateModule("tentacle.cli.status.state")
    state_text = LateModule("tentacle.cli.status.state_text")

LEAST_WAIT_MS: Final = 20
"""A shorter `--wait` is ignored, as in the original."""


@command("agent")
@instance_options
@option("--wait", type=str, callback=whole_number, help="Delay (ms) before starting")
@option(
    "--console",
    is_flag=True,
    expose_value=False,
    help="Don't attempt to run as a service, even if the user is non-interactive",
)
@option("--noninteractive", is_flag=True, hidden=True)
@option(
    "--ephemeral",
    is_flag=True,
    help="Be a worker for as long as this runs: register at the start, deregister at the end, and keep secrets and"
    " trust in memory alone; the options below say where and how, and the default --name is the hostname with the first"
    " digits of the thumbprint",
)
@option(
    "--trace-wire",
    callback=file_path,
    help="Writes what is said on the wire to this file, without secrets, to look for a fault",
)
@option("--workerpool", "pools", multiple=True, help="With --ephemeral: the worker pools, by name, slug or Id")
@register_options
@api_options
@extra_api_options
def agent(
    session: CommandSession,
    *,
    where: InstanceOptions,
    wait: int | None,
    noninteractive: bool,
    ephemeral: bool,
    trace_wire: str | None,
    pools: tuple[str, ...],
    registering: RegisterOptions,
    api: ApiOptions,
) -> Steps:
    """Runs until a signal ends it; makes a certificate first where there is none."""
    if ephemeral:
        access, role = ephemeral_run.access_and_role(session, api, pools)
        file = ephemeral_run.choose_or_make(session, where, access, api, registering, role)
    else:
        _refuse_registration_options()
        file = session.choose(where)
    session.log_as_agent()
    if wait is not None and wait >= LEAST_WAIT_MS:
        yield f"Sleeping for {wait}ms..."
        time.sleep(wait / 1000)

    def load() -> Settings:
        return session.overridden(file.load())

    def run(settings: Settings, reload: Callable[[], Settings]) -> int:
        from tentacle.agent.daemon import run_agent

        # A container's standard input is at its end from the start.
        interactive = not (noninteractive or api.from_stdin or (ephemeral and not session.process.stdin.isatty()))
        return run_agent(
            settings,
            file.path,
            session.instance_name,
            emit=say,
            interactive=interactive,
            is_last=ephemeral,
            reload=reload,
            redactor=session.redactor,
            levels=session.levels,
            wire_trace=None if trace_wire is None else session.path(trace_wire),
            document=lambda: _status(session, file.path, load()),
        )

    overriding = load().certificate if is_enabled(session.environ) else None
    if overriding is not None and overriding != file.load().certificate:
        certificate_check.require_usable_by_tls(overriding)  # one of the configuration was checked when it was imported
    if ephemeral:
        return ephemeral_run.run_ephemeral(session, load, access, api, registering, role, run)
    settings = load()
    if settings.certificate is None:
        made = certificates.generate()
        # One that another process has just made stays.
        settings = session.overridden(file.update(lambda s: s if s.certificate else replace(s, certificate=made)))
        if settings.certificate is not None:
            yield "A new certificate has been generated and installed as none were yet available. Thumbprint:"
            yield settings.certificate.thumbprint
    return CommandResult(exit_code=run(settings, load))


def _status(session: CommandSession, config: Path, settings: Settings) -> Mapping[str, Any]:
    """What `status --format=json` says."""
    home, now = resolved_home(settings, config), session.process.clock()
    found = state.instance_state(session.instance_name, config, home, settings, session.environ, now)
    return state_text.state_document(found)


def _refuse_registration_options() -> None:
    ordinary = {"instance", "config", "wait", "console", "noninteractive", "trace_wire"}
    others = [name for name in order_given() if name not in ordinary]
    if others:
        raise TentacleError(
            "The options of registration go with --ephemeral only.",
            hint="Add it, or register this machine for good with 'Tentacle register-worker'.  "
            f"Given: {', '.join(map(name_of, others))}",
        )
