"""Roots, the certificate, the server's node and status: documents of which there is one each, where clients start.

Knows link templates (docs/spec/rest.md, "Root documents"); must not know workers or tasks.  Every link that is named
here is answered.
"""

from __future__ import annotations

import platform
import threading
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final

from aiohttp import web

from tentacle.contracts.timespan import format_timespan
from tentacle.devserver.rest.access import ANYBODY, SIGNED_IN, Needs
from tentacle.devserver.rest.answers import SAFE, ResourceNotFound, answer
from tentacle.devserver.rest.documents import NODE, NODE_NAME, linked
from tentacle.devserver.rest.paging import paged
from tentacle.devserver.rest.routing import ApiRequest, Route
from tentacle.devserver.rest.server import Server, ServerIdentity
from tentacle.devserver.storage import Json, iso, permissions

API_VERSION: Final = "3.0.0"
SERVER_VERSION: Final = "2024.4.0"
"""What clients take this server for: new enough for every endpoint it has."""

_CERTIFICATES: Final = "configuration/certificates"
_CERTIFICATE: Final = f"{_CERTIFICATES}/certificate-global"
_NODES: Final = "octopusservernodes"
_NODE: Final = f"{_NODES}/{NODE}"
_PAGE: Final = "{/id}{?skip,take,ids,partialName}"
_NAMED: Final = "{/id}{?name,skip,ids,take,partialName}"
_SUMMARY: Final = "ids,partialName,machinePartialName"
_OF_MACHINES: Final = "isDisabled,healthStatuses,commStyles,shellNames"
_OF_TARGETS: Final = f"roles,{_OF_MACHINES},tenantIds,tenantTags"

CATEGORIES: Final = ("Canceled", "Created", "Deleted", "LoginSucceeded", "Modified")
"""Of the events that this server keeps."""

_ROOT_LINKS: Final[Json] = {
    "Self": "/api",
    "Authentication": "/api/authentication",
    "CertificateConfiguration": "/api/configuration/certificates{/id}",
    "CurrentUser": "/api/users/me",
    "EventCategories": "/api/events/categories",
    "Events": "/api/events{/id}{?skip,take,regarding,regardingAny,user,users,eventCategories,spaces,from,to}",
    "OctopusServerClusterSummary": "/api/octopusservernodes/summary",
    "OctopusServerNodes": "/api/octopusservernodes{/id}",
    "PermissionDescriptions": "/api/permissions/all",
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
    "UserAuthentication": "/api/users/authentication{/userId}",
    "Users": "/api/users{/id}{?skip,take,ids,filter}",
    "Web": "/app",
    **{name: f"/api/{name.lower()}{_PAGE}" for name in ("ScopedUserRoles", "Teams", "UserRoles")},
}
_SPACE_LINKS: Final[Json] = {
    "Accounts": "accounts{/id}{?skip,take,ids,partialName,accountType}",
    "DiscoverMachine": "machines/discover{?host,port,type}",
    "DiscoverWorker": "workers/discover{?host,port,type}",
    "EnvironmentSortOrder": "environments/sortorder",
    "EnvironmentsSummary": f"environments/summary{{?{_SUMMARY},{_OF_TARGETS},hideEmptyEnvironments}}",
    "MachineOperatingSystems": "machines/operatingsystem/names/all",
    "MachinePolicyTemplate": "machinepolicies/template",
    "MachineRoles": "machineroles/all",
    "Machines": f"machines{{/id}}{{?skip,take,name,ids,partialName,{_OF_TARGETS},environmentIds,thumbprint}}",
    "MachineShells": "machines/operatingsystem/shells/all",
    "Feeds": "feeds{/id}{?feedType,skip,take}",
    "Packages": "packages{/id}{?nuGetPackageId,packageId,filter,latest,skip,take,ids}",
    "PackagesBulk": "packages/bulk{?ids}",
    "PackageUpload": "packages/raw{?replace,overwriteMode}",
    "Artifacts": "artifacts{/id}{?skip,take,regarding}",
    "Tenants": "tenants{/id}{?skip,projectId,name,tags,take,ids,partialName}",
    "WorkerOperatingSystems": "workers/operatingsystem/names/all",
    "WorkerPoolsDynamicWorkerTypes": "workerpools/dynamicworkertypes",
    "WorkerPoolSortOrder": "workerpools/sortorder",
    "WorkerPoolsSortOrder": "workerpools/sortorder",
    "WorkerPoolsSummary": f"workerpools/summary{{?{_SUMMARY},{_OF_MACHINES},hideEmptyWorkerPools}}",
    "WorkerPoolsSupportedTypes": "workerpools/supportedtypes",
    "Workers": f"workers{{/id}}{{?skip,take,name,ids,partialName,{_OF_MACHINES},workerPoolIds,thumbprint}}",
    "WorkerShells": "workers/operatingsystem/shells/all",
    **{name: f"{name.lower()}{_PAGE}" for name in ("Lifecycles", "MachinePolicies", "Proxies", "TagSets")},
    **{name: f"{name.lower()}{_NAMED}" for name in ("Environments", "WorkerPools")},
}


