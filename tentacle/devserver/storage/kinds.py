"""The kinds of resources in one table: their paths, ids, members, defaults and what they refer to.

Knows shapes (docs/spec/rest.md, "Worker document of a registration" and "Endpoints" and "Resources"); must not know the
database or HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from tentacle.devserver.storage import fields
from tentacle.devserver.storage.fields import MISSING, Field, list_of_texts, note, one_of
from tentacle.devserver.storage.model import Json
from tentacle.devserver.storage.permissions import SPACE_PERMISSIONS, SYSTEM_PERMISSIONS, granted
from tentacle.devserver.storage.policies import POLICY_FIELDS


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of resource.

    `prefix` starts the ids and names the kind; `called` is what the API calls one of them, where that is not its
    singular; `refers` maps members to the paths of the kinds that they name.  Kinds with the same `counter` share their
    numbers.  The members `naming` make the name, which is unique.  With `keeps_others` members that are not among
    `fields` are kept as they come.
    """

    prefix: str
    fields: tuple[Field, ...]
    called: str = ""
    counter: str = ""
    scoped: bool = True
    refers: Mapping[str, str] = field(default_factory=dict)
    has_default: bool = False
    naming: tuple[str, ...] = ("Name",)
    keeps_others: bool = False

    def name_of(self, body: Mapping[str, Any]) -> str:
        return "/".join(str(body[member]) for member in self.naming)

    @cached_property
    def singular(self) -> str:
        return re.sub("ie$", "y", self.prefix.removesuffix("s"))

    @property
    def item_type(self) -> str:
        return self.called or self.singular

    @cached_property
    def what(self) -> str:
        """Its name in a sentence."""
        return re.sub("(?<!^)(?=[A-Z])", " ", self.singular).lower()

    @property
    def path(self) -> str:
        """The last segment of the collection's path."""
        return self.prefix.lower()


_ADDED: Final = frozenset({"id", "spaceid", "links", "lastmodifiedon", "lastmodifiedby"})
"""Members that the server adds to each document, in lower case."""


def read_body(kind: Kind, given: Any, before: Mapping[str, Any] | None = None) -> Json:
    """Returns the body of a resource as a request states it; members that it does not state stay as `before`.

    Raises `Invalid` with one entry per wrong member.
    """
    body = fields.read_fields(kind.fields, given, before)
    if kind.keeps_others:
        named = {*(item.name.lower() for item in kind.fields), *_ADDED}
        others = {name: value for name, value in given.items() if name.lower() not in named}
        body = {**(before or {}), **fields.with_secrets(others, before), **body}
    if "Slug" in body and not body["Slug"]:
        body["Slug"] = fields.slug(body["Name"])
    if kind.has_default:
        body["IsDefault"] = bool((before or {}).get("IsDefault"))
    return body


def _off(name: str) -> Field:
    return Field(name, fields.flag, False)


def _secret(name: str) -> Field:
    return Field(name, fields.secret, None, secret=True)


# --- endpoints of workers and targets --------------------------------------------------------------------------


def _contact(how: Field, *, listening: bool) -> tuple[Field, ...]:
    """How a worker is reached and recognised; the first field says `how`."""
    return (
        how,
        *((Field("ProxyId", fields.optional(fields.text()), None),) if listening else ()),
        Field("Thumbprint", fields.thumbprint),
        Field("Uri", fields.listening_uri if listening else fields.polling_uri),
        Field("CertificateSignatureAlgorithm", fields.optional(fields.text()), None),
    )


def _kubernetes_contact(value: Any) -> Json:
    how = Field("CommunicationMode", fields.choice("Listening", "Polling"))
    listening = isinstance(value, dict) and str(fields.member(value, how.name)).lower() == "listening"
    return fields.document(_contact(how, listening=listening))(value)


AGENTLESS: Final = (
    *("OfflineDrop", "None", "Kubernetes", "AzureWebApp", "AzureCloudService", "AzureServiceFabricCluster"),
    *("AwsEcsCluster", "StepPackage", "Ftp"),
)
"""Styles of targets that have no agent; their members are kept as they come."""

_ENDPOINTS: Final = {
    "TentaclePassive": _contact(Field("CommunicationStyle", fields.choice("TentaclePassive")), listening=True),
    "TentacleActive": _contact(Field("CommunicationStyle", fields.choice("TentacleActive")), listening=False),
    "Ssh": (
        *(Field("CommunicationStyle", fields.choice("Ssh")), Field("AccountId", fields.text())),
        *(
            Field("Host", fields.text()),
            Field("Port", fields.number(1, 65535), 22),
            Field("Fingerprint", fields.text()),
        ),
        *(note("ProxyId"), note("DotNetCorePlatform")),
    ),
    "KubernetesTentacle": (
        Field("CommunicationStyle", fields.choice("KubernetesTentacle")),
        Field("KubernetesAgentDetails", fields.optional(fields.any_document), None),
        _off("UpgradeLocked"),
        Field("DefaultNamespace", fields.optional(fields.text()), None),
        Field("TentacleEndpointConfiguration", _kubernetes_contact),
    ),
}
"""The members of an endpoint by its communication style."""


