"""Workers and deployment targets as the server keeps them: frozen descriptions and their JSON bodies.

Pure.  Members, their order and their values are those of the original's client (tentacle-cli.md 5.7); a server may
compare them.  Knows nothing of requests.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from tentacle.octopus.document import Document
from tentacle.octopus.errors import InvalidAddress

_WORDS = {
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
    """A machine that the server calls: `uri` as `listening_uri` makes it, `proxy_id` of a proxy the server knows."""

    thumbprint: str
    uri: str
    proxy_id: str | None = None


@dataclass(frozen=True)
class PollingEndpoint:
    """A machine that calls the server, known by its `subscription` (`poll://…/`)."""

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
    """A worker or a deployment target as it shall be; `policy_id` None leaves the policy to the server."""

    name: str
    space_id: str | None
    endpoint: Endpoint
    membership: WorkerMembership | TargetMembership
    policy_id: str | None = None


def listening_uri(host: str, port: int) -> str:
    """`https://host:port/` the way .NET normalises it: host in lower case, no :443, IPv6 in brackets.

    Raises `InvalidAddress` for what is no host name or port.
    """
    bare = host.strip()
    if not 0 < port < 65536:
        raise InvalidAddress(f"{port} is not a TCP port.", hint="Ports are numbers from 1 to 65535.")
    shown = "" if port == 443 else f":{port}"
    return f"https://{_host(bare)}{shown}/"


def _host(bare: str) -> str:
    try:
        inner = bare[1:-1] if bare.startswith("[") and bare.endswith("]") else bare
        return f"[{ipaddress.IPv6Address(inner)}]"
    except ValueError:
        pass
    if not _HOST.fullmatch(bare) or not bare.isprintable():
        raise InvalidAddress(
            f"'{bare[:200]}' is not a host name or an IP address.",
            hint="Give only the name, for example --publicHostName=worker1.example.com",
        )
    return bare.lower()


def subscription_uri(subscription: str) -> str:
    """A subscription address as .NET writes it: `poll://name/`, the name in lower case.  Raises `InvalidAddress`."""
    match = re.fullmatch(r"poll://([^\s/?#@]+)(/\S*)?", subscription.strip(), re.IGNORECASE)
    if match is None:
        raise InvalidAddress(f"The subscription '{subscription[:200]}' is not of the form poll://name/.")
    return f"poll://{match[1].lower()}{match[2] or '/'}"


def create_body(machine: Machine) -> dict[str, object]:
    """What is posted to create `machine`."""
    return _body(machine, Document({}, "a new machine"))


def update_body(machine: Machine, existing: Document) -> dict[str, object]:
    """What replaces `existing` by `machine`: everything of it that the original's client knows is kept."""
    return {"Id": existing.need("Id"), **_body(machine, existing)}


def _body(machine: Machine, old: Document) -> dict[str, object]:
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


def differences(machine: Machine, existing: Document) -> tuple[str, ...]:
    """What `machine` would change of `existing`, in the words of a message; empty when it is as it should be.

    The order of ids and names, and their case, do not count.
    """
    endpoint, wanted = existing.object("Endpoint"), endpoint_body(machine.endpoint)
    found = [
        _WORDS[name]
        for name in ("CommunicationStyle", "ProxyId", "Thumbprint", "Uri")
        if (endpoint.text(name) or "").lower() != str(wanted.get(name) or "").lower()
    ]
    for name, value in _membership_body(machine.membership).items():
        if isinstance(value, list):
            same = {str(item).lower() for item in value} == {item.lower() for item in existing.texts(name)}
        else:
            same = existing.text(name) == value
        found += [] if same else [_WORDS[name]]
    if machine.policy_id is not None and machine.policy_id != existing.text("MachinePolicyId"):
        found.append("machine policy")
    return tuple(found)


def has_thumbprint(machine: Document, thumbprint: str) -> bool:
    """Whether a machine document is that of the agent with this certificate; case does not matter.

    The endpoint says so; a Kubernetes agent one level deeper; servers before 3.4 on the machine itself.
    """
    endpoint = machine.object("Endpoint")
    own = endpoint.text("Thumbprint") or endpoint.object("TentacleEndpointConfiguration").text("Thumbprint")
    found = own if own is not None else machine.text("Thumbprint")
    return bool(found) and found is not None and found.strip().lower() == thumbprint.strip().lower()


def with_thumbprint(machine: Document, thumbprint: str) -> dict[str, object]:
    """The whole of a machine's document, what we do not know of it included, with another thumbprint."""
    endpoint = machine.object("Endpoint")
    inner = endpoint.object("TentacleEndpointConfiguration")
    if inner.text("Thumbprint"):
        changed = _with(endpoint, "TentacleEndpointConfiguration", _with(inner, "Thumbprint", thumbprint))
    else:
        changed = _with(endpoint, "Thumbprint", thumbprint)
    own = {machine.spelled("Thumbprint"): thumbprint} if machine.text("Thumbprint") else {}
    return {**_with(machine, "Endpoint", changed), **own}


def _with(document: Document, name: str, value: object) -> dict[str, object]:
    return {**document.values, document.spelled(name): value}


def _unique(values: Iterable[str]) -> list[str]:
    """`values` in order without repetitions; case does not matter."""
    kept: dict[str, str] = {}
    for value in values:
        kept.setdefault(value.lower(), value)
    return list(kept.values())
