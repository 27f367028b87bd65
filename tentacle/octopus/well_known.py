"""Where things are on a server that does not say so: the paths that every Octopus Server has had for years.

Used only for a document without any links at all.  One that has links and lacks one means it: an old server has no
`Spaces`, and a user who may not see worker pools gets no link to them (tentacle-cli.md 5.5).  Pure text.
"""

from __future__ import annotations

from urllib.parse import quote

from tentacle.octopus.document import Document

_ROOT = {
    "Self": "~/api",
    "CurrentUser": "~/api/users/me",
    "SignIn": "~/api/users/login",
    "Spaces": "~/api/spaces{/id}{?skip,take}",
    "SpaceHome": "~/api/{spaceId}",
    "CertificateConfiguration": "~/api/configuration/certificates{/id}",
}
_SPACE = {
    "Workers": "/workers{/id}{?skip,take,name,ids,thumbprint}",
    "Machines": "/machines{/id}{?skip,take,name,ids,thumbprint}",
    "WorkerPools": "/workerpools{/id}{?skip,take,ids}",
    "MachinePolicies": "/machinepolicies{/id}{?skip,take,ids}",
    "Proxies": "/proxies{/id}{?skip,take,ids}",
    "Environments": "/environments{/id}{?skip,take,ids}",
    "Tenants": "/tenants{/id}{?skip,take,ids}",
    "TagSets": "/tagsets{/id}{?skip,take,ids}",
}


def linked_root(root: Document) -> Document:
    """A server's root document, with the well-known links when it has none."""
    return root if root.links else root.linking(_ROOT)


def linked_home(home: Document, space_id: str) -> Document:
    """The root document of a space, with the well-known links when it has none."""
    if home.links:
        return home
    return home.linking({name: f"~/api/{quote(space_id, safe='')}{path}" for name, path in _SPACE.items()})
