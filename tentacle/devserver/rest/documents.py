"""Resources, keys, events and tasks as the JSON documents that clients read, and the text of a task's log
(docs/spec/rest.md, "Resources" and "Task states" and "Task log").

Knows members and paths of the API; must not know the database or HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from html import escape
from typing import Any, Final

from tentacle.devserver.storage import (
    POLICY_DEFAULTS,
    Activity,
    ApiKey,
    Event,
    HealthStatus,
    Json,
    Kind,
    LogElement,
    LogEntry,
    Resource,
    Task,
    TaskState,
    fields,
    kinds,
    permissions,
)
from tentacle.devserver.tasks import FEED

NODE: Final = "OctopusServerNodes-1"
NODE_NAME: Final = "devserver"


def collection_path(kind: Kind, space: str) -> str:
    return f"/api/{space}/{kind.path}" if space else f"/api/{kind.path}"


def path_of(resource: Resource) -> str:
    """Returns the path of a resource, which is also its `Self` link."""
    return f"{collection_path(kinds.KINDS[resource.kind], resource.space)}/{resource.id}"


def linked(path: str, members: Json, **ends: str) -> Json:
    """Returns the document at `path`, with links to what begins with its own path."""
    return {**members, "Links": {"Self": path, **{name: path + end for name, end in ends.items()}}}


def document(resource: Resource) -> Json:
    """Returns the resource as it is answered: `Id` first, `Links` last, without secrets."""
    kind = kinds.KINDS[resource.kind]
    extra = _EXTRAS[kind](resource) if kind in _EXTRAS else {}
    links = {"Self": path_of(resource), **extra.pop("Links", {})}
    scope = {"SpaceId": resource.space} if kind.scoped else {}
    shape = kind.fields
    # An earlier version kept fewer members.
    defaults = {field.name: field.default for field in shape if field.default is not fields.MISSING}
    body = {**defaults, **without_secrets(dict(resource.body)), **extra}
    body |= {field.name: _hidden(body.get(field.name)) for field in shape if field.secret}
    body = {name: value for name, value in body.items() if name not in kind.internal}
    return {"Id": resource.id, **scope, **body, "Links": links}


def without_secrets(value: Any) -> Any:
    """Returns a document of unknown members without the values of those that clients send as sensitive ones."""
    if isinstance(value, dict):
        if "NewValue" in value:
            return _hidden(value["NewValue"] or value.get("HasValue"))
        return {name: without_secrets(inner) for name, inner in value.items()}
    return [without_secrets(inner) for inner in value] if isinstance(value, list) else value


def _hidden(value: Any, hint: str | None = None) -> Json:
    return {"HasValue": bool(value), "NewValue": None, "Hint": hint}


def policy_template(space: str) -> Json:
    """Returns a policy that does not exist yet, with every default."""
    blank = {"Id": None, "SpaceId": space, "Name": "", "Description": None, "IsDefault": False}
    return linked(f"{collection_path(kinds.POLICIES, space)}/template", {**blank, **POLICY_DEFAULTS})


def keys_path(user: str) -> str:
    return f"/api/users/{user}/apikeys"


def key_document(key: ApiKey) -> Json:
    """Returns a key without itself."""
    about = {"Id": key.id, "UserId": key.user, "Purpose": key.purpose, "Created": key.created, "Expires": key.expires}
    return linked(f"{keys_path(key.user)}/{key.id}", {**about, "ApiKey": _hidden(True, key.shown)})


def event_document(event: Event) -> Json:
    event_id, related = f"Events-{event.number}", [event.resource] if event.resource else []
    what = {"Id": event_id, "RelatedDocumentIds": related, "Category": event.category}
    names = {"UserId": event.user, "Username": event.username, "SpaceId": event.space or None}
    how = {"IsService": False, "IdentityEstablishedWith": "", "UserAgent": "", "Occurred": event.occurred}
    said = {"Message": event.message, "MessageHtml": escape(event.message), "MessageReferences": []}
    changes = {"DocumentContext": None, "Differences": None}
    more = {"Comments": None, "Details": None, "ChangeDetails": changes}
    return linked(f"/api/events/{event_id}", {**what, **names, **how, **said, **more})


def status_of(machine: Resource) -> str:
    """Returns the older word for the health of a worker or target."""
    if machine.is_disabled:
        return "Disabled"
    offline = {HealthStatus.UNAVAILABLE: "Offline", HealthStatus.UNKNOWN: "Unknown"}
    return offline.get(machine.health, "Online")


def _machine(resource: Resource) -> Json:
    seen, contact = resource.observed, kinds.communication(resource.body)
    names = ("OperatingSystem", "OperatingSystemVersion", "ShellName", "ShellVersion", "Architecture")
    latest = {"IsInProcess": False, "HasLatestCalamari": seen.get("HasLatestCalamari", True)}
    summary = seen.get("StatusSummary", "This machine has not been checked yet.")
    health = {"Status": status_of(resource), "HealthStatus": resource.health, "StatusSummary": summary}
    where = {"Thumbprint": contact.get("Thumbprint"), "Uri": contact.get("Uri")}
    found = {name: seen.get(name, "Unknown") for name in names}
    links = _links(Connection="/connection", TasksTemplate="/tasks{?skip,take}")(resource)
    return {**latest, **health, **where, **found, "Endpoint": _endpoint(resource), **links}


def _endpoint(resource: Resource) -> Json:
    endpoint, seen = without_secrets(resource.body["Endpoint"]), resource.observed
    names = ("UpgradeLocked", "Version", "UpgradeSuggested", "UpgradeRequired", "UpgradeAvailable")
    versions = {**dict.fromkeys(names, False), "Version": seen.get("TentacleVersion")}
    algorithm = "CertificateSignatureAlgorithm"
    details = {"TentacleVersionDetails": versions, algorithm: seen.get(algorithm)}
    if "TentacleEndpointConfiguration" in endpoint:
        endpoint["TentacleEndpointConfiguration"] = {**endpoint["TentacleEndpointConfiguration"], **details}
    elif "Uri" in endpoint:
        endpoint.update(details)
    elif "Host" in endpoint:
        endpoint["Uri"] = f"ssh://{endpoint['Host']}:{endpoint['Port']}/"
    return {**endpoint, "Id": None, "LastModifiedOn": None, "LastModifiedBy": None, "Links": {}}


def _tag_set(resource: Resource) -> Json:
    def shown(number: int, tag: Json) -> Json:
        names = {"Id": f"{resource.id}/Tags-{number}", "CanonicalTagName": f"{resource.name}/{tag['Name']}"}
        return {**names, "SortOrder": number, **tag}

    return {"Tags": [shown(number, tag) for number, tag in enumerate(resource.body["Tags"], 1)]}


def _links(**templates: str) -> Callable[[Resource], Json]:
    """What is added is links alone, each a template that follows the resource's path."""
    return lambda resource: {"Links": {name: path_of(resource) + end for name, end in templates.items()}}


