"""The resources of this server in one table: their paths, ids, members, defaults and what they refer to.

Knows shapes (tentacle-cli.md 5.7 and 6.1); must not know storage or HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tentacle.devserver.rest import fields
from tentacle.devserver.rest.fields import Reader, at_least_one, choice, flag, like, number, optional, slug, text, texts
from tentacle.devserver.rest.problems import Invalid
from tentacle.devserver.storage.model import Json

MISSING: Final = object()


@dataclass(frozen=True)
class Field:
    """A member that clients set.  With `default` `MISSING` it must be there; null means the default."""

    name: str
    read: Reader
    default: Any = MISSING


@dataclass(frozen=True)
class Kind:
    """`path` is the collection's last segment, `prefix` starts the ids, `refers` maps members to kinds."""

    path: str
    item_type: str
    prefix: str
    what: str
    fields: tuple[Field, ...]
    counter: str = ""
    scoped: bool = True
    refers: Mapping[str, str] = field(default_factory=dict)
    has_default: bool = False


def _endpoint_shape(style: str, uri: Reader) -> tuple[Field, ...]:
    return (
        Field("CommunicationStyle", choice(style)),
        *((Field("ProxyId", optional(text()), None),) if style == "TentaclePassive" else ()),
        Field("Thumbprint", fields.thumbprint),
        Field("Uri", uri),
        Field("CertificateSignatureAlgorithm", optional(text()), None),
    )


_PASSIVE: Final = _endpoint_shape("TentaclePassive", fields.listening_uri)
_ACTIVE: Final = _endpoint_shape("TentacleActive", fields.polling_uri)
_KUBERNETES: Final = (
    Field("CommunicationStyle", choice("KubernetesTentacle")),
    Field("KubernetesAgentDetails", like(None), None),
    Field("UpgradeLocked", flag, False),
    Field("DefaultNamespace", optional(text()), None),
)
STYLES: Final = ("TentaclePassive", "TentacleActive", "KubernetesTentacle")


def read_endpoint(value: Any) -> Json:
    """The endpoint of a worker or target, with exactly the members of its communication style."""
    if not isinstance(value, dict):
        raise ValueError("must be a document with a CommunicationStyle")
    style = {k.lower(): v for k, v in value.items()}.get("communicationstyle")
    if not isinstance(style, str) or style.lower() not in {s.lower() for s in STYLES}:
        raise ValueError(f"must have a CommunicationStyle of {', '.join(STYLES)}")
    if style.lower() != "kubernetestentacle":
        return _strict(_PASSIVE if style.lower() == "tentaclepassive" else _ACTIVE, value)
    return {**_strict(_KUBERNETES, value), "TentacleEndpointConfiguration": _read_kubernetes_configuration(value)}


def _read_kubernetes_configuration(value: Json) -> Json:
    inner = {k.lower(): v for k, v in value.items()}.get("tentacleendpointconfiguration")
    if not isinstance(inner, dict):
        raise ValueError("must have a TentacleEndpointConfiguration")
    listening = str(inner.get("CommunicationMode")).lower() == "listening"
    shape = (
        Field("CommunicationMode", choice("Listening", "Polling")),
        *((Field("ProxyId", optional(text()), None),) if listening else ()),
        Field("Thumbprint", fields.thumbprint),
        Field("Uri", fields.listening_uri if listening else fields.polling_uri),
        Field("CertificateSignatureAlgorithm", optional(text()), None),
    )
    return _strict(shape, inner)


def _strict(shape: tuple[Field, ...], value: Json) -> Json:
    body, problems = read_fields(shape, value)
    if problems:
        raise ValueError("; ".join(problems))
    return body


def read_fields(
    shape: tuple[Field, ...], given: Mapping[str, Any], before: Mapping[str, Any] | None = None
) -> tuple[Json, list[str]]:
    """The members of `shape` in `given` (names without regard to case) and what is wrong with them.

    A member that is not there is taken from `before`, else from its default.
    """
    folded = {name.lower(): value for name, value in given.items()}
    body: Json = {}
    problems: list[str] = []
    for item in shape:
        value = folded.get(item.name.lower(), MISSING)
        if value is MISSING and before is not None and item.name in before:
            body[item.name] = before[item.name]
        elif value is MISSING or value is None:
            if item.default is MISSING:
                problems.append(f"{item.name} must be given")
            body[item.name] = item.default
        else:
            try:
                body[item.name] = item.read(value)
            except ValueError as error:
                problems.append(f"{item.name} {error}")
    return body, problems


def read_body(kind: Kind, given: Any, before: Mapping[str, Any] | None = None) -> Json:
    """The body of a resource as a request states it.  Raises `Invalid` with one entry per wrong member."""
    if not isinstance(given, dict):
        raise Invalid("The request's body must be a JSON document.")
    body, problems = read_fields(kind.fields, given, before)
    if problems:
        raise Invalid("There was a problem with your request.", problems)
    if "Slug" in body and not body["Slug"]:
        body["Slug"] = slug(body["Name"])
    if kind.has_default:
        body["IsDefault"] = bool((before or {}).get("IsDefault"))
    return body


