"""Query parameters: numbers and flags, pages of collections, and filters (docs/spec/rest.md, "Resources").

Knows query parameters, resources and tasks; must not know the database or routes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

from tentacle.devserver.rest.documents import NODE, NODE_NAME
from tentacle.devserver.storage import Event, Invalid, Json, Resource, Task, TaskState, fields, kinds

T = TypeVar("T")
Query = Mapping[str, str]
"""Parameters by their names in lower case."""

DEFAULT_TAKE: Final = 30
EVERYTHING: Final = 2**31 - 1
_TRUE: Final = frozenset({"true", "1", "yes"})


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


# --- pages -----------------------------------------------------------------------------------------------------


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


# --- filters ---------------------------------------------------------------------------------------------------

Test = Callable[[T], bool]
Filters = Mapping[str, Callable[[str], Test[T]]]
"""By the parameter's name in lower case: makes the test that the parameter's value asks for."""


def filtered(items: Sequence[T], query: Query, filters: Filters[T]) -> list[T]:
    """Returns the items that pass every given filter; parameters that are no filters do not matter."""
    tests = [make(query[name]) for name, make in filters.items() if query.get(name, "").strip()]
    return [item for item in items if all(test(item) for test in tests)]


def _several(value: str) -> frozenset[str]:
    """Returns the entries of a comma-separated parameter, in lower case."""
    return frozenset(part.strip().lower() for part in value.split(",") if part.strip())


def _one_of(read: Callable[[Any], str]) -> Callable[[str], Test[Any]]:
    def make(value: str) -> Test[Any]:
        wanted = _several(value)
        return lambda item: read(item).lower() in wanted

    return make


def _any_of(member: str) -> Callable[[str], Test[Resource]]:
    def make(value: str) -> Test[Resource]:
        wanted = _several(value)
        return lambda resource: resource.names_any(member, wanted)

    return make


def _flag_of(read: Callable[[Any], bool]) -> Callable[[str], Test[Any]]:
    return lambda value: lambda item: read(item) == (value.strip().lower() in _TRUE)


def _if_wanted(test: Test[Task]) -> Callable[[str], Test[Task]]:
    return lambda value: test if value.strip().lower() in _TRUE else lambda _: True


def _part_of(*read: Callable[[Any], str]) -> Callable[[str], Test[Any]]:
    def make(value: str) -> Test[Any]:
        wanted = value.strip().casefold()
        return lambda item: any(wanted in part(item).casefold() for part in read)

    return make


def _nothing(_: str) -> Test[Any]:
    """A filter by what this server does not have: no item passes it."""
    return lambda _: False


def _spaces_of(read: Callable[[Any], str]) -> Callable[[str], Test[Any]]:
    return lambda value: (lambda _: True) if value.strip().lower() == "all" else _one_of(read)(value)


RESOURCE_FILTERS: Final[Filters[Resource]] = {
    "ids": _one_of(lambda resource: resource.id),
    "name": lambda value: lambda resource: resource.name.strip().casefold() == value.strip().casefold(),
    "partialname": _part_of(lambda r: r.name),
    "filter": _part_of(
        lambda r: r.name, lambda r: r.body.get("DisplayName") or "", lambda r: r.body.get("EmailAddress") or ""
    ),
    "thumbprint": _one_of(
        lambda r: kinds.communication(r.body).get("Thumbprint") or "" if "Endpoint" in r.body else ""
    ),
    "isdisabled": _flag_of(lambda r: r.is_disabled),
    "accounttype": _one_of(lambda r: r.body.get("AccountType") or "None"),
    "healthstatuses": _one_of(lambda r: r.health if "Endpoint" in r.body else ""),
    "commstyles": _one_of(lambda r: r.body["Endpoint"]["CommunicationStyle"] if "Endpoint" in r.body else ""),
    "shellnames": _one_of(lambda r: str(r.observed.get("ShellName", "Unknown"))),
    **{name.lower(): _any_of(name) for name in ("WorkerPoolIds", "EnvironmentIds", "Roles", "TenantIds", "TenantTags")},
    "tags": _any_of("TenantTags"),
    "projectid": _any_of("ProjectEnvironments"),
}
TASK_FILTERS: Final[Filters[Task]] = {
    "ids": _one_of(lambda task: task.id),
    "name": _one_of(lambda task: task.name),
    "partialname": _part_of(lambda task: task.name, lambda task: task.description),
    "description": _part_of(lambda task: task.description),
    "states": _one_of(lambda task: task.state),
    "spaces": _spaces_of(lambda task: task.space),
    "environment": lambda value: lambda task: value.strip().lower() in _environments(task),
    "project": _nothing,
    "tenant": _nothing,
    "node": lambda value: lambda _: value.strip().lower() in (NODE.lower(), NODE_NAME),
    "active": _if_wanted(lambda task: not task.state.final),
    "running": _if_wanted(lambda task: task.state in (TaskState.EXECUTING, TaskState.CANCELLING)),
    "haspendinginterruptions": _flag_of(lambda _: False),
    "haswarningsorerrors": _flag_of(lambda task: task.has_warnings_or_errors),
}
EVENT_FILTERS: Final[Filters[Event]] = {
    "regarding": _one_of(lambda event: event.resource),
    "regardingany": _one_of(lambda event: event.resource),
    "user": _one_of(lambda event: event.user),
    "users": _one_of(lambda event: event.user),
    "eventcategories": _one_of(lambda event: event.category),
    "spaces": _spaces_of(lambda event: event.space),
    "from": lambda value: lambda event: event.occurred >= _moment("from", value),
    "to": lambda value: lambda event: event.occurred <= _moment("to", value),
}


def _environments(task: Task) -> set[str]:
    named = [task.arguments.get("EnvironmentId"), *(task.arguments.get("EnvironmentIds") or ())]
    return {str(name).lower() for name in named if name}


def _moment(name: str, value: str) -> str:
    try:
        # A plus in a query is a blank unless it was written otherwise.
        return fields.moment(value.strip().replace(" ", "+"))
    except ValueError as error:
        raise Invalid(f"The parameter '{name}' {error}.") from error
