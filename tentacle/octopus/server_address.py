"""The address of an Octopus Server, where its links lead, and where a polling agent reaches it
(docs/spec/command-line.md, "poll-server").

Pure text.  Every link and every redirect comes from a stranger, and none may lead to another host.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from urllib.parse import quote

from yarl import URL

from tentacle.errors import TentacleError
from tentacle.octopus.errors import InvalidAddress, RedirectRefused, UnexpectedAnswer
from tentacle.records import dataclass
from tentacle.wire.connect import authority

DEFAULT_COMMS_PORT = 10943
_SAFE = "%/:=&?~+!$,;'@()*[]"
"""What a link may hold unescaped.  Everything else in it is percent-encoded."""


@dataclass(frozen=True)
class ServerAddress:
    """Where a server is: `origin` (scheme://host[:port]), and `base`, which adds its virtual directory."""

    origin: str
    base: str
    display: str
    """The address as a person reads it, normalised, e.g. `http://octopus/`."""
    unprefixed: bool = False
    """The server's links leave out the virtual directory, because only something in front of the server knows it."""

    @classmethod
    def parse(cls, text: str) -> ServerAddress:
        """Reads what a person typed; `/api` and what follows it is ignored (docs/spec/rest.md,
        "Address of the server").

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
            # Copied from a browser: http://octopus/app#/Spaces-1
            url = url.with_path(url.path.rstrip("/").removesuffix("app"))
            path = path.removesuffix("app/")
        api = path.lower().rfind("/api/")
        directory = path[:api] if api >= 0 else path
        return cls(origin, origin + directory.rstrip("/"), origin + (url.raw_path or "/"))

    @property
    def secure(self) -> bool:
        return self.origin.startswith("https://")

    def resolve(self, link: str) -> URL:
        """The address of `link`: `~/x` below the virtual directory, `/x` and `x` at the root of the host.

        Raises `UnexpectedAnswer` for a link that leads to another host.
        """
        if re.match(r"[a-z][a-z0-9+.-]*://", link, re.IGNORECASE):
            try:
                here = str(URL(link).origin()) == self.origin
            except ValueError:
                here = False
            if not here:
                raise UnexpectedAnswer(f"The Octopus Server at {self.origin} gave a link to another host.")
            return _url(link)
        if link.startswith("~/"):
            return _url(self.base + "/" + link[2:].lstrip("/"))
        return _url((self.base if self.unprefixed else self.origin) + "/" + link.removeprefix("/"))

    def moved_to(self, url: URL) -> ServerAddress:
        """This address after the server has redirected to the origin of `url`."""
        origin = str(url.origin())
        return replace(self, origin=origin, base=origin + self.base.removeprefix(self.origin))

    def linked_by(self, links: Iterable[str]) -> ServerAddress:
        """This address once the `links` of the root document show whether the server knows the virtual directory."""
        directory = self.base.removeprefix(self.origin) + "/"
        rooted = [link for link in links if link.startswith("/")]
        return replace(self, unprefixed=bool(rooted) and not any(link.startswith(directory) for link in rooted))


def redirect_target(current: URL, location: str) -> URL:
    """Where a redirect of `current` leads.

    Credentials go to the host they were given for and nowhere else.  So the only redirects that are followed stay at
    the same origin, or change http to https on the same host and the standard ports.  Raises `RedirectRefused`.
    """
    origin = str(current.origin())
    try:
        target = current.join(URL(location)).with_fragment(None)
        same = str(target.origin()) == origin
        upgraded = current.scheme == "http" and target.scheme == "https" and target.host == current.host
        both_standard = current.is_default_port() and target.is_default_port()
    except ValueError:
        raise RedirectRefused(origin, "an address that is none") from None
    if (same or (upgraded and both_standard)) and target.user is None:
        return target
    raise RedirectRefused(origin, str(target.origin()))


def same_but_for_a_slash(one: URL, other: URL) -> bool:
    """Whether two addresses of one server differ in a slash at their end or in their scheme alone."""
    return (one.raw_path.rstrip("/"), one.raw_query_string) == (other.raw_path.rstrip("/"), other.raw_query_string)


def polling_address(server: str, comms_address: str | None = None, comms_port: int | None = None) -> str:
    """Returns `https://HOST:PORT`, the port always shown and the host in lower case, IPv6 in brackets.

    Without `comms_address` the host is the server's and the port `comms_port` or 10943.  With it, the host is its, and
    the port its (443 or 80 when it names none) unless `comms_port` is given.  Raises `InvalidAddress`.
    """
    if comms_port is not None:
        check_port(comms_port)
    if comms_address is None or not comms_address.strip():
        url = URL(ServerAddress.parse(server).origin)
        port = comms_port or DEFAULT_COMMS_PORT
    else:
        try:
            url = URL(ServerAddress.parse(comms_address).origin)
        except InvalidAddress:
            raise InvalidAddress(
                f"The server communications address '{_without_userinfo(comms_address)}' is not a valid URL.",
                hint="Give it with its scheme, for example --server-comms-address=https://octopus:10943",
            ) from None
        port = comms_port or url.port or 0
    return f"https://{authority(url.raw_host or '', port)}"


def https_polling_address(comms_address: str, comms_port: int | None = None) -> str:
    """Where a server is polled by HTTPS, from what a person typed: `https://HOST[:PORT][/PATH]`.

    Raises `InvalidAddress`.
    """
    address = ServerAddress.parse(comms_address)
    if not address.secure:
        raise InvalidAddress(
            f"The server communications address '{address.display}' is not one to poll by HTTPS.",
            hint="It begins with https://",
        )
    if comms_port is None:
        return address.base
    check_port(comms_port)
    return str(URL(address.base, encoded=True).with_port(comms_port))


def linked_polling_address(server: ServerAddress, template: str) -> str:
    """Where the link of a root document says that `server` is polled by HTTPS.  Raises `UnexpectedAnswer` for a link to
    another host: who wants that has to say so.
    """
    head = template.partition("{")[0].rstrip("/").removesuffix("/agents")
    try:
        url = URL(head)
        same = url.scheme == "https" and url.host == URL(server.origin).host and url.user is None
    except ValueError:
        same = False
    if not same:
        raise UnexpectedAnswer(
            f"The Octopus Server at {server.origin} gave a link to another host for polling by HTTPS: {head[:200]}.",
            hint="If that is right, say so with --server-comms-address",
        )
    return https_polling_address(head)


def web_socket_address(address: str) -> str:
    """Returns a web socket's address with `wss`, as which `https` is taken too.  Raises `TentacleError`."""
    scheme, separator, rest = address.strip().partition("://")
    if scheme.lower() not in {"https", "wss"} or not separator or not rest.strip("/"):
        raise TentacleError("The websocket address must start with wss://")
    return f"wss://{rest}"


def check_port(port: int) -> None:
    """Raises `InvalidAddress` unless `port` is one of TCP."""
    if not 0 < port < 65536:
        raise InvalidAddress(f"{port} is not a TCP port.", hint="Ports are numbers from 1 to 65535.")


def _url(text: str) -> URL:
    return URL(quote(text.partition("#")[0], safe=_SAFE), encoded=True)


def _without_userinfo(text: str) -> str:
    """`text` cut to what is safe to repeat: an address that could not be read may still hold a password."""
    return text.strip().rpartition("@")[2][:200]