def root_document(identity: ServerIdentity, default_space: str | None, polling: str | None = None) -> Json:
    """Returns what `GET /api` answers to anybody; with the default space's links when there is one, and `polling`, the
    template of the address at which workers poll by HTTPS.
    """
    own = {**_ROOT_LINKS, **({"TentaclePolling": polling} if polling else {})}
    return {**_about(identity), "Links": {**own, **(_space_links(default_space) if default_space else {})}}


def space_document(identity: ServerIdentity, space: str) -> Json:
    """Returns what `GET /api/Spaces-N` answers."""
    links = {"Self": f"/api/{space}", "Tasks": _ROOT_LINKS["Tasks"], "Web": f"/app#/{space}", **_space_links(space)}
    return {**_about(identity), "Id": space, "Links": links}


def _about(identity: ServerIdentity) -> Json:
    versions = {"Version": SERVER_VERSION, "ApiVersion": API_VERSION, "InstallationId": identity.installation}
    support = {"IsEarlyAccessProgram": False, "HasLongTermSupport": True}
    served = f"tentacle devserver {identity.version}"
    return {"Application": "Octopus Deploy", **versions, **support, "ServedBy": served}


def _space_links(space: str) -> Json:
    return {name: f"/api/{space}/{template}" for name, template in _SPACE_LINKS.items()}


_STATUS: Final = linked(
    "/api/serverstatus",
    {"IsInMaintenanceMode": False, "IsUpgradeAvailable": False, "Health": "Healthy"},
    Health="/health",
    SystemInfo="/system-info",
)
_WELL: Final = {"IsOperatingNormally": True, "Description": "The server is operating normally."}
_CLUSTER: Final = {"IsEntireClusterReadOnly": False, "IsEntireClusterDrainingTasks": False}
_HEALTH: Final = linked("/api/serverstatus/health", {**_WELL, **_CLUSTER, "IsCompliantWithLicense": True})
_NAMES: Final = {"Name": "Octopus", "DisplayName": "Octopus", "IdentityType": "UsernamePassword", "Links": {}}
_PROVIDER: Final = {**_NAMES, "FormsLoginEnabled": True, "CSSLinks": [], "JavascriptLinks": []}
_SIGNING_IN: Final = {"AuthenticationProviders": [_PROVIDER], "CanCurrentUserEditIdentitiesForUser": False, "Links": {}}
"""How users sign in, of which there is one way."""


