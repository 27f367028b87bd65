"""What a machine policy may say: every setting acts, and what would not act is refused (docs/spec/rest.md, "Machine
policies").

Knows the shape and its cross-checks; must not know what the settings do.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo, available_timezones

from croniter import croniter

from tentacle.devserver.storage import fields
from tentacle.devserver.storage.fields import Field
from tentacle.devserver.storage.model import Json

MAX_SCRIPT: Final = 2 * 2**20
_BY_CHANCE: Final = re.compile(r"\b[rh]\b", re.IGNORECASE)
"""What `croniter` takes for any number of its own choice."""


def read_script(value: Any) -> str:
    """Scripts keep their blanks and control characters."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a script")
    if len(value) > MAX_SCRIPT:
        raise ValueError(f"must not be longer than {MAX_SCRIPT} characters")
    return value


def next_by_cron(cron: str, zone: str, after: datetime) -> datetime:
    """Returns the first moment after `after` that the expression names, by the clock of the time zone.

    Five fields are those of cron; a sixth, before them, is for seconds, and a seventh, behind them, for years.  Where
    the clock is set back, a time that it shows twice counts twice; where it is set forward, a time that it leaves out
    comes as soon as it can.  Raises `ValueError` when there is no such moment.
    """
    moment = croniter(cron, after.astimezone(ZoneInfo(zone)), second_at_beginning=True).get_next(datetime)
    return moment.astimezone(UTC)


def _cron(value: Any) -> str:
    found: str = fields.text()(value)
    try:
        if _BY_CHANCE.search(found):
            raise ValueError(found)
        next_by_cron(found, "UTC", datetime.now(UTC))
    except ValueError as error:
        raise ValueError("must be a cron expression that comes true, such as '0 0 9 * * MON-FRI'") from error
    return found


_time_zone: Final = fields.checked(
    lambda value: isinstance(value, str) and value in available_timezones(),
    "must be a time zone such as UTC or Europe/Berlin",
)


def _span(name: str, default: str, lowest: float = 0) -> Field:
    """A time span of at least so many seconds."""
    long_enough = fields.checked(
        lambda found: fields.seconds(found) >= lowest, f"must not be shorter than {lowest:g} seconds"
    )
    return Field(name, lambda value: long_enough(fields.time_span(value)), default)


_body: Final = Field("ScriptBody", lambda value: read_script(value) if value else None, None)
_script_policy: Final = fields.document(fields.one_of("RunType", "InheritFromDefault", "Inline"), _body)


def _bash(value: Any) -> Json:
    found = _script_policy(value)
    if (found["RunType"] == "Inline") is not bool(found["ScriptBody"]):
        raise ValueError("must have a ScriptBody with the RunType Inline, and only then")
    return found


def _powershell(value: Any) -> Json:
    if any(_script_policy(value)[name] not in (None, "", "InheritFromDefault") for name in ("RunType", "ScriptBody")):
        raise ValueError("must inherit, without a script: this server checks machines with bash")
    return _INHERITED


_INHERITED: Final[Json] = {"RunType": "InheritFromDefault", "ScriptBody": None}
_health_check: Final = fields.document(
    Field("PowerShellHealthCheckPolicy", _powershell, _INHERITED),
    Field("BashHealthCheckPolicy", _bash, _INHERITED),
    Field("HealthCheckInterval", fields.time_span, "01:00:00", nullable=True),
    Field("HealthCheckCron", lambda value: _cron(value) if value else None, None),
    Field("HealthCheckCronTimezone", _time_zone, "UTC"),
    fields.one_of("HealthCheckType", "RunScript", "OnlyConnectivity"),
)


def _read_health_check(value: Any) -> Json:
    found = _health_check(value)
    if found["HealthCheckCron"]:
        if isinstance(fields.member(value, "HealthCheckInterval"), str):
            raise ValueError("must have a HealthCheckInterval of null when it has a HealthCheckCron")
        found["HealthCheckInterval"] = None
    return found


def _no_account(value: Any) -> None:
    if value:
        raise ValueError("must be null: this server does not update Tentacles")


_UNITS: Final = ("PackageUnit", "VersionUnit")
_retention: Final = fields.document(
    fields.one_of("Strategy", "Default", "Quantities"),
    Field("QuantityOfPackagesToKeep", fields.number(-1, 10_000), None),
    Field("QuantityOfVersionsToKeep", fields.number(0, 10_000), None),
    *(Field(name, fields.choice("Items"), None) for name in _UNITS),
)
_KEPT: Final = {"QuantityOfPackagesToKeep": -1, "QuantityOfVersionsToKeep": 5, **dict.fromkeys(_UNITS, "Items")}
"""What Calamari takes where nothing is said."""


def _read_retention(value: Any) -> Json:
    found = _retention(value)
    if found["Strategy"] == "Quantities":
        return {name: _KEPT[name] if kept is None else kept for name, kept in found.items()}
    if found["QuantityOfPackagesToKeep"] or found["QuantityOfVersionsToKeep"]:
        raise ValueError("must have the Strategy Quantities to say how many to keep")
    return found


_PARTS: Final = {
    "MachineHealthCheckPolicy": _read_health_check,
    "MachineConnectivityPolicy": fields.document(
        fields.one_of("MachineConnectivityBehavior", "ExpectedToBeOnline", "MayBeOfflineAndCanBeSkipped")
    ),
    "MachineCleanupPolicy": fields.document(
        fields.one_of("DeleteMachinesBehavior", "DoNotDelete", "DeleteUnavailableMachines"),
        _span("DeleteMachinesElapsedTimeSpan", "00:00:00"),
    ),
    "MachineUpdatePolicy": fields.document(
        fields.one_of("CalamariUpdateBehavior", "UpdateOnDeployment", "UpdateOnNewMachine", "UpdateAlways"),
        # There is no Tentacle here to update to.  Of Kubernetes agents, which are never newer here either, clients
        # write their default into every policy.
        fields.one_of("TentacleUpdateBehavior", "NeverUpdate"),
        fields.one_of("KubernetesAgentUpdateBehavior", "Update", "NeverUpdate"),
        Field("TentacleUpdateAccountId", _no_account, None),
    ),
    "MachineRpcCallRetryPolicy": fields.document(
        Field("Enabled", fields.flag, True),
        *(_span(name, "00:02:30") for name in ("RetryDuration", "HealthCheckRetryDuration")),
    ),
    "MachinePackageCacheRetentionPolicy": _read_retention,
}

POLICY_FIELDS: Final = (
    *(Field(name, read, read({})) for name, read in _PARTS.items()),
    _span("PollingRequestQueueTimeout", "00:02:00", 1),
    _span("PollingRequestMaximumMessageProcessingTimeout", "00:10:00", 1),
    _span("ConnectionRetrySleepInterval", "00:00:01"),
    Field("ConnectionRetryCountLimit", fields.number(2, 100), 5),
    _span("ConnectionRetryTimeLimit", "00:05:00", 10),
    _span("ConnectionConnectTimeout", "00:01:00", 10),
)
"""The Go client demands the same of a retry count, a retry time limit and a connect time-out (read in its source)."""

POLICY_DEFAULTS: Final[Json] = fields.read_fields(POLICY_FIELDS, {})