def _user(user: Resource) -> Json:
    """What a user may is found by these links; the password is never shown, not even whether there is one."""
    rights = {"Permissions": "/permissions", "PermissionsConfiguration": "/permissions/configuration"}
    more = {"Spaces": "/spaces", "Teams": "/teams", "RevokeSessions": "/revoke-sessions"}
    no_others: Json = {"Identities": [], "Password": None, "IsRequestor": False, "CanPasswordBeEdited": True}
    return {**no_others, **_links(**rights, **more, ApiKeys="/apikeys{/id}{?skip,take}")(user)}


def _team(team: Resource) -> Json:
    own = team.id not in permissions.BUILT_IN_TEAMS
    may: Json = dict.fromkeys(("CanBeDeleted", "CanBeRenamed", "CanChangeRoles"), own)
    may["CanChangeMembers"] = team.id != permissions.EVERYONE
    return {**may, "ExternalSecurityGroups": [], **_links(ScopedUserRoles="/scopeduserroles{?skip,take}")(team)}


def _pool(pool: Resource) -> Json:
    links = _links(Workers="/workers{?skip,take,partialName,isDisabled,healthStatuses,commStyles}")
    return {"CanAddWorkers": pool.body["WorkerPoolType"] == kinds.POOL_TYPES[0], **links(pool)}


def _package(package: Resource) -> Json:
    named = {"NuGetPackageId": package.body["PackageId"], "Title": package.body["PackageId"]}
    nothing = dict.fromkeys(("Summary", "Description", "ReleaseNotes"))
    links = {**_links(Raw="/raw")(package)["Links"], "Feed": f"/api/{package.space}/feeds/{FEED}"}
    return {**named, "FeedId": FEED, "NuGetFeedId": FEED, **nothing, "Links": links}


_PAGED: Final = "{?skip,take}"
_EXTRAS: Final[Mapping[Kind, Callable[[Resource], Json]]] = {
    kinds.WORKERS: _machine,
    kinds.MACHINES: _machine,
    kinds.POOLS: _pool,
    kinds.POLICIES: _links(Workers=f"/workers{_PAGED}", Machines=f"/machines{_PAGED}", Devices=f"/machines{_PAGED}"),
    kinds.ENVIRONMENTS: _links(Machines="/machines{?skip,take,partialName,roles,isDisabled,healthStatuses,commStyles}"),
    kinds.TAG_SETS: _tag_set,
    kinds.ARTIFACTS: _links(Content="/content"),
    kinds.PACKAGES: _package,
    kinds.ACCOUNTS: _links(Usages="/usages"),
    kinds.LIFECYCLES: _links(Projects="/projects"),
    kinds.SPACES: lambda space: {"Links": {"SpaceHome": f"/api/{space.id}", "Web": f"/app#/{space.id}"}},
    kinds.USERS: _user,
    kinds.TEAMS: _team,
    kinds.USER_ROLES: lambda role: {
        "CanBeDeleted": role.id not in permissions.BUILT_IN_ROLES,
        "SupportedRestrictions": [],
        "SpacePermissionDescriptions": role.body["GrantedSpacePermissions"],
        "SystemPermissionDescriptions": role.body["GrantedSystemPermissions"],
    },
    kinds.SCOPED_ROLES: lambda _: {"ProjectGroupIds": [], "ProjectIds": [], "EnvironmentIds": [], "TenantIds": []},
}


