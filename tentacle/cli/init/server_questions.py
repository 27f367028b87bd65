"""The part of `init` that is about the server: where it is, who introduces this machine to it, and as what.

On a terminal each answer is tried out at once, so that a slip is corrected where it was made.  Elsewhere nobody could
correct it, and registration itself tells.  Nothing is changed, neither here nor there.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from yarl import URL

from tentacle import __version__
from tentacle.cli.doctor.reach import Target, reach
from tentacle.cli.frame.credentials import API_KEY_VARIABLE, are_given, required_access
from tentacle.cli.frame.options import ApiOptions
from tentacle.cli.frame.render import trace
from tentacle.cli.frame.session import Session
from tentacle.cli.frame.values import InvalidValue, need_port, parse_whole_number
from tentacle.cli.init.questions import Unanswered, Wizard
from tentacle.cli.registration.server_access import custom_proxy
from tentacle.errors import TentacleError
from tentacle.octopus.certificates import parse_pin
from tentacle.octopus.client import OctopusClient
from tentacle.octopus.credentials import Credentials
from tentacle.octopus.errors import NotAnOctopusServer
from tentacle.octopus.http_client import HttpClient, HttpOptions
from tentacle.octopus.id_lookup import pool_ids
from tentacle.octopus.proxies import ProxyUrl, environment_proxy
from tentacle.octopus.server_address import DEFAULT_COMMS_PORT, ServerAddress, polling_address
from tentacle.octopus.spaces import Scope, choose_scope
from tentacle.settings.model import ProxySettings

DEFAULT_POOL: Final = "Default Worker Pool"
LATER: Final = "-"
"""The answer of somebody who does not want to name a server now."""
_PATIENCE: Final = 10.0
"""Seconds for one request while somebody waits for the next question."""
_ATTEMPTS: Final = 3


T = TypeVar("T")


@dataclass(frozen=True)
class Registration:
    """As what this machine is to be known to which server."""

    server: str
    name: str
    pools: tuple[str, ...]
    credentials: Credentials = field(repr=False)
    public_host_name: str | None = None
    comms_port: str | None = None


@dataclass(frozen=True)
class Introduction:
    """Asks for server, key and pools.  `proxy` is the way there that is configured; `space` the one to register in."""

    session: Session
    wizard: Wizard
    api: ApiOptions
    proxy: ProxySettings
    space: str | None

    def server(self) -> str:
        """The server's address, or `LATER`."""
        question = f"Address of the Octopus Server ({LATER} to register later)"
        return self.wizard.answer("--server, or --no-register", self.api.server, question, self._server) or LATER

    def credentials(self, server: str) -> Credentials:
        """By an option, the environment or, on a terminal, a question whose answer is not shown."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                found = self._credentials(server)
                self._tell_space(server, found)
            except Unanswered:
                raise
            except TentacleError as error:
                if are_given(self.session, self.api) or not self.wizard.asks or attempt == _ATTEMPTS:
                    raise
                self.wizard.tell([f"  {error.message}"])
            else:
                return found
        raise AssertionError("the last attempt returns or raises")

    def pools(self, server: str, credentials: Credentials, given: tuple[str, ...]) -> tuple[str, ...] | None:
        """Worker pools that the server has; `None` for what is missing."""
        if any(pool.strip() for pool in given):
            return self._known_pools(server, credentials, given)

        def check(text: str) -> tuple[str, ...]:
            return self._known_pools(server, credentials, tuple(printable(one) for one in text.split(",")))

        return self.wizard.answer("--workerpool", None, "Worker pools, by commas", check, default=DEFAULT_POOL)

    def comms_port(self, server: str, given: str | None) -> str | None:
        """The server's port to poll, at the server's own address."""
        origin = ServerAddress.parse(server).origin

        def check(text: str) -> str:
            port = parse_whole_number(text, "--server-comms-port")
            need_port(port, "--server-comms-port")
            with self.wizard.interruptible():
                asyncio.run(self._knock(URL(polling_address(origin, None, port))))
            return str(port)

        default = str(DEFAULT_COMMS_PORT)
        return self.wizard.answer("", given, "Port of the server to poll", check, default=default)

    async def _knock(self, polled: URL) -> None:
        """Raises `TentacleError` for a port behind which nobody speaks TLS."""
        reached = await reach(Target(polled.host or "", polled.port or 0, custom_proxy(self.proxy)))
        last = reached.findings[-1]
        if not reached.complete:
            raise TentacleError(last.found, hint=last.advice)

    def _credentials(self, server: str) -> Credentials:
        api = replace(self.api, server=server if server != LATER else "http://somewhere")
        if not are_given(self.session, self.api):
            if not self.wizard.asks:
                self.wizard.miss(f"--apiKeyFile (or --apiKeyStdin, --bearerTokenFile, ${API_KEY_VARIABLE}...)")
                self.wizard.need_all()
            api = replace(api, api_key_stdin=True)
        with self.wizard.interruptible():
            return required_access(self.session, api).credentials

    def _server(self, text: str) -> str:
        if text.strip() == LATER:
            return LATER
        address = ServerAddress.parse(text)
        if self.wizard.asks:
            with self.wizard.interruptible():
                version = asyncio.run(self._greet(address))
            self.wizard.tell([f"  Octopus Server {version:.60} answers."])
        return text.strip()

    async def _greet(self, address: ServerAddress) -> str:
        """The server's version, which everybody may see."""
        pin = parse_pin(self.api.server_thumbprint) if self.api.server_thumbprint else None
        ignore, ca_file = self.api.ignore_ssl_errors, self.api.ca_file
        options = HttpOptions(ignore, ca_file, self._way(address), False, _PATIENCE, pin)
        async with HttpClient(options, user_agent=f"tentacle/{__version__}", cookies=False, on_request=trace) as http:
            reply = await http.send("GET", URL(f"{address.base}/api"), {})
        try:
            return str(json.loads(reply.body)["Version"])
        except (ValueError, TypeError, KeyError, RecursionError):
            raise NotAnOctopusServer(address.display, f"no root document at {address.base}/api") from None

    def _tell_space(self, server: str, credentials: Credentials) -> None:
        if self.wizard.asks:
            scope = self._try(server, credentials, lambda client: choose_scope(client, self.space))
            self.wizard.tell([f"  Signed in{f', space {scope.space_name!r:.80}' if scope.space_name else ''}."])

    def _known_pools(self, server: str, credentials: Credentials, pools: tuple[str, ...]) -> tuple[str, ...]:
        async def look(client: OctopusClient) -> None:
            scope: Scope = await choose_scope(client, self.space)
            await pool_ids(client, scope, pools)

        if self.wizard.asks:
            self._try(server, credentials, look)
        return pools

    def _way(self, address: ServerAddress) -> ProxyUrl | None:
        found = environment_proxy(URL(address.base)) if self.proxy.use_default else None
        return custom_proxy(self.proxy) or found

    def _try(self, server: str, credentials: Credentials, act: Callable[[OctopusClient], Awaitable[T]]) -> T:
        """The way that registration will go (tentacle-cli.md 5.3, the end), but without its patience."""
        address = ServerAddress.parse(server)
        client = OctopusClient(
            address.base,
            credentials,
            version=__version__,
            ignore_ssl_errors=self.api.ignore_ssl_errors,
            ca_file=self.api.ca_file,
            pin=self.api.server_thumbprint or None,
            proxy=self._way(address),
            timeout=_PATIENCE,
            retry_for=0,
            on_request=trace,
        )

        async def conversation() -> T:
            async with client:
                return await act(client)

        with self.wizard.interruptible():
            return asyncio.run(conversation())


def printable(text: str) -> str:
    """`text` without blanks around.  Raises `InvalidValue` for one that is empty or would not show."""
    if not text.strip() or not text.isprintable():
        raise InvalidValue(f"'{text:.80}' is empty or holds characters that cannot be printed.")
    return text.strip()
