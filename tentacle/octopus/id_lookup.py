"""Finds the server's ids of what a person wrote: names, slugs or ids.

Knows the order of the search and the exact messages (docs/spec/rest.md, "Looking up names").  The user can always fix
what is not found, so the exit code is 1 throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from tentacle.octopus.client import OctopusClient
from tentacle.octopus.errors import NotFound, RegistrationError, ValidationFailed
from tentacle.octopus.json_document import JsonDocument, same_name
from tentacle.octopus.link_templates import expand, parameters_of
from tentacle.octopus.spaces import Scope


async def find_by_name(client: OctopusClient, template: str, name: str) -> JsonDocument | None:
    """The document called `name` in the collection of `template`; None when there is none.

    The server filters by name where its template has that parameter.  The result is always checked.
    """
    return await client.find(expand(template, name=name), lambda item: same_name(item.text("Name"), name))


async def policy_id(client: OctopusClient, scope: Scope, name: str) -> str:
    """The id of the machine policy called `name`.  Raises `RegistrationError`."""
    return await _named_id(client, scope.link("MachinePolicies"), name, "machine policy")


async def proxy_id(client: OctopusClient, scope: Scope, name: str) -> str:
    """The id of the server's proxy called `name`.  Raises `RegistrationError`."""
    return await _named_id(client, scope.link("Proxies"), name, "proxy name")


async def pool_ids(client: OctopusClient, scope: Scope, wanted: Sequence[str]) -> tuple[str, ...]:
    """The ids of worker pools by name, slug or id.  Raises `RegistrationError`."""
    return await _ids(client, scope.link("WorkerPools"), wanted, "worker pool")


async def pool_names(client: OctopusClient, scope: Scope) -> tuple[str, ...]:
    """The names of all worker pools, in the server's order."""
    return tuple(pool.text("Name") or "" for pool in await client.collection(expand(scope.link("WorkerPools"))))


async def tenant_ids(client: OctopusClient, scope: Scope, wanted: Sequence[str]) -> tuple[str, ...]:
    """The ids of tenants by name, slug or id; no request when none is wanted.  Raises `RegistrationError`."""
    return await _ids(client, scope.link("Tenants"), wanted, "tenant") if wanted else ()


async def environment_ids(client: OctopusClient, scope: Scope, wanted: Sequence[str]) -> tuple[str, ...]:
    """The ids of environments by name, slug or id.  Raises `RegistrationError`.

    They are looked for in the collection behind the link `Environments`, then among the second version of environments,
    which has no link (docs/spec/rest.md, "Requests of a registration").
    """
    search = _Search(wanted)
    template = scope.find_link("Environments")
    if template is not None:
        try:
            await _match(client, template, search)
        except NotFound:
            template = None
    if search.missing and scope.space_id is not None:
        second = expand("~/api/{spaceId}/environments/v2?skip=0&take=2147483647", spaceId=scope.space_id)
        try:
            search.look_in(await client.collection(second))
        except NotFound:
            if template is None:
                scope.link("Environments")
    return search.result("environment")


async def check_tenant_tags(client: OctopusClient, scope: Scope, tags: Sequence[str]) -> None:
    """Raises `RegistrationError` for tags that no tag set has; no request when there are none to check."""
    if not tags:
        return
    known = {
        (tag.text("CanonicalTagName") or "").lower()
        for tag_set in await client.collection(expand(scope.link("TagSets")))
        for tag in tag_set.objects("Tags")
    }
    missing = [tag for tag in tags if tag.lower() not in known]
    if missing:
        raise _not_found("tag", missing, one="named", many="named:")


class _Search:
    """What is wanted, and what was found so far: by name, then slug, then id, each in the server's order."""

    def __init__(self, wanted: Sequence[str]) -> None:
        self.missing = [text.strip() for text in wanted if text.strip()]
        self._found: dict[str, str] = {}

    def look_in(self, items: Sequence[JsonDocument]) -> None:
        for member in ("Name", "Slug", "Id"):
            hits = [item for item in items if any(same_name(item.text(member), text) for text in self.missing)]
            for item in hits:
                identifier = item.require("Id")
                self._found.setdefault(identifier.lower(), identifier)
            self.missing = [text for text in self.missing if not any(same_name(hit.text(member), text) for hit in hits)]

    def result(self, noun: str) -> tuple[str, ...]:
        if self.missing:
            raise _not_found(noun, self.missing, one="with name, slug or Id", many="with names, slugs or Ids:")
        return tuple(self._found.values())


async def _ids(client: OctopusClient, template: str, wanted: Sequence[str], noun: str) -> tuple[str, ...]:
    search = _Search(wanted)
    await _match(client, template, search)
    return search.result(noun)


async def _match(client: OctopusClient, template: str, search: _Search) -> None:
    """Searches the whole collection, then asks by id for what is missing: the list may not show everything."""
    search.look_in(await client.collection(expand(template)))
    if search.missing and "ids" in parameters_of(template):
        # A server may refuse a text that does not look like an id.
        with suppress(NotFound, ValidationFailed):
            search.look_in(await client.collection(expand(template, ids=search.missing)))


async def _named_id(client: OctopusClient, template: str, name: str, noun: str) -> str:
    found = await find_by_name(client, template, name)
    if found is None:
        raise _not_found(noun, [name], one="named", many="named:")
    return found.require("Id")


def _not_found(noun: str, missing: Sequence[str], *, one: str, many: str) -> RegistrationError:
    if len(missing) == 1:
        return RegistrationError(
            f"Could not find the {noun} {one} {missing[0]} on the Octopus Server. "
            f"Ensure the {noun} exists and you have permission to access it."
        )
    return RegistrationError(
        f"Could not find the {noun}s {many} {', '.join(missing)} on the Octopus Server. "
        f"Ensure the {noun}s exist and you have permission to access them."
    )
