"""Pages and filters of collections (tentacle-cli.md 6.1).

Knows query parameters and documents; must not know storage or routes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import quote, urlencode

from tentacle.devserver.rest.documents import communication, health_of
from tentacle.devserver.rest.problems import Invalid
from tentacle.devserver.storage.model import Json, Resource

T = TypeVar("T")
Query = Mapping[str, str]

DEFAULT_TAKE: Final = 30
EVERYTHING: Final = 2**31 - 1


@dataclass(frozen=True)
class Page:
    """Which part of a collection is asked for."""

    skip: int
    take: int


def read_page(query: Query) -> Page:
    """Raises `Invalid` for what is no number or below zero; a `take` of 0 is a page without items."""
    return Page(_count(query, "skip", 0), _count(query, "take", DEFAULT_TAKE))


def _count(query: Query, name: str, otherwise: int) -> int:
    text = query.get(name, "").strip()
    if not text:
        return otherwise
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) <= EVERYTHING):
        raise Invalid(f"The parameter '{name}' must be a whole number from 0 to {EVERYTHING}.")
    return int(text)


def paged(item_type: str, path: str, query: Query, items: Sequence[T], show: Callable[[T], Json]) -> Json:
    """One page of `items` with its links; `Page.Next` is there only when more follows."""
    page = read_page(query)
    shown = items[page.skip : page.skip + page.take]
    per_page = max(page.take, 1)
    last = max(0, (len(items) - 1) // per_page)
    filters = {name: value for name, value in query.items() if name not in ("skip", "take")}

    def link(skip: int, take: int = page.take) -> str:
        return f"{path}?{urlencode({'skip': skip, 'take': take, **filters}, quote_via=quote)}"

    links = {
        "Self": link(page.skip),
        "Template": f"{path}{{?skip,take,ids,name,partialName}}",
        "Page.All": link(0, EVERYTHING),
        "Page.Current": link(page.skip),
        "Page.Last": link(last * per_page),
    }
    if page.take and page.skip + page.take < len(items):
        links["Page.Next"] = link(page.skip + page.take)
    return {
        "ItemType": item_type,
        "TotalResults": len(items),
        "ItemsPerPage": page.take,
        "NumberOfPages": last + 1,
        "LastPageNumber": last,
        "IsStale": False,
        "Items": [show(item) for item in shown],
        "Links": links,
    }


def chosen(resources: Sequence[Resource], query: Query) -> list[Resource]:
    """The resources that every given filter lets through; parameters that are no filters do not matter."""
    tests = [make(query[name]) for name, make in _FILTERS.items() if query.get(name, "").strip()]
    return [resource for resource in resources if all(test(resource) for test in tests)]


Test = Callable[[Resource], bool]


def several(value: str) -> frozenset[str]:
    """The entries of a comma-separated parameter, in lower case."""
    return frozenset(part.strip().lower() for part in value.split(",") if part.strip())


def _by_name(value: str) -> Test:
    wanted = value.strip().casefold()
    return lambda resource: resource.name.strip().casefold() == wanted


def _by_part(value: str) -> Test:
    wanted = value.strip().casefold()
    return lambda resource: wanted in resource.name.casefold()


def _one_of(read: Callable[[Resource], str]) -> Callable[[str], Test]:
    def make(value: str) -> Test:
        wanted = several(value)
        return lambda resource: read(resource).lower() in wanted

    return make


def _any_of(member: str) -> Callable[[str], Test]:
    def make(value: str) -> Test:
        wanted = several(value)
        return lambda resource: any(str(v).lower() in wanted for v in resource.body.get(member, ()))

    return make


def _is_machine(resource: Resource) -> bool:
    return "Endpoint" in resource.body


_FILTERS: Final[Mapping[str, Callable[[str], Test]]] = {
    "ids": _one_of(lambda resource: resource.id),
    "name": _by_name,
    "partialname": _by_part,
    "filter": _by_part,
    "thumbprint": _one_of(lambda r: communication(r.body)["Thumbprint"] if _is_machine(r) else ""),
    "isdisabled": _one_of(lambda r: str(bool(r.body.get("IsDisabled")))),
    "healthstatuses": _one_of(lambda r: health_of(r) if _is_machine(r) else ""),
    "commstyles": _one_of(lambda r: r.body["Endpoint"]["CommunicationStyle"] if _is_machine(r) else ""),
    "shellnames": _one_of(lambda r: str(r.observed.get("ShellName", "Unknown"))),
    "workerpoolids": _any_of("WorkerPoolIds"),
    "environmentids": _any_of("EnvironmentIds"),
    "roles": _any_of("Roles"),
    "tenantids": _any_of("TenantIds"),
    "tenanttags": _any_of("TenantTags"),
}
"""By the parameter's name in lower case."""
