"""The links of an Octopus Server: templates in the style of RFC 6570, and the links of servers that send none.

Pure text.  Knows nothing of HTTP, of documents' meaning, or of where a link came from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote

_EXPRESSION = re.compile(r"\{([/?&+#]?)([^{}]*)\}")

# The paths that every Octopus Server has had for years.  They are used only for a document without any links at all: in
# a document that has links, a missing link means that the server lacks the feature.  An old server has no `Spaces`, and
# a user who may not see worker pools gets no link to them (docs/spec/rest.md, "Links and templates").
ROOT_LINKS: Mapping[str, str] = {
    "Self": "~/api",
    "CurrentUser": "~/api/users/me",
    "SignIn": "~/api/users/login",
    "Spaces": "~/api/spaces{/id}{?skip,take}",
    "SpaceHome": "~/api/{spaceId}",
    "CertificateConfiguration": "~/api/configuration/certificates{/id}",
}
POLLING_LINK = "TentaclePolling"
"""In the root document of servers that are polled by HTTPS (docs/spec/https.md, "How it is configured")."""
_SPACE_PATHS = {
    "Workers": "/workers{/id}{?skip,take,name,ids,thumbprint}",
    "Machines": "/machines{/id}{?skip,take,name,ids,thumbprint}",
    "WorkerPools": "/workerpools{/id}{?skip,take,ids}",
    "MachinePolicies": "/machinepolicies{/id}{?skip,take,ids}",
    "Proxies": "/proxies{/id}{?skip,take,ids}",
    "Environments": "/environments{/id}{?skip,take,ids}",
    "Tenants": "/tenants{/id}{?skip,take,ids}",
    "TagSets": "/tagsets{/id}{?skip,take,ids}",
}


def space_links(space_id: str) -> dict[str, str]:
    """The links of a space's root document, for one that has none."""
    return {name: f"~/api/{quote(space_id, safe='')}{path}" for name, path in _SPACE_PATHS.items()}


def find_link(links: Mapping[str, str], name: str) -> str | None:
    """Returns the link called `name`, in any case (docs/spec/rest.md, "Links and templates"); None when there is none
    or it is empty.
    """
    wanted = name.lower()
    return next((link for key, link in links.items() if key.lower() == wanted and link), None)


def parameters_of(template: str) -> frozenset[str]:
    """The names of a template's parameters, in lower case."""
    return frozenset(name.lower() for _, names in _EXPRESSION.findall(template) for name in _names(names))


def expand(template: str, **values: str | int | Sequence[str] | None) -> str:
    """Returns `template` with its parameters filled in.

    Parameters that it does not list are left out, as are those whose value is None or an empty list (docs/spec/rest.md,
    "Links and templates").  A list is written `a,b`.  Case does not count in names.
    """
    encoded = {name.lower(): text for name, value in values.items() if (text := _encoded(value)) is not None}
    out: list[str] = []
    position = 0
    for match in _EXPRESSION.finditer(template):
        out.append(template[position : match.start()])
        position = match.end()
        given = [(name, encoded[name.lower()]) for name in _names(match[2]) if name.lower() in encoded]
        out.append(_expression(match[1], given, has_query=any("?" in part for part in out)))
    return "".join(out) + template[position:]


def _names(text: str) -> list[str]:
    return [name for part in text.split(",") if (name := part.strip().rstrip("*"))]


def _encoded(value: str | int | Sequence[str] | None) -> str | None:
    if value is None:
        return None
    if isinstance(value, str | int):
        return quote(str(value), safe="")
    return ",".join(quote(item, safe="") for item in value) or None


def _expression(operator: str, given: Sequence[tuple[str, str]], *, has_query: bool) -> str:
    if not given or operator == "#":
        return ""
    if operator in {"?", "&"}:
        return ("&" if has_query else "?") + "&".join(f"{name}={text}" for name, text in given)
    if operator == "/":
        return "".join(f"/{text}" for _, text in given)
    return ",".join(text for _, text in given)
