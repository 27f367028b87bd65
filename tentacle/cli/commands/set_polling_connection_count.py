"""`set-polling-connection-count`: the same as `configure --pollingConnectionCount` (tentacle-cli.md 3.5)."""

from __future__ import annotations

from dataclasses import replace

from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import facts_option, instance_options
from tentacle.cli.frame.polling_count_option import POLLING_COUNT_HELP, polling_count
from tentacle.cli.frame.result import Result
from tentacle.cli.frame.session import InstanceOptions, Session


@command("set-polling-connection-count")
@instance_options
@option("--pollingConnectionCount", "given", help=POLLING_COUNT_HELP)
@facts_option
def set_polling_connection_count(session: Session, *, where: InstanceOptions, given: str | None) -> Result:
    """The count must be a whole number above 0."""
    file = session.choose(where)
    count = polling_count(given)
    file.update(lambda settings: replace(settings, polling_connection_count=count))
    facts = {"PollingConnectionCount": count}
    return Result((f"Polling connection count set to: {count}",), restart=True, facts=facts)
