"""Chooses the space of a server that a command works in, and finds that space's links.

Knows the rules of choosing (docs/spec/rest.md, "Choosing the space").  Knows nothing of what is done in the space.
"""

from __future__ import annotations

from contextlib import suppress

from tentacle.octopus.client import OctopusClient
from tentacle.octopus.errors import NotFound, RegistrationError, UnexpectedAnswer
from tentacle.octopus.json_document import JsonDocument, printable, same_name
from tentacle.octopus.link_templates import expand, space_links
from tentacle.records import dataclass


@dataclass(frozen=True)
class Scope:
    """A server's root document and, where there are spaces, one space with its root document, `home`."""

    root: JsonDocument
    space_id: str | None = None
    space_name: str | None = None
    home: JsonDocument | None = None

    def find_link(self, *names: str) -> str | None:
        """The first of `names` that is a link; for each, the space's root document comes before the server's."""
        places = [document for document in (self.home, self.root) if document is not None]
        return next((link for name in names for place in places if (link := place.link(name))), None)

    def link(self, *names: str) -> str:
        """Like `find_link`.  Raises `UnexpectedAnswer` naming the missing link."""
        found = self.find_link(*names)
        if found is None:
            where = f"space '{printable(self.space_name)}'" if self.space_name else "server"
            raise UnexpectedAnswer(
                f"The {where} has no link '{names[0]}' in its root document.",
                hint="The server may be too old or of another make, or these credentials may see too little of it.",
            )
        return found


async def choose_scope(client: OctopusClient, name: str | None) -> Scope:
    """Returns the scope of the space called `name`, or of the default space when `name` is empty or None.

    Raises `RegistrationError` with the messages of docs/spec/rest.md, "Choosing the space", and any `OctopusError`.
    """
    root = await client.root()
    if root.link("Spaces") is None:
        if name:
            raise RegistrationError(
                f'A space with name "{name}" was requested, but this version of Octopus Server does not support '
                "spaces. Please upgrade Octopus Server to a version which supports spaces, or remove the "
                '"space" parameter.'
            )
        return Scope(root)
    space = _choose(await _visible_spaces(client, root), name)
    space_id = space.require("Id")
    template = space.link("SpaceHome") or root.link("SpaceHome")
    if template is None:
        raise UnexpectedAnswer(f"The space '{printable(space.text('Name'))}' has no link 'SpaceHome'.")
    home = await client.get(expand(template, id=space_id, spaceId=space_id))
    return Scope(root, space_id, space.text("Name"), home.with_default_links(space_links(space_id)))


async def _visible_spaces(client: OctopusClient, root: JsonDocument) -> list[JsonDocument]:
    """The spaces that this user may see: by the user's own link, else by the root's."""
    current = root.link("CurrentUser")
    if current is not None:
        with suppress(NotFound):
            link = (await client.get(expand(current))).link("Spaces")
            if link is not None:
                return await client.collection(expand(link))
    try:
        return await client.collection(expand(root.require_link("Spaces"), id="all"))
    except NotFound:
        return await client.collection(expand(root.require_link("Spaces")))


def _choose(spaces: list[JsonDocument], name: str | None) -> JsonDocument:
    if not name:
        default = next((space for space in spaces if space.flag("IsDefault")), None)
        if default is None:
            raise RegistrationError(
                'No "space" was specified, and the default space is disabled or inaccessible to this user. '
                'Please select a space using the "space" parameter.'
            )
        return default
    found = [space for space in spaces if same_name(space.text("Name"), name)]
    if not found:
        raise RegistrationError(
            f'A space with name "{name}" could not be found. Ensure you have spelled the space name correctly and '
            "that the user has access to this space."
        )
    if len(found) > 1:
        raise RegistrationError(f'{len(found)} spaces are named "{name}".', hint="Rename all but one of them.")
    return found[0]
