"""The documents that clients start from: the root, a space's root, the server's certificate, its node and status.

Knows link templates (docs/spec/rest.md, "Root documents"); must not know storage or HTTP.  Every link that is named
here is answered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tentacle.devserver.storage import Json

API_VERSION: Final = "3.0.0"
SERVER_VERSION: Final = "2024.4.0"
"""What clients take this server for: new enough for every endpoint it has."""

NODE: Final = "OctopusServerNodes-1"
_PAGE: Final = "{/id}{?skip,take,ids,partialName}"
_NAMED: Final = "{/id}{?name,skip,ids,take,partialName}"

_ROOT_LINKS: Final[Json] = {
    "Self": "/api",
    "Spaces": "/api/spaces{/id}{?name,skip,ids,take,partialName}",
    "SpaceHome": "/api/{spaceId}",
    "CurrentUser": "/api/users/me",
    "SignIn": "/api/users/login{?returnUrl}",
    "SignOut": "/api/users/logout",
    "Users": "/api/users{/id}{?skip,take,ids,filter}",
    "CertificateConfiguration": f"/api/configuration/certificates{_PAGE}",
    "Tasks": (
        "/api/tasks{/id}{?skip,active,environment,tenant,project,name,node,running,states,hasPendingInterruptions,"
        "hasWarningsOrErrors,take,ids,partialName,spaces,includeSystem}"
    ),
    "TaskTypes": "/api/tasks/taskTypes",
    "OctopusServerNodes": f"/api/octopusservernodes{_PAGE}",
    "ServerStatus": "/api/serverstatus",
    "Web": "/",
}
_WORKER_FILTERS: Final = (
    "{?skip,take,name,ids,partialName,isDisabled,healthStatuses,commStyles,workerpoolIds,thumbprint}"
)
_MACHINE_FILTERS: Final = (
    "{?skip,take,name,ids,partialName,roles,isDisabled,healthStatuses,commStyles,tenantIds,tenantTags,"
    "environmentIds,thumbprint}"
)
_SPACE_LINKS: Final[Json] = {
    "Workers": f"workers{{/id}}{_WORKER_FILTERS}",
    "WorkerPools": f"workerpools{_NAMED}",
    "WorkerPoolsSummary": "workerpools/summary{?ids,partialName}",
    "WorkerPoolsSortOrder": "workerpools/sortorder",
    "WorkerPoolsSupportedTypes": "workerpools/supportedtypes",
    "WorkerPoolsDynamicWorkerTypes": "workerpools/dynamicworkertypes",
    "DiscoverWorker": "workers/discover{?host,port,type,proxyId}",
    "Machines": f"machines{{/id}}{_MACHINE_FILTERS}",
    "DiscoverMachine": "machines/discover{?host,port,type,proxyId}",
    "MachinePolicies": f"machinepolicies{_PAGE}",
    "MachinePolicyTemplate": "machinepolicies/template",
    "Proxies": f"proxies{_PAGE}",
    "Accounts": f"accounts{_PAGE}",
    "Artifacts": "artifacts{/id}{?skip,take,regarding,ids,partialName}",
    "Environments": f"environments{_NAMED}",
    "Tenants": "tenants{/id}{?skip,projectId,name,tags,take,ids,partialName}",
    "TagSets": f"tagsets{_PAGE}",
}


@dataclass(frozen=True)
class ServerIdentity:
    """The installation, the version, and the thumbprint that workers trust."""

    installation: str
    thumbprint: str
    version: str


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
    links = {"Self": f"/api/{space}", "Tasks": _ROOT_LINKS["Tasks"], **_space_links(space)}
    return {**_about(identity), "Id": space, "Links": links}


def certificate_document(identity: ServerIdentity) -> Json:
    """Returns the certificate that the server shows to workers, by its thumbprint."""
    return {
        "Id": "certificate-global",
        "Name": "Octopus Server certificate",
        "Thumbprint": identity.thumbprint,
        "SignatureAlgorithm": "sha256RSA",
        "Links": {"Self": "/api/configuration/certificates/certificate-global"},
    }


def node_document(task_cap: int) -> Json:
    links = {"Self": f"/api/octopusservernodes/{NODE}"}
    return {
        "Id": NODE,
        "Name": "devserver",
        "MaxConcurrentTasks": task_cap,
        "IsInMaintenanceMode": False,
        "Links": links,
    }


def status_document() -> Json:
    return {"IsInMaintenanceMode": False, "Health": "Healthy", "Links": {"Self": "/api/serverstatus"}}