def read_endpoint(value: Any) -> Json:
    """The endpoint of a worker, with exactly the members of its communication style."""
    style = fields.member(value, "CommunicationStyle") if isinstance(value, dict) else MISSING
    shape = {name.lower(): shape for name, shape in _ENDPOINTS.items()}.get(str(style).lower())
    if shape is None:
        raise ValueError(f"must have a CommunicationStyle of {', '.join(_ENDPOINTS)}")
    return fields.document(shape)(value)


def read_target_endpoint(value: Any) -> Json:
    """The endpoint of a target: that of a worker, or one without an agent."""
    styles = {name.lower(): name for name in AGENTLESS}
    style = styles.get(str(fields.member(value, "CommunicationStyle")).lower()) if isinstance(value, dict) else None
    if style is None:
        return read_endpoint(value)
    pool = fields.document((note("DefaultWorkerPoolId"),))(value)
    kept = {name: inner for name, inner in value.items() if name.lower() not in {*_ADDED, "defaultworkerpoolid"}}
    return {**kept, **pool, "CommunicationStyle": style}


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

_NAME: Final = Field("Name", fields.text())
_SLUG: Final = note("Slug")
_DESCRIPTION: Final = note("Description", 10_000)
_DESCRIBED: Final = (_NAME, _SLUG, _DESCRIPTION)
_SORT: Final = Field("SortOrder", fields.number(-(2**31), 2**31 - 1), 0)
_MACHINE: Final = (note("MachinePolicyId"), _off("IsDisabled"), _SLUG, _off("SkipInitialHealthCheck"))
_TENANTED: Final = (
    one_of("TenantedDeploymentParticipation", "Untenanted", "TenantedOrUntenanted", "Tenanted"),
    *(list_of_texts("TenantIds"), list_of_texts("TenantTags")),
)
POOL_TYPES: Final = ("StaticWorkerPool", "DynamicWorkerPool")
"""The second kind can be made, and never has workers: nobody lends any to this server."""

_read_tag: Final = fields.document((_NAME, _DESCRIPTION, Field("Color", fields.optional(fields.text()), None)))


def read_tags(value: Any) -> list[Json]:
    return [_read_tag(tag) for tag in fields.documents(value)]


