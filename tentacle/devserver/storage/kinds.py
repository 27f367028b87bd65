"""The kinds of resources in one table: their paths, ids, members, defaults and what they refer to.

Knows shapes (docs/spec/rest.md, "Worker document of a registration" and "Endpoints" and "Resources"); must not know the
database or HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tentacle.devserver.storage.fields import (
    MISSING,
    Field,
    any_document,
    at_least_one,
    choice,
    document,
    flag,
    listening_uri,
    member,
    number,
    optional,
    polling_uri,
    read_fields,
    secret,
    slug,
    text,
    texts,
    thumbprint,
)
from tentacle.devserver.storage.model import Json
from tentacle.devserver.storage.policies import POLICY_FIELDS


@dataclass(frozen=True)
class Kind:
    """A kind of resource.

    `prefix` starts the ids, `item_type` is what the API calls one of them, `what` is its name in a sentence, `refers`
    maps members to the paths of the kinds that they name.  Kinds with the same `counter` share their numbers.
    """

    prefix: str
    item_type: str
    what: str
    fields: tuple[Field, ...]
    counter: str = ""
    scoped: bool = True
    refers: Mapping[str, str] = field(default_factory=dict)
    has_default: bool = False

    @property
    def path(self) -> str:
        """The last segment of the collection's path."""
        return self.prefix.lower()


def read_body(kind: Kind, given: Any, before: Mapping[str, Any] | None = None) -> Json:
    """Returns the body of a resource as a request states it; members that it does not state stay as `before`.

    Raises `Invalid` with one entry per wrong member.
    """
    body = read_fields(kind.fields, given, before)
    if "Slug" in body and not body["Slug"]:
        body["Slug"] = slug(body["Name"])
    if kind.has_default:
        body["IsDefault"] = bool((before or {}).get("IsDefault"))
    return body


# --- endpoints of workers and targets --------------------------------------------------------------------------


def _contact(how: Field, *, listening: bool) -> tuple[Field, ...]:
    """How a worker is reached and recognised; the first field says `how`."""
    return (
        how,
        *((Field("ProxyId", optional(text()), None),) if listening else ()),
        Field("Thumbprint", thumbprint),
        Field("Uri", listening_uri if listening else polling_uri),
        Field("CertificateSignatureAlgorithm", optional(text()), None),
    )


def _kubernetes_contact(value: Any) -> Json:
    how = Field("CommunicationMode", choice("Listening", "Polling"))
    listening = isinstance(value, dict) and str(member(value, how.name)).lower() == "listening"
    return document(_contact(how, listening=listening))(value)


_ENDPOINTS: Final = {
    "TentaclePassive": _contact(Field("CommunicationStyle", choice("TentaclePassive")), listening=True),
    "TentacleActive": _contact(Field("CommunicationStyle", choice("TentacleActive")), listening=False),
    "Ssh": (
        Field("CommunicationStyle", choice("Ssh")),
        Field("AccountId", text()),
        Field("Host", text()),
        Field("Port", number(1, 65535), 22),
        Field("Fingerprint", text()),
        Field("ProxyId", optional(text(blank=True)), None),
        Field("DotNetCorePlatform", optional(text(blank=True)), None),
    ),
    "KubernetesTentacle": (
        Field("CommunicationStyle", choice("KubernetesTentacle")),
        Field("KubernetesAgentDetails", optional(any_document), None),
        Field("UpgradeLocked", flag, False),
        Field("DefaultNamespace", optional(text()), None),
        Field("TentacleEndpointConfiguration", _kubernetes_contact),
    ),
}
"""The members of an endpoint by its communication style."""


def read_endpoint(value: Any) -> Json:
    """The endpoint of a worker or target, with exactly the members of its communication style."""
    style = member(value, "CommunicationStyle") if isinstance(value, dict) else MISSING
    shape = {name.lower(): shape for name, shape in _ENDPOINTS.items()}.get(str(style).lower())
    if shape is None:
        raise ValueError(f"must have a CommunicationStyle of {', '.join(_ENDPOINTS)}")
    return document(shape)(value)


