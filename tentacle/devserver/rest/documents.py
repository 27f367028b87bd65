"""Rows as the JSON documents that clients read: members, enumerations, links (tentacle-cli.md 6.1).

Knows resources and paths of the API; must not know storage or HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from tentacle.devserver.rest.kinds import KINDS, MACHINES, POLICY_PARTS, WORKERS
from tentacle.devserver.storage.model import Json, Resource

PAGE_OF_WORKERS: Final = "{?skip,take,partialName,isDisabled,healthStatuses,commStyles}"


def path_of(resource: Resource) -> str:
    """The address of a resource, which is also its `Self` link."""
    middle = f"{resource.space}/" if resource.space else ""
    return f"/api/{middle}{resource.kind}/{resource.id}"


def document(resource: Resource) -> Json:
    """The resource as it is answered: `Id` first, `Links` last."""
    extra = _EXTRAS.get(resource.kind, _plain)(resource)
    links = {"Self": path_of(resource), **extra.pop("Links", {})}
    scope = {"SpaceId": resource.space} if KINDS[resource.kind].scoped else {}
    return {"Id": resource.id, **scope, **dict(resource.body), **extra, "Links": links}


def _plain(_: Resource) -> Json:
    return {}


# --- workers and targets ---------------------------------------------------------------------------------------


def communication(body: Mapping[str, Any]) -> Json:
    """The part of a worker's body that holds `Uri`, `Thumbprint` and `ProxyId`, whatever its style."""
    endpoint: Json = body["Endpoint"]
    inner: Json = endpoint.get("TentacleEndpointConfiguration", endpoint)
    return inner


def health_of(resource: Resource) -> str:
    return str(resource.observed.get("HealthStatus", "Unknown"))


def status_of(resource: Resource) -> str:
    """The older word for the same thing."""
    if resource.body.get("IsDisabled"):
        return "Disabled"
    return {"Unavailable": "Offline", "Unknown": "Unknown"}.get(health_of(resource), "Online")


def _machine(resource: Resource) -> Json:
    seen, inner = resource.observed, communication(resource.body)
    return {
        "IsInProcess": False,
        "HasLatestCalamari": True,
        "Status": status_of(resource),
        "HealthStatus": health_of(resource),
        "StatusSummary": seen.get("StatusSummary", "This machine has not been checked yet."),
        "Thumbprint": inner["Thumbprint"],
        "Uri": inner["Uri"],
        **{name: seen.get(name, "Unknown") for name in ("OperatingSystem", "OperatingSystemVersion")},
        **{name: seen.get(name, "Unknown") for name in ("ShellName", "ShellVersion", "Architecture")},
        "Endpoint": _endpoint(resource),
        "Links": {
            "Connection": f"{path_of(resource)}/connection",
            "TasksTemplate": f"{path_of(resource)}/tasks{{?skip,take}}",
        },
    }


def _endpoint(resource: Resource) -> Json:
    endpoint, seen = dict(resource.body["Endpoint"]), resource.observed
    details = {
        "TentacleVersionDetails": {
            "UpgradeLocked": False,
            "Version": seen.get("TentacleVersion"),
            "UpgradeSuggested": False,
            "UpgradeRequired": False,
            "UpgradeAvailable": False,
        },
        "CertificateSignatureAlgorithm": seen.get("CertificateSignatureAlgorithm"),
    }
    tail: Json = {"Id": None, "LastModifiedOn": None, "LastModifiedBy": None, "Links": {}}
    if "TentacleEndpointConfiguration" in endpoint:
        endpoint["TentacleEndpointConfiguration"] = {**endpoint["TentacleEndpointConfiguration"], **details}
        return {**endpoint, **tail}
    return {**endpoint, **details, **tail}


# --- the others ------------------------------------------------------------------------------------------------


def _pool(resource: Resource) -> Json:
    return {"CanAddWorkers": True, "Links": {"Workers": f"{path_of(resource)}/workers{PAGE_OF_WORKERS}"}}


def _policy(resource: Resource) -> Json:
    users = {"Workers": WORKERS.path, "Devices": MACHINES.path}
    return {"Links": {name: f"{path_of(resource)}/{path}{{?skip,take}}" for name, path in users.items()}}


def policy_template(space: str) -> Json:
    """A policy that is not there yet, with every default."""
    links = {"Self": f"/api/{space}/machinepolicies/template"}
    return {
        "Id": None,
        "SpaceId": space,
        "Name": "",
        "Description": None,
        "IsDefault": False,
        **POLICY_PARTS,
        "Links": links,
    }


def _environment(resource: Resource) -> Json:
    return {"Links": {"Machines": f"{path_of(resource)}/machines{{?skip,take,partialName}}"}}


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


def _proxy(_: Resource) -> Json:
    return {"Password": {"HasValue": False, "NewValue": None}}


def _space(resource: Resource) -> Json:
    return {
        "SpaceManagersTeams": [],
        "SpaceManagersTeamMembers": [],
        "Links": {"SpaceHome": f"/api/{resource.id}"},
    }


def _user(resource: Resource) -> Json:
    links = {"Spaces": f"{path_of(resource)}/spaces", "ApiKeys": f"{path_of(resource)}/apikeys{{/id}}{{?skip,take}}"}
    return {"Username": resource.name, "IsActive": True, "EmailAddress": None, "Links": links}


_EXTRAS: Final[Mapping[str, Callable[[Resource], Json]]] = {
    "workers": _machine,
    "machines": _machine,
    "workerpools": _pool,
    "machinepolicies": _policy,
    "environments": _environment,
    "tagsets": _tag_set,
    "proxies": _proxy,
    "spaces": _space,
    "users": _user,
}
