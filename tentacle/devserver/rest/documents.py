"""Resources and keys as the JSON documents that clients read: members, links, paths (docs/spec/rest.md, "Resources").

Knows resources and paths of the API; must not know the database or HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Any, Final

from tentacle.devserver.storage import (
    ACCOUNTS,
    ARTIFACTS,
    BUILT_IN_ROLES,
    BUILT_IN_TEAMS,
    ENVIRONMENTS,
    EVERYONE,
    KINDS,
    LIFECYCLES,
    MACHINES,
    MISSING,
    POLICIES,
    POLICY_DEFAULTS,
    POOL_TYPES,
    POOLS,
    SCOPED_ROLES,
    SPACES,
    TAG_SETS,
    TEAMS,
    USER_ROLES,
    USERS,
    WORKERS,
    ApiKey,
    Event,
    HealthStatus,
    Json,
    Kind,
    Resource,
    communication,
)


def collection_path(kind: Kind, space: str) -> str:
    return f"/api/{space}/{kind.path}" if space else f"/api/{kind.path}"


def path_of(resource: Resource) -> str:
    """Returns the path of a resource, which is also its `Self` link."""
    return f"{collection_path(KINDS[resource.kind], resource.space)}/{resource.id}"


def document(resource: Resource) -> Json:
    """Returns the resource as it is answered: `Id` first, `Links` last, without secrets."""
    kind = KINDS[resource.kind]
    extra = _EXTRAS[kind](resource) if kind in _EXTRAS else {}
    links = {"Self": path_of(resource), **extra.pop("Links", {})}
    scope = {"SpaceId": resource.space} if kind.scoped else {}
    shape = kind.fields
    # An earlier version kept fewer members.
    defaults = {field.name: field.default for field in shape if field.default is not MISSING}
    body = {**defaults, **without_secrets(dict(resource.body)), **extra}
    for field in shape:
        if field.secret:
            body[field.name] = {"HasValue": bool(body.get(field.name)), "NewValue": None, "Hint": None}
    return {"Id": resource.id, **scope, **body, "Links": links}


def without_secrets(value: Any) -> Any:
    """Returns a document of unknown members without the values of those that clients send as sensitive ones."""
    if isinstance(value, dict):
        if "NewValue" in value:
            return {"HasValue": bool(value["NewValue"] or value.get("HasValue")), "NewValue": None, "Hint": None}
        return {name: without_secrets(inner) for name, inner in value.items()}
    return [without_secrets(inner) for inner in value] if isinstance(value, list) else value


def policy_template(space: str) -> Json:
    """Returns a policy that does not exist yet, with every default."""
    blank = {"Id": None, "SpaceId": space, "Name": "", "Description": None, "IsDefault": False}
    return {**blank, **POLICY_DEFAULTS, "Links": {"Self": f"{collection_path(POLICIES, space)}/template"}}


def keys_path(user: str) -> str:
    return f"/api/users/{user}/apikeys"


def key_document(key: ApiKey) -> Json:
    """Returns a key without itself."""
    return {
        "Id": key.id,
        "UserId": key.user,
        "Purpose": key.purpose,
        "Created": key.created,
        "Expires": key.expires,
        "ApiKey": {"HasValue": True, "NewValue": None, "Hint": key.shown},
        "Links": {"Self": f"{keys_path(key.user)}/{key.id}"},
    }


def event_document(event: Event) -> Json:
    names = {"UserId": event.user, "Username": event.username, "SpaceId": event.space or None}
    return {
        "Id": f"Events-{event.number}",
        "RelatedDocumentIds": [event.resource] if event.resource else [],
        "Category": event.category,
        **names,
        "IsService": False,
        "IdentityEstablishedWith": "",
        "UserAgent": "",
        "Occurred": event.occurred,
        "Message": event.message,
        "MessageHtml": escape(event.message),
        "MessageReferences": [],
        "Comments": None,
        "Details": None,
        "ChangeDetails": {"DocumentContext": None, "Differences": None},
        "Links": {"Self": f"/api/events/Events-{event.number}"},
    }


# --- what the server adds to the body of a resource ------------------------------------------------------------


def status_of(machine: Resource) -> str:
    """Returns the older word for the health of a worker or target."""
    if machine.is_disabled:
        return "Disabled"
    offline = {HealthStatus.UNAVAILABLE: "Offline", HealthStatus.UNKNOWN: "Unknown"}
    return offline.get(machine.health, "Online")


def _machine(resource: Resource) -> Json:
    seen, contact = resource.observed, communication(resource.body)
    names = ("OperatingSystem", "OperatingSystemVersion", "ShellName", "ShellVersion", "Architecture")
    return {
        "IsInProcess": False,
        "HasLatestCalamari": seen.get("HasLatestCalamari", True),
        "Status": status_of(resource),
        "HealthStatus": resource.health,
        "StatusSummary": seen.get("StatusSummary", "This machine has not been checked yet."),
        "Thumbprint": contact.get("Thumbprint"),
        "Uri": contact.get("Uri"),
        **{name: seen.get(name, "Unknown") for name in names},
        "Endpoint": _endpoint(resource),
        "Links": {
            "Connection": f"{path_of(resource)}/connection",
            "TasksTemplate": f"{path_of(resource)}/tasks{{?skip,take}}",
        },
    }


def _endpoint(resource: Resource) -> Json:
    endpoint, seen = without_secrets(resource.body["Endpoint"]), resource.observed
    versions = {
        "UpgradeLocked": False,
        "Version": seen.get("TentacleVersion"),
        "UpgradeSuggested": False,
        "UpgradeRequired": False,
        "UpgradeAvailable": False,
    }
    details = {
        "TentacleVersionDetails": versions,
        "CertificateSignatureAlgorithm": seen.get("CertificateSignatureAlgorithm"),
    }
    if "TentacleEndpointConfiguration" in endpoint:
        endpoint["TentacleEndpointConfiguration"] = {**endpoint["TentacleEndpointConfiguration"], **details}
    elif "Uri" in endpoint:
        endpoint.update(details)
    elif "Host" in endpoint:
        endpoint["Uri"] = f"ssh://{endpoint['Host']}:{endpoint['Port']}/"
    return {**endpoint, "Id": None, "LastModifiedOn": None, "LastModifiedBy": None, "Links": {}}


def _tag_set(resource: Resource) -> Json:
    tags = [
        {
            "Id": f"{resource.id}/Tags-{number}",
            "CanonicalTagName": f"{resource.name}/{tag['Name']}",
            "SortOrder": number,
            **tag,
        }
        for number, tag in enumerate(resource.body["Tags"], 1)
    ]
    return {"Tags": tags}


def _links(**templates: str) -> Callable[[Resource], Json]:
    """What is added is links alone, each a template that follows the resource's path."""
    return lambda resource: {"Links": {name: path_of(resource) + end for name, end in templates.items()}}