def communication(body: Mapping[str, Any]) -> Json:
    """Returns the part of a worker's body that holds `Uri`, `Thumbprint` and `ProxyId`, whatever its style.

    A machine without an agent has neither of the first two.
    """
    endpoint: Json = body["Endpoint"]
    inner: Json = endpoint.get("TentacleEndpointConfiguration", endpoint)
    return inner


def same_place(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Returns whether two bodies lead to the same machine; what the server itself adds to them does not count."""

    def place(body: Mapping[str, Any]) -> Json:
        return {**communication(body), "CertificateSignatureAlgorithm": None} if "Endpoint" in body else {}

    return place(one) == place(other)


# --- the table -------------------------------------------------------------------------------------------------

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
_read_tag: Final = document((_NAME, _DESCRIPTION, Field("Color", optional(text()), None)))


def read_tags(value: Any) -> list[Json]:
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise ValueError("must be a list of tags")
    return [_read_tag(tag) for tag in value]


# Workers and targets count together, so that a worker and a target never share a number.
WORKERS: Final = Kind(
    "Workers",
    "Worker",
    "worker",
    (_NAME, Field("WorkerPoolIds", at_least_one), *_MACHINE),
    counter="machines",
    refers={"WorkerPoolIds": "workerpools", "MachinePolicyId": "machinepolicies"},
)
MACHINES: Final = Kind(
    "Machines",
    "DeploymentTarget",
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
    "WorkerPools",
    "WorkerPool",
    "worker pool",
    (_NAME, _SLUG, _DESCRIPTION, _SORT, Field("WorkerPoolType", choice("StaticWorkerPool"), "StaticWorkerPool")),
    has_default=True,
)
POLICIES: Final = Kind(
    "MachinePolicies",
    "MachinePolicy",
    "machine policy",
    (_NAME, _DESCRIPTION, *POLICY_FIELDS),
    has_default=True,
)
PROXIES: Final = Kind(
    "Proxies",
    "Proxy",
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
    "Environments",
    "Environment",
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
    "Tenants",
    "Tenant",
    "tenant",
    (_NAME, _SLUG, _DESCRIPTION, Field("TenantTags", texts, []), Field("ProjectEnvironments", any_document, {})),
)
TAG_SETS: Final = Kind(
    "TagSets", "TagSet", "tag set", (_NAME, _SLUG, _DESCRIPTION, _SORT, Field("Tags", read_tags, []))
)
ACCOUNTS: Final = Kind(
    "Accounts",
    "Account",
    "account",
    (
        _NAME,
        Field("AccountType", choice("SshKeyPair", "UsernamePassword")),
        Field("Username", text()),
        *(Field(name, secret, None, secret=True) for name in ("Password", "PrivateKeyFile", "PrivateKeyPassphrase")),
    ),
)
SPACES: Final = Kind(
    "Spaces",
    "Space",
    "space",
    (_NAME, _SLUG, _DESCRIPTION, Field("TaskQueueStopped", flag, False)),
    scoped=False,
    has_default=True,
)
USERS: Final = Kind(
    "Users",
    "User",
    "user",
    (Field("Name", text()), Field("DisplayName", text(), "admin"), Field("IsService", flag, False)),
    scoped=False,
)

ARTIFACTS: Final = Kind("Artifacts", "Artifact", "artifact", (_NAME,))
"""Made by scripts, never by clients."""

MACHINE_KINDS: Final = (WORKERS, MACHINES)
SCOPED: Final = (WORKERS, MACHINES, POOLS, POLICIES, PROXIES, ENVIRONMENTS, TENANTS, TAG_SETS, ACCOUNTS)
KINDS: Final[Mapping[str, Kind]] = {kind.path: kind for kind in (*SCOPED, SPACES, USERS, ARTIFACTS)}


def references(kind: Kind, body: Mapping[str, Any]) -> Iterator[tuple[Any, str, Kind]]:
    """Yields each place in a body that names other resources: the document, its member, the kind that is named."""
    for name, path in kind.refers.items():
        yield body, name, KINDS[path]
    if kind in MACHINE_KINDS:
        for holder, name, target in (
            (communication(body), "ProxyId", PROXIES),
            (body["Endpoint"], "AccountId", ACCOUNTS),
        ):
            if name in holder:
                yield holder, name, target
