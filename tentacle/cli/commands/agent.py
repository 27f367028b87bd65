"""`agent` (also `run`): the worker itself (tentacle-cli.md 3.18)."""

from __future__ import annotations

import time
from dataclasses import replace

from tentacle.cli.command import command, option
from tentacle.cli.options import instance_options
from tentacle.cli.render import say
from tentacle.cli.result import Result, Steps
from tentacle.cli.session import InstanceOptions, Session
from tentacle.cli.values import whole_number
from tentacle.settings import certificates
from tentacle.settings.model import Settings
from tentacle.settings.store import SettingsFile

LEAST_WAIT_MS = 20
"""A shorter wait is none."""


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
def agent(session: Session, *, where: InstanceOptions, wait: int | None, noninteractive: bool) -> Steps:
    """Blocks until it is told to end; makes a certificate first where there is none."""
    file = session.choose(where)
    if wait is not None and wait >= LEAST_WAIT_MS:
        yield f"Sleeping for {wait}ms..."
        time.sleep(wait / 1000)
    settings = session.overridden(file.load())
    if settings.certificate is None:
        settings = session.overridden(_with_certificate(file))
        if settings.certificate is not None:
            yield "A new certificate has been generated and installed as none were yet available. Thumbprint:"
            yield settings.certificate.thumbprint
    from tentacle.agent.daemon import run_agent

    interactive = not noninteractive
    return Result(exit_code=run_agent(settings, file.path, session.instance_name, emit=say, interactive=interactive))


def _with_certificate(file: SettingsFile) -> Settings:
    """The settings with a certificate of their own; one that another process has just made stays."""
    made = certificates.generate()
    return file.update(lambda settings: settings if settings.certificate else replace(settings, certificate=made))