HEALTH_POLICY: Final[Json] = {
    "PowerShellHealthCheckPolicy": {"RunType": "InheritFromDefault", "ScriptBody": None},
    "BashHealthCheckPolicy": {"RunType": "InheritFromDefault", "ScriptBody": None},
    "HealthCheckInterval": "01:00:00",
    "HealthCheckCron": None,
    "HealthCheckCronTimezone": None,
    "HealthCheckType": "RunScript",
}
RETRY_POLICY: Final[Json] = {"Enabled": True, "RetryDuration": "00:02:30", "HealthCheckRetryDuration": "00:02:30"}
POLICY_PARTS: Final[Json] = {
    "MachineHealthCheckPolicy": HEALTH_POLICY,
    "MachineConnectivityPolicy": {"MachineConnectivityBehavior": "ExpectedToBeOnline"},
    "MachineCleanupPolicy": {"DeleteMachinesBehavior": "DoNotDelete", "DeleteMachinesElapsedTimeSpan": "00:00:00"},
    "MachineUpdatePolicy": {
        "CalamariUpdateBehavior": "UpdateOnDeployment",
        "TentacleUpdateBehavior": "NeverUpdate",
        "KubernetesAgentUpdateBehavior": "Update",
        "TentacleUpdateAccountId": None,
    },
    "MachineRpcCallRetryPolicy": RETRY_POLICY,
    "MachinePackageCacheRetentionPolicy": {"Strategy": "Default"},
    "PollingRequestQueueTimeout": "00:02:00",
    "PollingRequestMaximumMessageProcessingTimeout": "00:10:00",
    "ConnectionRetrySleepInterval": "00:00:01",
    "ConnectionRetryCountLimit": 5,
    "ConnectionRetryTimeLimit": "00:05:00",
    "ConnectionConnectTimeout": "00:01:00",
}

_NAME: Final = Field("Name", text())
_SLUG: Final = Field("Slug", optional(text(blank=True)), None)
_DESCRIPTION: Final = Field("Description", optional(text(10_000, blank=True)), None)
_SORT: Final = Field("SortOrder", number(-(2**31), 2**31 - 1), 0)
_MACHINE: Final = (
    Field("MachinePolicyId", optional(text()), None),
    Field("IsDisabled", flag, False),
    Field("Endpoint", read_endpoint),
    _SLUG,
    Field("SkipInitialHealthCheck", flag, False),
)


def _read_tags(value: Any) -> list[Json]:
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise ValueError("must be a list of tags")
    return [_strict((_NAME, _DESCRIPTION, Field("Color", optional(text()), None)), tag) for tag in value]


# Workers and targets count together, so that a worker and a target never share a number.
WORKERS: Final = Kind(
    "workers",
    "Worker",
    "Workers",
    "worker",
    (_NAME, Field("WorkerPoolIds", at_least_one), *_MACHINE),
    counter="machines",
    refers={"WorkerPoolIds": "workerpools", "MachinePolicyId": "machinepolicies"},
)
MACHINES: Final = Kind(
    "machines",
    "DeploymentTarget",
    "Machines",
    "machine",
    (
        Field("EnvironmentIds", at_least_one),
        Field("Roles", at_least_one),
        Field(
            "TenantedDeploymentParticipation", choice("Untenanted", "TenantedOrUntenanted", "Tenanted"), "Untenanted"
        ),
        Field("TenantIds", texts, []),
        Field("TenantTags", texts, []),
        _NAME,
        *_MACHINE,
    ),
    counter="machines",
    refers={"EnvironmentIds": "environments", "TenantIds": "tenants", "MachinePolicyId": "machinepolicies"},
)
POOLS: Final = Kind(
    "workerpools",
    "WorkerPool",
    "WorkerPools",
    "worker pool",
    (_NAME, _SLUG, _DESCRIPTION, _SORT, Field("WorkerPoolType", choice("StaticWorkerPool"), "StaticWorkerPool")),
    has_default=True,
)
POLICIES: Final = Kind(
    "machinepolicies",
    "MachinePolicy",
    "MachinePolicies",
    "machine policy",
    (_NAME, _DESCRIPTION, *(Field(name, like(part), part) for name, part in POLICY_PARTS.items())),
    has_default=True,
)
PROXIES: Final = Kind(
    "proxies",
    "Proxy",
    "Proxies",
    "proxy",
    (
        _NAME,
        Field("Host", text()),
        Field("Port", number(1, 65535), 80),
        Field("Username", optional(text(blank=True)), None),
        Field("ProxyType", choice("HTTP"), "HTTP"),
    ),
)
ENVIRONMENTS: Final = Kind(
    "environments",
    "Environment",
    "Environments",
    "environment",
    (
        _NAME,
        _SLUG,
        _DESCRIPTION,
        _SORT,
        Field("UseGuidedFailure", flag, False),
        Field("AllowDynamicInfrastructure", flag, True),
    ),
)
TENANTS: Final = Kind(
    "tenants",
    "Tenant",
    "Tenants",
    "tenant",
    (_NAME, _SLUG, _DESCRIPTION, Field("TenantTags", texts, []), Field("ProjectEnvironments", like({}), {})),
)
TAG_SETS: Final = Kind(
    "tagsets",
    "TagSet",
    "TagSets",
    "tag set",
    (_NAME, _SLUG, _DESCRIPTION, _SORT, Field("Tags", _read_tags, [])),
)
SPACES: Final = Kind(
    "spaces",
    "Space",
    "Spaces",
    "space",
    (_NAME, _SLUG, _DESCRIPTION, Field("TaskQueueStopped", flag, False)),
    scoped=False,
    has_default=True,
)
USERS: Final = Kind(
    "users",
    "User",
    "Users",
    "user",
    (Field("Name", text()), Field("DisplayName", text(), "admin"), Field("IsService", flag, False)),
    scoped=False,
)

SCOPED: Final = (WORKERS, MACHINES, POOLS, POLICIES, PROXIES, ENVIRONMENTS, TENANTS, TAG_SETS)
KINDS: Final[Mapping[str, Kind]] = {kind.path: kind for kind in (*SCOPED, SPACES, USERS)}
