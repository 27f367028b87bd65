"""Resources and keys as the JSON documents that clients read: members, links, paths (docs/spec/rest.md, "Resources").

Knows resources and paths of the API; must not know the database or HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from tentacle.devserver.storage import (
    ARTIFACTS,
    ENVIRONMENTS,
    KINDS,
    MACHINES,
    POLICIES,
    POLICY_DEFAULTS,
    POOLS,
    PROXIES,
    SPACES,
    TAG_SETS,
    USERS,
    WORKERS,
    ApiKey,
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
    extra = _EXTRAS[resource.kind](resource) if resource.kind in _EXTRAS else {}
    links = {"Self": path_of(resource), **extra.pop("Links", {})}
    scope = {"SpaceId": resource.space} if KINDS[resource.kind].scoped else {}
    body = {**dict(resource.body), **extra}
    for field in KINDS[resource.kind].fields:
        if field.secret:
            body[field.name] = {"HasValue": bool(body.get(field.name)), "NewValue": None, "Hint": None}
    return {"Id": resource.id, **scope, **body, "Links": links}


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
        "ApiKey": {"HasValue": True, "NewValue": None, "Hint": key.shown},
        "Links": {"Self": f"{keys_path(key.user)}/{key.id}"},
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
    endpoint, seen = dict(resource.body["Endpoint"]), resource.observed
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


_pool_links: Final = _links(Workers="/workers{?skip,take,partialName,isDisabled,healthStatuses,commStyles}")
_user_links: Final = _links(Spaces="/spaces", ApiKeys="/apikeys{/id}{?skip,take}")
_EXTRAS: Final[Mapping[str, Callable[[Resource], Json]]] = {
    WORKERS.path: _machine,
    MACHINES.path: _machine,
    POOLS.path: lambda pool: {"CanAddWorkers": True, **_pool_links(pool)},
    POLICIES.path: _links(Workers="/workers{?skip,take}", Devices="/machines{?skip,take}"),
    ENVIRONMENTS.path: _links(Machines="/machines{?skip,take,partialName}"),
    TAG_SETS.path: _tag_set,
    ARTIFACTS.path: _links(Content="/content"),
    PROXIES.path: lambda _: {"Password": {"HasValue": False, "NewValue": None}},
    SPACES.path: lambda space: {
        "SpaceManagersTeams": [],
        "SpaceManagersTeamMembers": [],
        "Links": {"SpaceHome": f"/api/{space.id}"},
    },
    USERS.path: lambda user: {"Username": user.name, "IsActive": True, "EmailAddress": None, **_user_links(user)},
}
"""By the kind's path."""