# Workers and targets count together, so that a worker and a target never share a number.
WORKERS: Final = Kind(
    "Workers",
    (_NAME, Field("WorkerPoolIds", fields.at_least_one), Field("Endpoint", read_endpoint), *_MACHINE),
    counter="machines",
    refers={"WorkerPoolIds": "workerpools", "MachinePolicyId": "machinepolicies"},
)
MACHINES: Final = Kind(
    "Machines",
    (
        *(Field("EnvironmentIds", fields.at_least_one), Field("Roles", fields.at_least_one), *_TENANTED),
        *(_NAME, Field("Endpoint", read_target_endpoint), *_MACHINE),
    ),
    called="DeploymentTarget",
    counter="machines",
    refers={"EnvironmentIds": "environments", "TenantIds": "tenants", "MachinePolicyId": "machinepolicies"},
)
POOLS: Final = Kind(
    "WorkerPools",
    (
        *_DESCRIBED,
        _SORT,
        one_of("WorkerPoolType", *POOL_TYPES),
        Field("WorkerType", fields.optional(fields.text()), None),
    ),
    has_default=True,
)
POLICIES: Final = Kind("MachinePolicies", (_NAME, _DESCRIPTION, *POLICY_FIELDS), has_default=True)
PROXIES: Final = Kind(
    "Proxies",
    (
        *(_NAME, Field("Host", fields.text()), Field("Port", fields.number(1, 65535), 80)),
        *(note("Username"), _secret("Password"), one_of("ProxyType", "HTTP")),
    ),
)
ENVIRONMENTS: Final = Kind(
    "Environments",
    (*_DESCRIBED, _SORT, _off("UseGuidedFailure"), Field("AllowDynamicInfrastructure", fields.flag, True)),
)
TENANTS: Final = Kind(
    "Tenants", (*_DESCRIBED, list_of_texts("TenantTags"), Field("ProjectEnvironments", fields.any_document, {}))
)
TAG_SETS: Final = Kind("TagSets", (*_DESCRIBED, _SORT, Field("Tags", read_tags, [])))
_ACCOUNT_TYPES: Final = (
    *("SshKeyPair", "UsernamePassword", "Token", "AmazonWebServicesAccount", "AmazonWebServicesOidcAccount"),
    *("AzureServicePrincipal", "AzureOidc", "AzureSubscription", "GoogleCloudAccount", "GenericOidcAccount"),
)
_ACCOUNT_SECRETS: Final = (
    *("Password", "PrivateKeyFile", "PrivateKeyPassphrase", "Token", "SecretKey", "JsonKey", "CertificateBytes"),
)
ACCOUNTS: Final = Kind(
    "Accounts",
    (
        *(
            *_DESCRIBED,
            Field("AccountType", fields.choice(*_ACCOUNT_TYPES)),
            list_of_texts("EnvironmentIds"),
            *_TENANTED,
        ),
        *(note("Username"), *map(_secret, _ACCOUNT_SECRETS)),
    ),
    refers={"EnvironmentIds": "environments", "TenantIds": "tenants"},
    keeps_others=True,
)
_RETENTION: Final = {"Unit": "Days", "QuantityToKeep": 30, "ShouldKeepForever": False}
_RETENTIONS: Final = ("ReleaseRetentionPolicy", "TentacleRetentionPolicy")
LIFECYCLES: Final = Kind(
    "Lifecycles",
    (
        *_DESCRIBED,
        Field("Phases", fields.documents, []),
        *(Field(name, fields.any_document, _RETENTION) for name in _RETENTIONS),
    ),
)
SPACES: Final = Kind(
    "Spaces",
    (*_DESCRIBED, _off("TaskQueueStopped"), *map(list_of_texts, ("SpaceManagersTeams", "SpaceManagersTeamMembers"))),
    scoped=False,
    has_default=True,
    refers={"SpaceManagersTeams": "teams", "SpaceManagersTeamMembers": "users"},
)
USERS: Final = Kind(
    "Users",
    (
        *(Field("Username", fields.text(64)), Field("DisplayName", fields.text(64)), note("EmailAddress", 256)),
        *(Field("IsActive", fields.flag, True), _off("IsService")),
    ),
    scoped=False,
    naming=("Username",),
)
_SPACE: Final = note("SpaceId")
TEAMS: Final = Kind(
    "Teams",
    (*_DESCRIBED, _SPACE, list_of_texts("MemberUserIds")),
    scoped=False,
    refers={"SpaceId": "spaces", "MemberUserIds": "users"},
)
_GRANTED: Final = {"GrantedSpacePermissions": SPACE_PERMISSIONS, "GrantedSystemPermissions": SYSTEM_PERMISSIONS}
USER_ROLES: Final = Kind(
    "UserRoles",
    (_NAME, _DESCRIPTION, *(Field(name, granted(known), []) for name, known in _GRANTED.items())),
    scoped=False,
)


def _unnarrowed(value: Any) -> list[str]:
    if value not in (None, []):
        raise ValueError("must be empty: here a role holds in a space, or everywhere, and is not narrowed further")
    return []


SCOPED_ROLES: Final = Kind(
    "ScopedUserRoles",
    (
        *(_SPACE, Field("TeamId", fields.text()), Field("UserRoleId", fields.text())),
        # A role that is narrowed must not hold everywhere, so what cannot be narrowed here is refused.
        *(Field(f"{name}Ids", _unnarrowed, []) for name in ("Environment", "Tenant", "Project", "ProjectGroup")),
    ),
    scoped=False,
    refers={"SpaceId": "spaces", "TeamId": "teams", "UserRoleId": "userroles"},
    naming=("TeamId", "UserRoleId", "SpaceId"),
)
"""A role that a team holds, in one space or, without one, everywhere."""

ARTIFACTS: Final = Kind("Artifacts", (_NAME,))
"""Made by scripts, never by clients."""

PACKAGES: Final = Kind("Packages", (_NAME,))
"""Made from files that are pushed."""

MACHINE_KINDS: Final = (WORKERS, MACHINES)
SCOPED: Final = (*(WORKERS, MACHINES, POOLS, POLICIES, PROXIES, ENVIRONMENTS, TENANTS, TAG_SETS, ACCOUNTS, LIFECYCLES),)
UNSCOPED_KINDS: Final = (SPACES, USERS, TEAMS, USER_ROLES, SCOPED_ROLES)
KINDS: Final[Mapping[str, Kind]] = {kind.path: kind for kind in (*SCOPED, *UNSCOPED_KINDS, ARTIFACTS, PACKAGES)}


def references(kind: Kind, body: Mapping[str, Any]) -> Iterator[tuple[Any, str, Kind]]:
    """Yields each place in a body that names other resources: the document, its member, the kind that is named."""
    for name, path in kind.refers.items():
        if body.get(name):
            yield body, name, KINDS[path]
    if kind in MACHINE_KINDS:
        for inner, member_name, target in (
            (communication(body), "ProxyId", PROXIES),
            (body["Endpoint"], "DefaultWorkerPoolId", POOLS),
            (body["Endpoint"], "AccountId", ACCOUNTS),
        ):
            if inner.get(member_name):
                yield inner, member_name, target
