"""`service`: the agent as a service of this machine (docs/spec/command-line.md, "service")."""

from __future__ import annotations

from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import json_option
from tentacle.cli.frame.result import CommandResult, Steps
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.errors import TentacleError
from tentacle.settings.key_places import KeyAccess

ALL = "*"


@command("service")
@option("--start", is_flag=True, help="Start the service if it is not already running")
@option("--stop", is_flag=True, help="Stop the service if it is running")
@option("--restart", is_flag=True, help="Restart the service if it is running")
@option("--reconfigure", is_flag=True, help="Reconfigure the service")
@option("--install", is_flag=True, help="Install the service")
@option(
    "--username",
    "--user",
    "username",
    help="Username to run the service under. Only used when --install or --reconfigure are used. Can also be passed"
    " via an environment variable OCTOPUS_SERVICE_USERNAME. Defaults to 'tentacle', a system user that is created"
    " when it is missing; --reconfigure keeps the user that the service has.",
)
@option("--uninstall", is_flag=True, help="Uninstall the service")
@option(
    "--password",
    sensitive=True,
    expose_value=False,
    help="Password for the username specified with --username. Not needed and ignored on Linux.",
)
@option("--dependOn", "depend_on", help="Services that are to be started first, by name")
@option("--instance", help="Name of the instance to use, or * to use all instances")
@option("--status", is_flag=True, help="Show what the service is doing")
@option(
    "--key",
    values=tuple(KeyAccess),
    help="Who can open the key of the instance's secrets, the certificate's private key among them: user (the user of"
    " the service, and so its scripts), root (systemd hands it to the agent alone) or encrypted (the same, and it is"
    " encrypted for this machine). Goes with --install and --reconfigure. Default: as it is, which is user at first",
)
@json_option
def service(session: CommandSession, *, instance: str | None, **options: bool | str | None) -> Steps:
    """Whatever the order of the options: restart, stop, uninstall, install, reconfigure, start, status.

    A service can outlive its instance, and can then still be stopped, removed and looked at.
    """
    from tentacle.cli.service.control import ServiceControl, ServiceOptions
    from tentacle.host.systemctl import require_systemd

    wanted = ServiceOptions.of(options, session.environ)
    if not (wanted.changes or wanted.status):
        raise TentacleError(
            "Nothing was asked of the service.",
            hint="Use --install, --start, --stop, --restart, --reconfigure, --uninstall or --status.",
        )
    require_systemd(as_root=wanted.changes)
    given = (instance or "").strip()
    if given != ALL:
        control: ServiceControl | None
        try:
            file = session.choose(InstanceOptions(instance, None))
        except TentacleError:
            control = None if wanted.needs_instance else ServiceControl.left_behind(session, given)
            if control is None:
                raise
        else:
            control = ServiceControl(session, session.instance_name, file.path)
        yield from control.carry_out(wanted)
        return CommandResult(document=control.document())
    if wanted.installs or wanted.uninstall:
        raise TentacleError("--instance=* can only be used for --start, --stop, and --restart flags")
    # Every instance gets its turn, also after one that fails.
    services, problems, code = [], [], 0
    for one in session.registry.list_all():
        control = ServiceControl(session, one.name, one.config_path)
        try:
            yield from control.carry_out(wanted)
            services.append(control.document())
        except TentacleError as error:
            problems += [error.message, *([error.hint] if error.hint else [])]
            code = error.exit_code
    return CommandResult(problems=tuple(problems), exit_code=code, document={"Services": services})
