"""Workers and deployment targets as the server keeps them: frozen descriptions and their JSON bodies.

Pure.  Members, their order and their values are those of the original's client (docs/spec/rest.md,
"Worker document of a registration" and "Endpoints"); a server may compare them.  Knows nothing of requests.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from enum import StrEnum

from tentacle.octopus.errors import InvalidAddress
from tentacle.octopus.json_document import JsonDocument, same_name
from tentacle.octopus.server_address import check_port
from tentacle.records import dataclass

_NAMES_IN_MESSAGES = {
    "CommunicationStyle": "communication style",
    "ProxyId": "proxy",
    "Thumbprint": "thumbprint",
    "Uri": "address",
    "WorkerPoolIds": "worker pools",
    "EnvironmentIds": "environments",
    "Roles": "roles",
    "TenantedDeploymentParticipation": "tenanted deployment participation",
    "TenantIds": "tenants",
    "TenantTags": "tenant tags",
}
_HOST = re.compile(r"[^\s/\\?#@:\[\]<>%|\"'`{}^]+")


class Participation(StrEnum):
    """How a deployment target takes part in tenanted deployments."""

    UNTENANTED = "Untenanted"
    TENANTED_OR_UNTENANTED = "TenantedOrUntenanted"
    TENANTED = "Tenanted"


@dataclass(frozen=True)
class ListeningEndpoint:
    """A machine that the server calls at `uri`, as `listening_uri` returns it, and through its proxy `proxy_id`."""

    thumbprint: str
    uri: str
    proxy_id: str | None = None


@dataclass(frozen=True)
class PollingEndpoint:
    """A machine that polls the server, which knows it by its `subscription` (`poll://…/`)."""

    thumbprint: str
    subscription: str


Endpoint = ListeningEndpoint | PollingEndpoint


@dataclass(frozen=True)
class WorkerMembership:
    """What a worker belongs to: ids of worker pools."""

    pool_ids: tuple[str, ...]


@dataclass(frozen=True)
class TargetMembership:
    """What a deployment target belongs to: ids, but roles and tags by name."""

    environment_ids: tuple[str, ...]
    roles: tuple[str, ...]
    participation: Participation = Participation.UNTENANTED
    tenant_ids: tuple[str, ...] = ()
    tenant_tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Machine:
    """A worker or a deployment target as it is to be; `policy_id` None leaves the policy to the server."""

    name: str
    space_id: str | None
    endpoint: Endpoint
    membership: WorkerMembership | TargetMembership
    policy_id: str | None = None


def listening_uri(host: str, port: int) -> str:
    """Returns `https://host:port/` as .NET normalises it: host in lower case, no :443, IPv6 in brackets.

    Raises `InvalidAddress` when `host` is not a host name or `port` not a port.
    """
    check_port(port)
    name = host.strip()
    try:
        normalised = f"[{ipaddress.IPv6Address(name[1:-1] if name.startswith('[') and name.endswith(']') else name)}]"
    except ValueError:
        if not _HOST.fullmatch(name) or not name.isprintable():
            raise InvalidAddress(
                f"'{name[:200]}' is not a host name or an IP address.",
                hint="Give only the name, for example --publicHostName=worker1.example.com",
            ) from None
        normalised = name.lower()
    return f"https://{normalised}{'' if port == 443 else f':{port}'}/"


def subscription_uri(subscription: str) -> str:
    """Returns a subscription address as .NET writes it: `poll://name/`, in lower case.  Raises `InvalidAddress`."""
    match = re.fullmatch(r"poll://([^\s/?#@]+)(/\S*)?", subscription.strip(), re.IGNORECASE)
    if match is None:
        raise InvalidAddress(f"The subscription '{subscription[:200]}' is not of the form poll://name/.")
    return f"poll://{match[1].lower()}{match[2] or '/'}"


def create_body(machine: Machine) -> dict[str, object]:
    """The document that is posted to create `machine`."""
    return _body(machine, JsonDocument({}, "a new machine"))


def update_body(machine: Machine, existing: JsonDocument) -> dict[str, object]:
    """The document that replaces `existing`; of that, everything that the original's client knows is kept."""
    return {"Id": existing.require("Id"), **_body(machine, existing)}


