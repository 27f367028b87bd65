"""How links of an Octopus Server become addresses: RFC 6570 style templates and virtual directories.

Pure text.  Knows nothing of HTTP, of documents' meaning, or of where a link came from; every link is a stranger's and
none may lead to another host.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

from yarl import URL

from tentacle.octopus.errors import InvalidAddress, RedirectRefused, UnexpectedAnswer

_EXPRESSION = re.compile(r"\{([/?&+#]?)([^{}]*)\}")
_SAFE = "%/:=&?~+!$,;'@()*[]"
"""What a link may hold unescaped; everything else a stranger puts into one is percent-encoded."""


def find_link(links: Mapping[str, str], name: str) -> str | None:
    """The link called `name`, in any case (tentacle-cli.md 5.4); None when there is none or it is empty."""
    wanted = name.lower()
    return next((link for key, link in links.items() if key.lower() == wanted and link), None)


def parameters_of(template: str) -> frozenset[str]:
    """The names of a template's parameters, in lower case."""
    return frozenset(name.lower() for _, names in _EXPRESSION.findall(template) for name in _names(names))


def expand(template: str, **values: str | int | Sequence[str] | None) -> str:
    """`template` with its parameters filled in.

    Parameters it does not list are dropped without a word, as are those whose value is None or an empty list
    (tentacle-cli.md 5.4).  A list is written `a,b`.  Names are compared without regard to case.
    """
    given = {name.lower(): text for name, value in values.items() if (text := _encoded(value)) is not None}
    out: list[str] = []
    position = 0
    for match in _EXPRESSION.finditer(template):
        out.append(template[position : match.start()])
        position = match.end()
        present = [(name, given[name.lower()]) for name in _names(match[2]) if name.lower() in given]
        out.append(_expression(match[1], present, already_query=any("?" in part for part in out)))
    return "".join(out) + template[position:]


def _names(text: str) -> list[str]:
    return [name for part in text.split(",") if (name := part.strip().rstrip("*"))]


def _encoded(value: str | int | Sequence[str] | None) -> str | None:
    if value is None:
        return None
    if isinstance(value, str | int):
        return quote(str(value), safe="")
    return ",".join(quote(item, safe="") for item in value) or None


def _expression(operator: str, present: Sequence[tuple[str, str]], *, already_query: bool) -> str:
    if not present or operator == "#":
        return ""
    if operator in {"?", "&"}:
        opening = "&" if already_query else "?"
        return opening + "&".join(f"{name}={text}" for name, text in present)
    if operator == "/":
        return "".join(f"/{text}" for _, text in present)
    return ",".join(text for _, text in present)


@dataclass(frozen=True)
class ServerAddress:
    """Where a server lives: `origin` (scheme://host[:port]) and `base`, which adds its virtual directory."""

    origin: str
    base: str
    display: str
    """The address as a person reads it, normalised, e.g. `http://octopus/`."""
    unprefixed: bool = False
    """The server's links leave out the virtual directory: it is one that only something in front of it knows."""

    @classmethod
    def parse(cls, text: str) -> ServerAddress:
        """The address in what a person typed; `/api` and what follows it is ignored (tentacle-cli.md 5.4).

        Raises `InvalidAddress`.
        """
        try:
            url = URL(text.strip())
            origin = str(url.origin()) if url.scheme in {"http", "https"} and url.host else ""
            (url.raw_host or "").encode("idna")  # what no DNS takes is no name
        except ValueError:
            origin = ""
        if not origin:
            raise InvalidAddress(
                f"The Octopus Server address '{_without_userinfo(text)}' is not a valid URL.",
                hint="Give the whole address, for example --server=http://your-octopus-server",
            )
        if url.user is not None or url.password is not None:
            raise InvalidAddress(
                "The Octopus Server address holds a user name or a password.",
                hint="Leave them out of --server and use --apiKey, --bearerToken, or --username and --password.",
            )
        path = url.raw_path if url.raw_path.endswith("/") else url.raw_path + "/"
        if url.raw_fragment.startswith("/") and path.endswith("/app/"):
            url = url.with_path(
                url.path.rstrip("/").removesuffix("app")
            )  # from a browser: http://octopus/app#/Spaces-1
            path = path.removesuffix("app/")
        api = path.lower().rfind("/api/")
        directory = path[:api] if api >= 0 else path
        return cls(origin, origin + directory.rstrip("/"), origin + (url.raw_path or "/"))

    @property
    def secure(self) -> bool:
        return self.origin.startswith("https://")

    def resolve(self, link: str) -> URL:
        """The address of `link`: `~/x` below the virtual directory, `/x` and `x` at the root of the host.

        Raises `UnexpectedAnswer` for a link that would leave the host.
        """
        if re.match(r"[a-z][a-z0-9+.-]*://", link, re.IGNORECASE):
            if not self._is_here(link):
                raise UnexpectedAnswer(f"The Octopus Server at {self.origin} gave a link to another host.")
            return _url(link)
        if link.startswith("~/"):
            return _url(self.base + "/" + link[2:].lstrip("/"))
        return _url((self.base if self.unprefixed else self.origin) + "/" + link.removeprefix("/"))

    def _is_here(self, link: str) -> bool:
        try:
            return str(URL(link).origin()) == self.origin
        except ValueError:
            return False

    def moved_to(self, url: URL) -> ServerAddress:
        """This address after the server said, at its root, that it lives at the origin of `url`."""
        origin = str(url.origin())
        return replace(self, origin=origin, base=origin + self.base.removeprefix(self.origin))

    def linked_by(self, links: Iterable[str]) -> ServerAddress:
        """This address after the root document showed its `links`: do they know of the virtual directory?"""
        directory = self.base.removeprefix(self.origin) + "/"
        rooted = [link for link in links if link.startswith("/")]
        return replace(self, unprefixed=bool(rooted) and not any(link.startswith(directory) for link in rooted))


def redirect_target(current: URL, location: str) -> URL:
    """Where a redirect of `current` leads.

    Credentials go to the host they were meant for and nowhere else, so the only redirects that are followed stay at
    the same origin, or exchange http for https on the same host and the standard ports.  Raises `RedirectRefused`.
    """
    here = str(current.origin())
    try:
        target = current.join(URL(location)).with_fragment(None)
        same = str(target.origin()) == here
        upgraded = current.scheme == "http" and target.scheme == "https" and target.host == current.host
        both_standard = current.is_default_port() and target.is_default_port()
    except ValueError:
        raise RedirectRefused(here, "an address that is none") from None
    if (same or (upgraded and both_standard)) and target.user is None:
        return target
    raise RedirectRefused(here, str(target.origin()))


def same_but_for_a_slash(one: URL, other: URL) -> bool:
    """Whether two addresses of one server differ in a slash at their end or in their scheme alone."""
    return (one.raw_path.rstrip("/"), one.raw_query_string) == (other.raw_path.rstrip("/"), other.raw_query_string)


def _url(text: str) -> URL:
    return URL(quote(text.partition("#")[0], safe=_SAFE), encoded=True)


def _without_userinfo(text: str) -> str:
    """`text` cut to what is safe to repeat: an address that could not be read may still hold a password."""
    return text.strip().rpartition("@")[2][:200]