def _user(user: Resource) -> Json:
    """What a user may is found by these links; the password is never shown, not even whether there is one."""
    rights = {"Permissions": "/permissions", "PermissionsConfiguration": "/permissions/configuration"}
    links = _links(
        **rights,
        Spaces="/spaces",
        Teams="/teams",
        RevokeSessions="/revoke-sessions",
        ApiKeys="/apikeys{/id}{?skip,take}",
    )
    no_others: Json = {"Identities": [], "Password": None, "IsRequestor": False, "CanPasswordBeEdited": True}
    return {**no_others, **links(user)}


def _team(team: Resource) -> Json:
    own = team.id not in BUILT_IN_TEAMS
    may = {"CanBeDeleted": own, "CanBeRenamed": own, "CanChangeRoles": own, "CanChangeMembers": team.id != EVERYONE}
    return {**may, "ExternalSecurityGroups": [], **_links(ScopedUserRoles="/scopeduserroles{?skip,take}")(team)}


_pool_links: Final = _links(Workers="/workers{?skip,take,partialName,isDisabled,healthStatuses,commStyles}")
_EXTRAS: Final[Mapping[Kind, Callable[[Resource], Json]]] = {
    WORKERS: _machine,
    MACHINES: _machine,
    POOLS: lambda pool: {"CanAddWorkers": pool.body["WorkerPoolType"] == POOL_TYPES[0], **_pool_links(pool)},
    POLICIES: _links(Workers="/workers{?skip,take}", Machines="/machines{?skip,take}", Devices="/machines{?skip,take}"),
    ENVIRONMENTS: _links(Machines="/machines{?skip,take,partialName,roles,isDisabled,healthStatuses,commStyles}"),
    TAG_SETS: _tag_set,
    ARTIFACTS: _links(Content="/content"),
    ACCOUNTS: _links(Usages="/usages"),
    LIFECYCLES: _links(Projects="/projects"),
    SPACES: lambda space: {"Links": {"SpaceHome": f"/api/{space.id}", "Web": f"/app#/{space.id}"}},
    USERS: _user,
    TEAMS: _team,
    USER_ROLES: lambda role: {
        "CanBeDeleted": role.id not in BUILT_IN_ROLES,
        "SupportedRestrictions": [],
        "SpacePermissionDescriptions": role.body["GrantedSpacePermissions"],
        "SystemPermissionDescriptions": role.body["GrantedSystemPermissions"],
    },
    SCOPED_ROLES: lambda _: {"ProjectGroupIds": [], "ProjectIds": [], "EnvironmentIds": [], "TenantIds": []},
}
