"""Query parameters: numbers and flags, pages of collections, and filters (docs/spec/rest.md, "Resources").

Knows query parameters, resources and tasks; must not know the database or routes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Final, TypeVar
from urllib.parse import quote, urlencode

from tentacle.devserver.rest.documents import NODE, NODE_NAME
from tentacle.devserver.storage import Event, Invalid, Json, Resource, Task, TaskState, fields, kinds

S = TypeVar("S")
T = TypeVar("T")
Query = Mapping[str, str]
"""Parameters by their names in lower case."""

DEFAULT_TAKE: Final = 30
EVERYTHING: Final = 2**31 - 1
_TRUE: Final = frozenset({"true", "1", "yes"})


def parameter(name: str, value: str, read: Callable[[str], S]) -> S:
    """Returns what a reader of `fields` makes of a parameter.  Raises `Invalid`."""
    try:
        return read(value)
    except ValueError as error:
        raise Invalid(f"The parameter '{name}' {error}.") from error


def number_parameter(query: Query, name: str, otherwise: int) -> int:
    """Raises `Invalid` for what is no number or below zero."""
    written = query.get(name, "").strip()
    found = fields.whole_number(written, EVERYTHING) if written else otherwise
    if found is None:
        raise Invalid(f"The parameter '{name}' must be a whole number from 0 to {EVERYTHING}.")
    return found


def flag_parameter(query: Query, name: str, *, otherwise: bool = False) -> bool:
    written = query.get(name, "").strip().lower()
    return written in _TRUE if written else otherwise


def paged(item_type: str, path: str, query: Query, items: Sequence[T], show: Callable[[T], Json]) -> Json:
    """Returns the page of `items` that `skip` and `take` ask for; `Page.Next` is there only when more follows.

    A `take` of 0 is a page without items.  Raises `Invalid`.
    """
    skip, take = number_parameter(query, "skip", 0), number_parameter(query, "take", DEFAULT_TAKE)
    last = max(0, (len(items) - 1) // max(take, 1))
    filters = {name: value for name, value in query.items() if name not in ("skip", "take")}

    def link(skip: int, take: int = take) -> str:
        return f"{path}?{urlencode({'skip': skip, 'take': take, **filters}, quote_via=quote)}"

    links = {
        "Self": link(skip),
        "Template": f"{path}{{?skip,take,ids,name,partialName}}",
        "Page.All": link(0, EVERYTHING),
        "Page.Current": link(skip),
        "Page.Last": link(last * max(take, 1)),
    }
    if take and skip + take < len(items):
        links["Page.Next"] = link(skip + take)
    count = {"TotalResults": len(items), "ItemsPerPage": take, "NumberOfPages": last + 1, "LastPageNumber": last}
    found = [show(item) for item in items[skip : skip + take]]
    return {"ItemType": item_type, **count, "IsStale": False, "Items": found, "Links": links}


Filters = Mapping[str, Callable[[T, str], bool]]
"""By the parameter's name in lower case: whether something passes a filter with this value."""


def filtered(items: Sequence[T], query: Query, filters: Filters[T]) -> list[T]:
    """Returns the items that pass every given filter; parameters that are no filters do not matter."""
    given = [(passes, value) for name, passes in filters.items() if (value := query.get(name, "").strip())]
    return [item for item in items if all(passes(item, value) for passes, value in given)]


@lru_cache(maxsize=64)
def _several(value: str) -> frozenset[str]:
    """Returns the entries of a comma-separated parameter, in lower case; each item is held against them."""
    return frozenset(part.strip().lower() for part in value.split(",") if part.strip())


def _among(found: object, value: str) -> bool:
    return str(found or "").lower() in _several(value)


def _part_of(value: str, *texts: str | None) -> bool:
    return any(value.casefold() in text.casefold() for text in texts if text)


def _wants(value: str) -> bool:
    return value.lower() in _TRUE


def _names_any(member: str, resource: Resource, value: str) -> bool:
    return resource.names_any(member, _several(value))


def _in_spaces(one: Task | Event, value: str) -> bool:
    return value.lower() == "all" or _among(one.space, value)


_LISTS: Final = ("WorkerPoolIds", "EnvironmentIds", "Roles", "TenantIds", "TenantTags")
RESOURCE_FILTERS: Final[Filters[Resource]] = {
    "ids": lambda r, value: _among(r.id, value),
    "name": lambda r, value: r.name.strip().casefold() == value.casefold(),
    "partialname": lambda r, value: _part_of(value, r.name),
    "filter": lambda r, value: _part_of(value, r.name, r.body.get("DisplayName"), r.body.get("EmailAddress")),
    "thumbprint": lambda r, value: (
        "Endpoint" in r.body and _among(kinds.communication(r.body).get("Thumbprint"), value)
    ),
    "isdisabled": lambda r, value: r.is_disabled == _wants(value),
    "accounttype": lambda r, value: _among(r.body.get("AccountType") or "None", value),
    "healthstatuses": lambda r, value: "Endpoint" in r.body and _among(r.health, value),
    "commstyles": lambda r, value: "Endpoint" in r.body and _among(r.body["Endpoint"]["CommunicationStyle"], value),
    "shellnames": lambda r, value: _among(r.observed.get("ShellName", "Unknown"), value),
    "tags": partial(_names_any, "TenantTags"),
    "projectid": partial(_names_any, "ProjectEnvironments"),
    "packageid": lambda r, value: _among(r.body.get("PackageId"), value),
    "nugetpackageid": lambda r, value: _among(r.body.get("PackageId"), value),
    "regarding": lambda r, value: _among(r.body.get("ServerTaskId"), value),
    **{name.lower(): partial(_names_any, name) for name in _LISTS},
}
TASK_FILTERS: Final[Filters[Task]] = {
    "ids": lambda task, value: _among(task.id, value),
    "name": lambda task, value: _among(task.name, value),
    "partialname": lambda task, value: _part_of(value, task.name, task.description),
    "description": lambda task, value: _part_of(value, task.description),
    "states": lambda task, value: _among(task.state, value),
    "spaces": _in_spaces,
    "environment": lambda task, value: value.lower() in _environments(task),
    # Nothing here belongs to a project or a tenant.
    "project": lambda *_: False,
    "tenant": lambda *_: False,
    "node": lambda _, value: value.lower() in (NODE.lower(), NODE_NAME),
    "active": lambda task, value: not (_wants(value) and task.state.final),
    "running": lambda task, value: not _wants(value) or task.state in (TaskState.EXECUTING, TaskState.CANCELLING),
    "haspendinginterruptions": lambda _, value: not _wants(value),
    "haswarningsorerrors": lambda task, value: task.has_warnings_or_errors == _wants(value),
}
EVENT_FILTERS: Final[Filters[Event]] = {
    **{name: lambda event, value: _among(event.resource, value) for name in ("regarding", "regardingany")},
    **{name: lambda event, value: _among(event.user, value) for name in ("user", "users")},
    "eventcategories": lambda event, value: _among(event.category, value),
    "spaces": _in_spaces,
    # A plus in a query is a blank unless it was written otherwise.
    "from": lambda event, value: event.occurred >= parameter("from", value.replace(" ", "+"), fields.moment),
    "to": lambda event, value: event.occurred <= parameter("to", value.replace(" ", "+"), fields.moment),
}


def _environments(task: Task) -> set[str]:
    named = [task.arguments.get("EnvironmentId"), *(task.arguments.get("EnvironmentIds") or ())]
    return {str(name).lower() for name in named if name}