def _body(machine: Machine, old: JsonDocument) -> dict[str, object]:
    modified = {name: old.raw(name) for name in ("LastModifiedOn", "LastModifiedBy") if old.raw(name) is not None}
    return {
        **_membership_body(machine.membership),
        "Name": machine.name,
        "SpaceId": old.text("SpaceId") if old.text("Id") else machine.space_id,
        "Thumbprint": old.text("Thumbprint"),
        "Uri": old.text("Uri"),
        "IsDisabled": old.flag("IsDisabled"),
        "MachinePolicyId": machine.policy_id or old.text("MachinePolicyId"),
        "Status": old.text("Status") or "Online",
        "HealthStatus": old.text("HealthStatus") or "Healthy",
        "HasLatestCalamari": old.flag("HasLatestCalamari"),
        "StatusSummary": old.text("StatusSummary"),
        "IsInProcess": old.flag("IsInProcess"),
        "Endpoint": endpoint_body(machine.endpoint),
        "OperatingSystem": old.text("OperatingSystem"),
        "OperatingSystemVersion": old.text("OperatingSystemVersion"),
        "ShellName": old.text("ShellName"),
        "ShellVersion": old.text("ShellVersion"),
        "Architecture": old.text("Architecture"),
        "Slug": old.text("Slug"),
        "SkipInitialHealthCheck": old.flag("SkipInitialHealthCheck"),
        **modified,
        "Links": old.links,
    }


def _membership_body(membership: WorkerMembership | TargetMembership) -> dict[str, object]:
    match membership:
        case WorkerMembership(pool_ids):
            return {"WorkerPoolIds": _unique(pool_ids)}
        case TargetMembership():
            return {
                "EnvironmentIds": _unique(membership.environment_ids),
                "Roles": _unique(membership.roles),
                "TenantedDeploymentParticipation": membership.participation.value,
                "TenantIds": _unique(membership.tenant_ids),
                "TenantTags": _unique(membership.tenant_tags),
            }


def endpoint_body(endpoint: Endpoint) -> dict[str, object]:
    """The `Endpoint` member for a listening or a polling machine."""
    match endpoint:
        case ListeningEndpoint(thumbprint, uri, proxy_id):
            style: dict[str, object] = {"CommunicationStyle": "TentaclePassive", "ProxyId": proxy_id}
        case PollingEndpoint(thumbprint, subscription):
            style, uri = {"CommunicationStyle": "TentacleActive"}, subscription_uri(subscription)
    return {
        **style,
        "Thumbprint": thumbprint,
        "Uri": uri,
        "TentacleVersionDetails": None,
        "CertificateSignatureAlgorithm": None,
        "Id": None,
        "LastModifiedOn": None,
        "LastModifiedBy": None,
        "Links": {},
    }


def differences(machine: Machine, existing: JsonDocument) -> tuple[str, ...]:
    """What of `existing` would change to make it `machine`, in words; empty when nothing would.

    The order of ids and names, and their case, do not count.
    """
    endpoint, wanted = existing.object("Endpoint"), endpoint_body(machine.endpoint)
    found = [
        _NAMES_IN_MESSAGES[name]
        for name in ("CommunicationStyle", "ProxyId", "Thumbprint", "Uri")
        if (endpoint.text(name) or "").lower() != str(wanted.get(name) or "").lower()
    ]
    for name, value in _membership_body(machine.membership).items():
        if isinstance(value, list):
            same = {str(item).lower() for item in value} == {item.lower() for item in existing.texts(name)}
        else:
            same = existing.text(name) == value
        found += [] if same else [_NAMES_IN_MESSAGES[name]]
    if machine.policy_id is not None and machine.policy_id != existing.text("MachinePolicyId"):
        found.append("machine policy")
    return tuple(found)


def has_thumbprint(machine: JsonDocument, thumbprint: str) -> bool:
    """Whether a machine's document has this thumbprint; case does not count.

    It stands in the endpoint, for a Kubernetes agent one level deeper, and on servers before 3.4 in the machine itself.
    """
    endpoint = machine.object("Endpoint")
    own = endpoint.text("Thumbprint") or endpoint.object("TentacleEndpointConfiguration").text("Thumbprint")
    found = own if own is not None else machine.text("Thumbprint")
    return bool(found) and same_name(found, thumbprint)


def with_thumbprint(machine: JsonDocument, thumbprint: str) -> dict[str, object]:
    """A machine's whole document, with members that we do not know, and with another thumbprint."""
    endpoint = machine.object("Endpoint")
    inner = endpoint.object("TentacleEndpointConfiguration")
    if inner.text("Thumbprint"):
        changed = _with(endpoint, "TentacleEndpointConfiguration", _with(inner, "Thumbprint", thumbprint))
    else:
        changed = _with(endpoint, "Thumbprint", thumbprint)
    own = {machine.spelling("Thumbprint"): thumbprint} if machine.text("Thumbprint") else {}
    return {**_with(machine, "Endpoint", changed), **own}


def with_disabled(machine: JsonDocument, *, disabled: bool) -> dict[str, object]:
    """A machine's whole document, with members that we do not know, disabled or enabled."""
    return _with(machine, "IsDisabled", disabled)


def _with(document: JsonDocument, name: str, value: object) -> dict[str, object]:
    return {**document.values, document.spelling(name): value}


def _unique(values: Iterable[str]) -> list[str]:
    """`values` in order without repetitions; case does not count."""
    kept: dict[str, str] = {}
    for value in values:
        kept.setdefault(value.lower(), value)
    return list(kept.values())
