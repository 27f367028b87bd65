"""`set-polling-connection-count`: the same as `configure --pollingConnectionCount` (docs/spec/command-line.md,
"set-polling-connection-count").
"""

from __future__ import annotations

from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import instance_options, json_option
from tentacle.cli.frame.result import CommandResult
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.settings.keys import KEYS

COUNT = KEYS["polling-connection-count"]


@command("set-polling-connection-count")
@instance_options
@option(*COUNT.options, "given", help=COUNT.help)
@json_option
def set_polling_connection_count(
    session: CommandSession, *, where: InstanceOptions, given: str | None
) -> CommandResult:
    """The count must be a whole number above 0."""
    file = session.choose(where)
    count = COUNT.check(given or "")
    file.update(lambda settings: COUNT.put(settings, count))
    return CommandResult((COUNT.line(count),), restart=True, document={"PollingConnectionCount": count})
