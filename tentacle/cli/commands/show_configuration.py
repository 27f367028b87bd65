"""`show-configuration`: the settings as JSON, and what a server knows of this machine (docs/spec/command-line.md,
"show-configuration").
"""

from __future__ import annotations

import asyncio
from typing import Any

from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import in_order, instance_options, json_option
from tentacle.cli.frame.output_file import write_public
from tentacle.cli.frame.result import CommandResult
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.cli.frame.style import document_text
from tentacle.cli.registration.credentials import Access, optional_access
from tentacle.cli.registration.options import ApiOptions, api_options, extra_api_options
from tentacle.cli.registration.server_access import route_when_registered
from tentacle.cli.registration.server_view import Unknown, server_view
from tentacle.disk import make_directories
from tentacle.errors import TentacleError
from tentacle.settings.model import Settings
from tentacle.settings.show import configuration_document


@command("show-configuration", quiet=True)
@instance_options
@in_order(
    option("--file", help="Exports the server configuration to a file. If not specified output goes to the console"),
    option(
        "--space",
        help="The space from which the server data configuration will be retrieved for, - e.g. 'Finance Department'"
        " where Finance Department is the name of an existing space; the default value is the Default space, if one is"
        " designated.",
    ),
)
@api_options
@extra_api_options
@json_option
def show_configuration(
    session: CommandSession, *, where: InstanceOptions, file: str | None, space: str | None, api: ApiOptions
) -> CommandResult:
    """Secrets and proxies are no part of it; a machine that the server does not know is told, and no failure."""
    access = optional_access(session, api)
    settings_file = session.choose(where)
    settings = session.overridden(settings_file.load())
    document = configuration_document(settings, settings_file.path)
    problems: tuple[str, ...] = ()
    if access is not None:
        try:
            document = _merged(document, _ask_server(settings, api, access, space))
        except Unknown as unknown:
            problems = (unknown.message,)
    text = document_text(document)
    if not file:
        return CommandResult(data=f"{text}\n", problems=problems)
    path = session.path(file)
    make_directories(path.parent)
    write_public(path, text.encode("utf-8", errors="backslashreplace"))
    return CommandResult(problems=problems)


def _ask_server(settings: Settings, api: ApiOptions, access: Access, space: str | None) -> dict[str, Any]:
    if settings.certificate is None:
        raise TentacleError(
            "No certificate has been generated for this Tentacle. Unable to display configuration.",
            hint="Make one with 'Tentacle new-certificate'.",
        )
    client = route_when_registered(access.server, api, settings).client(access.credentials)
    return asyncio.run(server_view(client, settings.certificate.thumbprint, space or None))


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Both trees in one, keys in ordinal order at each level."""
    both = dict(one)
    for key, value in other.items():
        known = both.get(key)
        both[key] = _merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return dict(sorted(both.items()))
