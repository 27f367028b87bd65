"""The kinds of resources in one table: their paths, ids, members, defaults and what they refer to.

Knows shapes (docs/spec/rest.md, "Worker document of a registration" and "Endpoints" and "Resources"); must not know the
database or HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
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
    singular.  Kinds with the same `counter` share their numbers.  The members `naming` make the name, which is unique.
    With `keeps_others` members that are not among `fields` are kept as they come.  Clients are not shown those that are
    `internal`.
    """

    prefix: str
    fields: tuple[Field, ...]
    called: str = ""
    counter: str = ""
    scoped: bool = True
    has_default: bool = False
    naming: tuple[str, ...] = ("Name",)
    keeps_others: bool = False
    internal: tuple[str, ...] = ()

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


def _named(name: str) -> Field:
    """A text, or null, which it is by default."""
    return Field(name, fields.text(), None)


_RECOGNISED: Final = (Field("Thumbprint", fields.thumbprint), _named("CertificateSignatureAlgorithm"))
_LISTENING: Final = (_named("ProxyId"), Field("Uri", fields.listening_uri), *_RECOGNISED)
_POLLING: Final = (Field("Uri", fields.polling_uri), *_RECOGNISED)
_read_mode: Final = fields.document(Field("CommunicationMode", fields.choice("Listening", "Polling")))


def _kubernetes_contact(value: Any) -> Json:
    mode = _read_mode(value)
    contact = _LISTENING if mode["CommunicationMode"] == "Listening" else _POLLING
    return {**mode, **fields.document(*contact)(value)}


AGENTLESS: Final = (
    *("OfflineDrop", "None", "Kubernetes", "AzureWebApp", "AzureCloudService", "AzureServiceFabricCluster"),
    *("AwsEcsCluster", "StepPackage", "Ftp"),
)
"""Styles of targets that have no agent; their members are kept as they come."""

_ENDPOINTS: Final = {
    "TentaclePassive": _LISTENING,
    "TentacleActive": _POLLING,
    "Ssh": (
        *(Field(name, fields.text()) for name in ("AccountId", "Host", "Fingerprint")),
        Field("Port", fields.number(1, 65535), 22),
        *map(note, ("ProxyId", "DotNetCorePlatform")),
    ),
    "KubernetesTentacle": (
        Field("KubernetesAgentDetails", fields.any_document, None),
        _off("UpgradeLocked"),
        _named("DefaultNamespace"),
        Field("TentacleEndpointConfiguration", _kubernetes_contact),
    ),
}
"""The other members of an endpoint by its communication style."""


def _style(value: Any, styles: Iterable[str]) -> str | None:
    """Returns the communication style of an endpoint as it is written among `styles`, or `None` for another one."""
    given = fields.member(value, "CommunicationStyle") if isinstance(value, dict) else MISSING
    return next((style for style in styles if style.lower() == str(given).lower()), None)


def read_endpoint(value: Any) -> Json:
    """The endpoint of a worker, with exactly the members of its communication style."""
    style = _style(value, _ENDPOINTS)
    if style is None:
        raise ValueError(f"must have a CommunicationStyle of {', '.join(_ENDPOINTS)}")
    return {"CommunicationStyle": style, **fields.document(*_ENDPOINTS[style])(value)}


def read_target_endpoint(value: Any) -> Json:
    """The endpoint of a target: that of a worker, or one without an agent."""
    style = _style(value, AGENTLESS)
    if style is None:
        return read_endpoint(value)
    pool = fields.document(note("DefaultWorkerPoolId"))(value)
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


def _kind(prefix: str, *shape: Field, **more: Any) -> Kind:
    return Kind(prefix, shape, **more)


_NAME: Final = Field("Name", fields.text())
_SLUG: Final = note("Slug")
_DESCRIPTION: Final = note("Description", 10_000)
_DESCRIBED: Final = (_NAME, _SLUG, _DESCRIPTION)
_SORT: Final = Field("SortOrder", fields.number(-(2**31), 2**31 - 1), 0)
_POLICY: Final = note("MachinePolicyId", refers="machinepolicies")
_MACHINE: Final = (_POLICY, _off("IsDisabled"), _SLUG, _off("SkipInitialHealthCheck"))
_TENANTED: Final = (
    one_of("TenantedDeploymentParticipation", "Untenanted", "TenantedOrUntenanted", "Tenanted"),
    list_of_texts("TenantIds", refers="tenants"),
    list_of_texts("TenantTags"),
)
POOL_TYPES: Final = ("StaticWorkerPool", "DynamicWorkerPool")
"""The second kind can be made, and never has workers: nobody lends any to this server."""

_read_tag: Final = fields.document(_NAME, _DESCRIPTION, _named("Color"))


def read_tags(value: Any) -> list[Json]:
    return [_read_tag(tag) for tag in fields.documents(value)]