@dataclass(frozen=True)
class RootRoutes:
    server: Server

    def routes(self) -> list[Route]:
        certificate = {"Thumbprint": self.server.identity.thumbprint, "SignatureAlgorithm": "sha256RSA"}
        named = {"Id": "certificate-global", "Name": "Octopus Server certificate", **certificate}
        shown = linked(f"/api/{_CERTIFICATE}", named, PublicCer="/public-cer")
        administer = Needs(("AdministerSystem", "ConfigureServer"))
        documents: tuple[tuple[str, Needs, Any], ...] = (
            (_CERTIFICATES, SIGNED_IN, _page("CertificateConfiguration", _CERTIFICATES, shown)),
            (_CERTIFICATE, SIGNED_IN, shown),
            (_NODES, SIGNED_IN, lambda: _page("OctopusServerNode", _NODES, self._node())),
            (f"{_NODES}/all", SIGNED_IN, lambda: [self._node()]),
            (f"{_NODES}/ping", ANYBODY, self._node_now),
            (f"{_NODES}/summary", SIGNED_IN, lambda: {"Nodes": [self._node_now()], "Links": {}}),
            (_NODE, SIGNED_IN, self._node),
            (f"{_NODE}/details", SIGNED_IN, self._node_details),
            ("serverstatus", SIGNED_IN, _STATUS),
            ("serverstatus/health", SIGNED_IN, _HEALTH),
            ("serverstatus/system-info", administer, self._system),
            ("capabilities", ANYBODY, {"Capabilities": []}),
            ("permissions/all", SIGNED_IN, permissions.permission_descriptions),
            ("events/categories", SIGNED_IN, [{"Id": name, "Name": name, "Links": {}} for name in CATEGORIES]),
            ("authentication", ANYBODY, _SIGNING_IN),
            ("users/authentication", SIGNED_IN, _SIGNING_IN),
            ("users/authentication/{id}", SIGNED_IN, _SIGNING_IN),
        )
        return [
            Route("GET", "", self.root, ANYBODY),
            *(Route("GET", path, partial(answer, document), needs) for path, needs, document in documents),
            Route("GET", f"{_CERTIFICATE}/public-cer", self.certificate, SIGNED_IN),
        ]

    async def root(self, request: ApiRequest) -> Json:
        """The root for everybody; a space's root, for who may do something there."""
        if request.space is None:
            default = await self.server.default_space()
            polling = self.server.polling_template(request.http.url.host)
            return root_document(self.server.identity, default.id if default else None, polling)
        rights = await self.server.authentication.rights_of(request.http, request.method)
        space = await self.server.space_id(request.space)
        if not rights.sees(space):
            raise ResourceNotFound("space", request.space)
        return space_document(self.server.identity, space)

    async def certificate(self, _: ApiRequest) -> web.Response:
        """The certificate that workers trust, for a file that other programs read."""
        shown = {"Content-Disposition": 'attachment; filename="octopus-server.cer"'}
        body = self.server.identity.certificate
        return web.Response(body=body, content_type="application/pkix-cert", headers={**SAFE, **shown})

    def _node(self) -> Json:
        cap = self.server.queue.limits.at_once
        state = {"Id": NODE, "Name": NODE_NAME, "MaxConcurrentTasks": cap, "IsInMaintenanceMode": False}
        return linked(f"/api/{_NODE}", state, Node="", Details="/details")

    def _node_now(self) -> Json:
        """The node as it is at the moment, with the number of tasks that have not ended."""
        state = {"LastSeen": iso(self.server.clock()), "IsOffline": False}
        running = len(self.server.queue.unfinished())
        return {**self._node(), **state, "RunningTaskCount": running, "Version": self.server.identity.version}

    def _node_details(self) -> Json:
        return linked(f"/api/{_NODE}/details", {"Id": NODE, "RunningTasks": len(self.server.queue.unfinished())})

    def _system(self) -> Json:
        """What the server runs on, and for how long."""
        up = format_timespan(max(self.server.clock() - self.server.started, timedelta(0)))
        system = {"OSVersion": platform.platform(), "ClrVersion": f"Python {platform.python_version()}"}
        state = {"Version": self.server.identity.version, "Uptime": up, "ThreadCount": threading.active_count()}
        return linked("/api/serverstatus/system-info", {**system, **state})


def _page(item_type: str, path: str, only: Json) -> Json:
    """A collection of one document."""
    return paged(item_type, f"/api/{path}", {}, [only], lambda found: found)
