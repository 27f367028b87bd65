"""`init`: from nothing to a working worker, by questions or by options.  Not a command of the original."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Final

from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import json_option, together
from tentacle.cli.frame.result import CommandResult, Steps
from tentacle.cli.frame.session import CommandSession
from tentacle.cli.frame.values import port_text
from tentacle.cli.init import steps
from tentacle.cli.init.questions import BACK, Questions
from tentacle.cli.init.setup import MODES, POLLING, InitOptions, Setup, ask_for_setup, is_root, try_usual_port
from tentacle.cli.registration.options import ApiOptions, api_options, extra_api_options, https_option
from tentacle.errors import TentacleError
from tentacle.host.step_needs import missing_for_steps
from tentacle.host.systemctl import BOOTED

NOTES: Final = """\
Sets up a worker: instance, certificate, mode, registration and, if wanted, the
service.  Asks for what is not given; every answer is an option too.  With
--yes, or away from a terminal, nobody is asked.  What is there already is told
and left as it is, so that it may be run again, also after an interruption.
"""


@command("init", notes=NOTES)
@together(
    "options",
    InitOptions,
    option("--instance", help="Name of the instance; the default is Tentacle"),
    option("--config", help="Path of the configuration file, if the instance is new"),
    option(
        "--mode",
        values=MODES,
        help="listening (the server calls this machine) or polling (this machine calls the server)",
    ),
    option("--port", callback=port_text, help="When listening, the TCP port; the default is 10933"),
    option("--app", help="Default directory to deploy applications to"),
    option("--name", help="Name of the worker when registered; the default is the hostname"),
    option("--workerpool", "pools", multiple=True, help="A worker pool by name, slug or Id; may be repeated"),
    option("--space", help="The space to register in; the default is the Default space"),
    option("--policy", help="The name of a machine policy that applies to this worker"),
    option(
        "--publicHostName", "public_host_name", help="When listening, the name by which the server reaches this host"
    ),
    option("--server-comms-address", "comms_address", help="When polling, the address, if not the server's own"),
    option(
        "--server-comms-port",
        "comms_port",
        callback=port_text,
        help="When polling, the server's port; the default is 10943",
    ),
    option(
        "--server-web-socket",
        "web_socket",
        help="When polling, the web socket to poll, eg 'wss://example.com/OctopusComms', instead of a port",
    ),
    option("--no-register", "no_register", is_flag=True, help="Do not register with any server"),
    option("--trust", help="The thumbprint of the Octopus Server to trust, without registering"),
    option("--force", is_flag=True, help="Take over a worker of that name that another machine has registered"),
    option("--service", is_flag=True, help="Install and start the service (systemd)"),
    option("--no-service", "no_service", is_flag=True, help="Leave the service as it is, without a question"),
    option("--service-user", "service_user", help="The user that the service runs as"),
    https_option,
    option("-y", "--yes", "yes", is_flag=True, help="Ask nothing, and take the default for what is not given"),
)
@api_options
@extra_api_options
@json_option
def init(session: CommandSession, *, options: InitOptions, api: ApiOptions) -> Steps:
    """Asks everything first, then does it; each step is one command, shown as it could be typed."""
    process = session.process
    questions = Questions(process.stdin, process.stdout, defaults=options.yes or session.as_json)

    def ask() -> tuple[Setup, bool]:
        questions.tell([f"Answer '{BACK}' to any question to go back to the one before.", ""])
        setup = ask_for_setup(session, questions, options, api)
        questions.tell(["", *_summary(setup), *_warnings(process.environ)])
        return setup, questions.agrees("Go ahead?", default=True)

    setup, decision = questions.all_of(ask)
    if not questions.asks and not options.port:
        try_usual_port(session, setup)
    if not decision:
        return CommandResult(("Nothing was changed.",))
    try:
        yield from steps.try_registration(session, setup, options, api)
    except (TentacleError, KeyboardInterrupt):
        yield "Nothing was changed."
        raise
    changed: dict[str, bool] = {}
    try:
        changed["Instance"] = yield from steps.make_instance(session, setup)
        changed["Certificate"] = yield from steps.make_certificate(session, setup)
        changed["Configuration"] = yield from steps.configure(session, setup)
        changed["Registration"] = yield from steps.register(session, setup, options, api)
        changed["Service"] = yield from steps.start_service(session, setup, options)
    except (TentacleError, KeyboardInterrupt) as error:
        stopped = "Stopped here.  What is done stays done: run it again to go on."
        yield stopped if changed or isinstance(error, KeyboardInterrupt) else "Nothing was changed."
        raise
    instance = f"--instance={setup.instance}"
    if setup.service:
        next_step = f"See how it is: {shlex.join(['tentacle', 'status', instance])}"
    else:
        next_step = f"Start it: {shlex.join(['tentacle', 'agent', instance])}"
        if BOOTED.is_dir() and is_root():
            service = shlex.join(["tentacle", "service", instance, "--install", "--start"])
            next_step += f", or as a service: {service}"
    restart = any(changed.values()) and not changed["Service"] and session.agent_has_run
    done = [name for name, was_done in changed.items() if was_done]
    # A person has seen them before "Go ahead?".
    notes = [] if questions.asks else _warnings(process.environ)
    return CommandResult(
        (*notes, f"Done.  {next_step}"),
        restart=restart,
        document={"Changed": done},
    )


def _warnings(environ: Mapping[str, str]) -> list[str]:
    """What steps will miss here: nobody looks for it when the first deployment has gone wrong without a word."""
    return [f"  note: {one.what} {one.advice}" for one in missing_for_steps(environ)]


def _summary(setup: Setup) -> list[str]:
    where = f" on port {setup.port}" if setup.mode != POLLING else ""
    lines = [
        "This will be set up:",
        f"  instance      {setup.instance} ({setup.config})",
        f"  mode          {setup.mode}{where}",
        f"  applications  {setup.app}",
    ]
    if setup.registration is not None:
        wanted = setup.registration
        lines.append(f"  registration  worker '{wanted.name}' in {', '.join(wanted.pools)} at {wanted.server}")
    if setup.trust:
        lines.append(f"  trust         {setup.trust}")
    return [*lines, f"  service       {'yes' if setup.service else 'no'}", ""]