# Workers and targets count together, so that a worker and a target never share a number.
WORKERS: Final = _kind(
    "Workers",
    _NAME,
    Field("WorkerPoolIds", fields.at_least_one, refers="workerpools"),
    Field("Endpoint", read_endpoint),
    *_MACHINE,
    counter="machines",
)
MACHINES: Final = _kind(
    "Machines",
    Field("EnvironmentIds", fields.at_least_one, refers="environments"),
    Field("Roles", fields.at_least_one),
    *(*_TENANTED, _NAME, Field("Endpoint", read_target_endpoint), *_MACHINE),
    called="DeploymentTarget",
    counter="machines",
)
POOLS: Final = _kind(
    "WorkerPools", *_DESCRIBED, _SORT, one_of("WorkerPoolType", *POOL_TYPES), _named("WorkerType"), has_default=True
)
POLICIES: Final = _kind("MachinePolicies", _NAME, _DESCRIPTION, *POLICY_FIELDS, has_default=True)
PROXIES: Final = _kind(
    "Proxies",
    *(_NAME, Field("Host", fields.text()), Field("Port", fields.number(1, 65535), 80)),
    *(note("Username"), _secret("Password"), one_of("ProxyType", "HTTP")),
)
ENVIRONMENTS: Final = _kind(
    "Environments", *_DESCRIBED, _SORT, _off("UseGuidedFailure"), Field("AllowDynamicInfrastructure", fields.flag, True)
)
TENANTS: Final = _kind(
    "Tenants", *_DESCRIBED, list_of_texts("TenantTags"), Field("ProjectEnvironments", fields.any_document, {})
)
TAG_SETS: Final = _kind("TagSets", *_DESCRIBED, _SORT, Field("Tags", read_tags, []))
_ACCOUNT_TYPES: Final = (
    *("SshKeyPair", "UsernamePassword", "Token", "AmazonWebServicesAccount", "AmazonWebServicesOidcAccount"),
    *("AzureServicePrincipal", "AzureOidc", "AzureSubscription", "GoogleCloudAccount", "GenericOidcAccount"),
)
_ACCOUNT_SECRETS: Final = (
    *("Password", "PrivateKeyFile", "PrivateKeyPassphrase", "Token", "SecretKey", "JsonKey", "CertificateBytes"),
)
ACCOUNTS: Final = _kind(
    "Accounts",
    *_DESCRIBED,
    Field("AccountType", fields.choice(*_ACCOUNT_TYPES)),
    list_of_texts("EnvironmentIds", refers="environments"),
    *(*_TENANTED, note("Username"), *map(_secret, _ACCOUNT_SECRETS)),
    keeps_others=True,
)
_RETENTION: Final = {"Unit": "Days", "QuantityToKeep": 30, "ShouldKeepForever": False}
_RETENTIONS: Final = ("ReleaseRetentionPolicy", "TentacleRetentionPolicy")
_KEPT: Final = tuple(Field(name, fields.any_document, _RETENTION) for name in _RETENTIONS)
LIFECYCLES: Final = _kind("Lifecycles", *_DESCRIBED, Field("Phases", fields.documents, []), *_KEPT)
SPACES: Final = _kind(
    "Spaces",
    *(*_DESCRIBED, _off("TaskQueueStopped"), list_of_texts("SpaceManagersTeams", refers="teams")),
    list_of_texts("SpaceManagersTeamMembers", refers="users"),
    scoped=False,
    has_default=True,
)
USERS: Final = _kind(
    "Users",
    *(Field("Username", fields.text(64)), Field("DisplayName", fields.text(64)), note("EmailAddress", 256)),
    *(Field("IsActive", fields.flag, True), _off("IsService")),
    scoped=False,
    naming=("Username",),
)
_SPACE: Final = note("SpaceId", refers="spaces")
TEAMS: Final = _kind("Teams", *_DESCRIBED, _SPACE, list_of_texts("MemberUserIds", refers="users"), scoped=False)
_GRANTED: Final = {"GrantedSpacePermissions": SPACE_PERMISSIONS, "GrantedSystemPermissions": SYSTEM_PERMISSIONS}
USER_ROLES: Final = _kind(
    "UserRoles",
    _NAME,
    _DESCRIPTION,
    *(Field(name, granted(known), []) for name, known in _GRANTED.items()),
    scoped=False,
)


_unnarrowed: Final = fields.checked(
    lambda value: value == [], "must be empty: here a role holds in a space, or everywhere, and is not narrowed further"
)
SCOPED_ROLES: Final = _kind(
    "ScopedUserRoles",
    _SPACE,
    Field("TeamId", fields.text(), refers="teams"),
    Field("UserRoleId", fields.text(), refers="userroles"),
    # A role that is narrowed must not hold everywhere, so what cannot be narrowed here is refused.
    *(Field(f"{name}Ids", _unnarrowed, []) for name in ("Environment", "Tenant", "Project", "ProjectGroup")),
    scoped=False,
    naming=("TeamId", "UserRoleId", "SpaceId"),
)
"""A role that a team holds, in one space or, without one, everywhere."""

ARTIFACTS: Final = _kind("Artifacts", _NAME)
"""Made by scripts, never by clients."""

PACKAGES: Final = _kind(
    "Packages",
    *(Field(name, fields.text()) for name in ("PackageId", "Version", "FileExtension")),
    naming=("PackageId", "Version"),
    internal=("Name", "Slug", "File"),
)
"""Made from files that are pushed."""

MACHINE_KINDS: Final = (WORKERS, MACHINES)
SCOPED: Final = (*(WORKERS, MACHINES, POOLS, POLICIES, PROXIES, ENVIRONMENTS, TENANTS, TAG_SETS, ACCOUNTS, LIFECYCLES),)
UNSCOPED_KINDS: Final = (SPACES, USERS, TEAMS, USER_ROLES, SCOPED_ROLES)
KINDS: Final[Mapping[str, Kind]] = {kind.path: kind for kind in (*SCOPED, *UNSCOPED_KINDS, ARTIFACTS, PACKAGES)}


def references(kind: Kind, body: Mapping[str, Any]) -> Iterator[tuple[Any, str, Kind]]:
    """Yields each place in a body that names other resources: the document, its member, the kind that is named."""
    for item in kind.fields:
        if item.refers and body.get(item.name):
            yield body, item.name, KINDS[item.refers]
    if kind in MACHINE_KINDS:
        for inner, member_name, target in (
            (communication(body), "ProxyId", PROXIES),
            (body["Endpoint"], "DefaultWorkerPoolId", POOLS),
            (body["Endpoint"], "AccountId", ACCOUNTS),
        ):
            if inner.get(member_name):
                yield inner, member_name, target
