"""The documents that clients start from: the root, a space's root, the server's certificate, its node and status.

Knows link templates (docs/spec/rest.md, "Root documents"); must not know storage or HTTP.  Every link that is named
here is answered.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from typing import Final

from tentacle.devserver.storage import Json

API_VERSION: Final = "3.0.0"
SERVER_VERSION: Final = "2024.4.0"
"""What clients take this server for: new enough for every endpoint it has."""

CERTIFICATE_PATH: Final = "/api/configuration/certificates/certificate-global"
NODE: Final = "OctopusServerNodes-1"
NODE_NAME: Final = "devserver"
_PAGE: Final = "{/id}{?skip,take,ids,partialName}"
_NAMED: Final = "{/id}{?name,skip,ids,take,partialName}"
_SUMMARY: Final = "ids,partialName,machinePartialName"
_OF_MACHINES: Final = "isDisabled,healthStatuses,commStyles,shellNames"
_OF_TARGETS: Final = f"roles,{_OF_MACHINES},tenantIds,tenantTags"

_ROOT_LINKS: Final[Json] = {
    "Self": "/api",
    "Authentication": "/api/authentication",
    "CertificateConfiguration": "/api/configuration/certificates{/id}",
    "CurrentUser": "/api/users/me",
    "Events": "/api/events{/id}{?skip,take,regarding,regardingAny,user,users,eventCategories,spaces,from,to}",
    "OctopusServerClusterSummary": "/api/octopusservernodes/summary",
    "OctopusServerNodes": "/api/octopusservernodes{/id}",
    "PermissionDescriptions": "/api/permissions/all",
    "ScopedUserRoles": f"/api/scopeduserroles{_PAGE}",
    "ServerHealthStatus": "/api/serverstatus/health",
    "ServerStatus": "/api/serverstatus",
    "SignIn": "/api/users/login",
    "SignOut": "/api/users/logout",
    "SpaceHome": "/api/{spaceId}",
    "Spaces": f"/api/spaces{_NAMED}",
    "Tasks": (
        "/api/tasks{/id}{?skip,active,environment,tenant,project,name,node,running,states,hasPendingInterruptions,"
        "hasWarningsOrErrors,take,ids,partialName,spaces,description}"
    ),
    "TaskTypes": "/api/tasks/taskTypes",
    "Teams": f"/api/teams{_PAGE}",
    "UserAuthentication": "/api/users/authentication{/userId}",
    "UserRoles": f"/api/userroles{_PAGE}",
    "Users": "/api/users{/id}{?skip,take,ids,filter}",
    "Web": "/app",
}
_SPACE_LINKS: Final[Json] = {
    "Accounts": "accounts{/id}{?skip,take,ids,partialName,accountType}",
    "DiscoverMachine": "machines/discover{?host,port,type}",
    "DiscoverWorker": "workers/discover{?host,port,type}",
    "Environments": f"environments{_NAMED}",
    "EnvironmentSortOrder": "environments/sortorder",
    "EnvironmentsSummary": f"environments/summary{{?{_SUMMARY},{_OF_TARGETS},hideEmptyEnvironments}}",
    "Lifecycles": f"lifecycles{_PAGE}",
    "MachineOperatingSystems": "machines/operatingsystem/names/all",
    "MachinePolicies": f"machinepolicies{_PAGE}",
    "MachinePolicyTemplate": "machinepolicies/template",
    "MachineRoles": "machineroles/all",
    "Machines": f"machines{{/id}}{{?skip,take,name,ids,partialName,{_OF_TARGETS},environmentIds,thumbprint}}",
    "MachineShells": "machines/operatingsystem/shells/all",
    "Proxies": f"proxies{_PAGE}",
    "Artifacts": "artifacts{/id}{?skip,take,regarding}",
    "TagSets": f"tagsets{_PAGE}",
    "Tenants": "tenants{/id}{?skip,projectId,name,tags,take,ids,partialName}",
    "WorkerOperatingSystems": "workers/operatingsystem/names/all",
    "WorkerPools": f"workerpools{_NAMED}",
    "WorkerPoolsDynamicWorkerTypes": "workerpools/dynamicworkertypes",
    "WorkerPoolSortOrder": "workerpools/sortorder",
    "WorkerPoolsSortOrder": "workerpools/sortorder",
    "WorkerPoolsSummary": f"workerpools/summary{{?{_SUMMARY},{_OF_MACHINES},hideEmptyWorkerPools}}",
    "WorkerPoolsSupportedTypes": "workerpools/supportedtypes",
    "Workers": f"workers{{/id}}{{?skip,take,name,ids,partialName,{_OF_MACHINES},workerPoolIds,thumbprint}}",
    "WorkerShells": "workers/operatingsystem/shells/all",
}


@dataclass(frozen=True)
class ServerIdentity:
    """The installation, the version, and the thumbprint that workers trust, with its `certificate` as DER."""

    installation: str
    thumbprint: str
    version: str
    certificate: bytes = field(default=b"", repr=False)


def _about(identity: ServerIdentity) -> Json:
    return {
        "Application": "Octopus Deploy",
        "Version": SERVER_VERSION,
        "ApiVersion": API_VERSION,
        "InstallationId": identity.installation,
        "IsEarlyAccessProgram": False,
        "HasLongTermSupport": True,
        "ServedBy": f"tentacle devserver {identity.version}",
    }


def _space_links(space: str) -> Json:
    return {name: f"/api/{space}/{template}" for name, template in _SPACE_LINKS.items()}


def root_document(identity: ServerIdentity, default_space: str | None, polling: str | None = None) -> Json:
    """Returns what `GET /api` answers to anybody; with the default space's links when there is one, and `polling`, the
    template of the address at which workers poll by HTTPS.
    """
    links = {
        **_ROOT_LINKS,
        **({"TentaclePolling": polling} if polling else {}),
        **(_space_links(default_space) if default_space else {}),
    }
    return {**_about(identity), "Links": links}


def space_document(identity: ServerIdentity, space: str) -> Json:
    """Returns what `GET /api/Spaces-N` answers."""
    links = {"Self": f"/api/{space}", "Tasks": _ROOT_LINKS["Tasks"], "Web": f"/app#/{space}", **_space_links(space)}
    return {**_about(identity), "Id": space, "Links": links}


def certificate_document(identity: ServerIdentity) -> Json:
    """Returns the certificate that the server shows to workers, by its thumbprint."""
    return {
        "Id": "certificate-global",
        "Name": "Octopus Server certificate",
        "Thumbprint": identity.thumbprint,
        "SignatureAlgorithm": "sha256RSA",
        "Links": {"Self": CERTIFICATE_PATH, "PublicCer": f"{CERTIFICATE_PATH}/public-cer"},
    }


def node_document(task_cap: int) -> Json:
    path = f"/api/octopusservernodes/{NODE}"
    return {
        "Id": NODE,
        "Name": NODE_NAME,
        "MaxConcurrentTasks": task_cap,
        "IsInMaintenanceMode": False,
        "Links": {"Self": path, "Node": path, "Details": f"{path}/details"},
    }


def node_summary(identity: ServerIdentity, now: str, task_cap: int, running: int) -> Json:
    """Returns the node as it is at the moment, with the number of tasks that have not ended."""
    state = {"LastSeen": now, "IsOffline": False, "RunningTaskCount": running, "Version": identity.version}
    return {**node_document(task_cap), **state}


def status_document() -> Json:
    path = "/api/serverstatus"
    links = {"Self": path, "Health": f"{path}/health", "SystemInfo": f"{path}/system-info"}
    return {"IsInMaintenanceMode": False, "IsUpgradeAvailable": False, "Health": "Healthy", "Links": links}


def health_document() -> Json:
    flags = {"IsEntireClusterReadOnly": False, "IsEntireClusterDrainingTasks": False, "IsCompliantWithLicense": True}
    words = {"IsOperatingNormally": True, "Description": "The server is operating normally."}
    return {**words, **flags, "Links": {"Self": "/api/serverstatus/health"}}


def system_document(identity: ServerIdentity, uptime: str, threads: int) -> Json:
    """Returns what the server runs on; `uptime` is a time span."""
    system = {"OSVersion": platform.platform(), "ClrVersion": f"Python {platform.python_version()}"}
    state = {"Version": identity.version, "Uptime": uptime, "ThreadCount": threads}
    return {**system, **state, "Links": {"Self": "/api/serverstatus/system-info"}}


def authentication_document() -> Json:
    """Returns how users sign in, of which there is one way."""
    name = {"Name": "Octopus", "DisplayName": "Octopus", "IdentityType": "UsernamePassword", "Links": {}}
    provider = {**name, "FormsLoginEnabled": True, "CSSLinks": [], "JavascriptLinks": []}
    return {"AuthenticationProviders": [provider], "CanCurrentUserEditIdentitiesForUser": False, "Links": {}}