def task_path(task: Task) -> str:
    return f"/api/tasks/{task.id}"


def task_document(task: Task) -> Json:
    path, ended, last = task_path(task), task.state.final, task.completed or task.started or task.queued
    if task.started is None:
        duration = "Not started"
    elif task.completed is None:
        duration = "Running"
    else:
        span = datetime.fromisoformat(task.completed) - datetime.fromisoformat(task.started)
        duration = f"{max(span, timedelta(0)).total_seconds():.0f} seconds"
    about = {"Id": task.id, "SpaceId": task.space, "Name": task.name, "Description": task.description}
    state = {"Arguments": dict(task.arguments), "State": task.state, "Completed": task.completed or f"{task.state}..."}
    queue = {"QueueTime": task.queued, "QueueTimeExpiry": None, "StartTime": task.started, "LastUpdatedTime": last}
    times = {"CompletedTime": task.completed, "ServerNode": NODE_NAME, "Duration": duration, "ErrorMessage": task.error}
    links = {
        "Self": path,
        "Details": f"{path}/details{{?verbose,tail}}",
        "Raw": f"{path}/raw{{?follow,plain,verbose}}",
        "Rerun": f"/api/tasks/rerun/{task.id}",
        **{name: f"{path}/{name.lower()}" for name in ("Cancel", "Prioritize", "State")},
        "QueuedBehind": f"{path}/queued-behind{_PAGED}",
    }
    return {
        **about,
        **state,
        **queue,
        **times,
        "HasBeenPickedUpByProcessor": task.started is not None,
        "IsCompleted": ended,
        "FinishedSuccessfully": task.state is TaskState.SUCCESS,
        "HasPendingInterruptions": False,
        "CanRerun": ended,
        "HasWarningsOrErrors": task.has_warnings_or_errors,
        "Links": links,
    }


def details_document(
    task: Task, activities: Sequence[Activity], lines: Mapping[str, Sequence[LogElement]], size: int
) -> Json:
    """Returns the tree of activities, each with its `lines`; `size` counts the characters of all lines."""
    nodes: dict[str, Json] = {}
    roots: list[Json] = []
    for activity in activities:
        about = {"Id": activity.id, "Name": activity.name, "Started": activity.started, "Ended": activity.ended}
        shown = {"Status": activity.status, "Children": [], "ShowAtSummaryLevel": True}
        entries = [{**entry_document(e), "Number": e.number} for e in lines.get(activity.id, ())]
        progress = {"ProgressPercentage": activity.progress, "ProgressMessage": activity.progress_message}
        outputs = [{"Name": n, "Value": v, "IsSensitive": v is None} for n, v in activity.outputs.items()]
        nodes[activity.id] = {**about, **shown, "LogElements": entries, **progress, "OutputVariables": outputs}
        # Parents come before their children.
        siblings = nodes[activity.parent]["Children"] if activity.parent in nodes else roots
        siblings.append(nodes[activity.id])
    percentage = 100 if task.state.final else max((a.progress for a in activities), default=0)
    progress = {"ProgressPercentage": percentage, "EstimatedTimeRemaining": ""}
    shown = {"Task": task_document(task), "ActivityLogs": roots, "Progress": progress, "PhysicalLogSize": size}
    path = task_path(task)
    return {**shown, "Links": {"Self": f"{path}/details", "Task": path, "Raw": f"{path}/raw"}}


def entry_document(entry: LogEntry) -> Json:
    return {"Category": entry.category, "OccurredAt": entry.occurred, "MessageText": entry.text, "Detail": None}


def raw_head(task: Task) -> str:
    return (
        f"Task ID:        {task.id}\nTask name:      {task.description}\nTask status:    {task.state}\n"
        f"Task queued:    {task.queued}\nTask started:   {task.started or '-'}\n"
        f"Task completed: {task.completed or '-'}\n\n"
    )


def raw_line(entry: LogEntry) -> str:
    """Returns `hh:mm:ss   Category  |   text`."""
    return f"{entry.occurred[11:19]}   {entry.category:<9}|   {entry.text}\n"
