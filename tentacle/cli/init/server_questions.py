"""The questions of `init` about the server: its address, the credentials, and what this machine is to be there.

A person's answer is tried out at once, so that a slip can be corrected where it was made; without a person all is tried
together, before anything is done (`steps.try_registration`).  Nothing is changed, neither here nor on the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import field, replace
from typing import Final, TypeVar

from tentacle.agent.plan import polled_address
from tentacle.cli.frame.secrets import InputEnded
from tentacle.cli.frame.session import CommandSession
from tentacle.cli.frame.values import InvalidValue, parse_port
from tentacle.cli.init.questions import BACK, INPUT_ENDED, GoBack, Questions, Unanswered
from tentacle.cli.registration.credentials import API_KEY_VARIABLE, credentials_are_given, required_access
from tentacle.cli.registration.options import ApiOptions
from tentacle.cli.registration.server_access import (
    ServerRoute,
    address_to_poll,
    converse,
    https_address,
    polling_proxy,
    route_to_register,
    server_versions,
)
from tentacle.errors import TentacleError
from tentacle.octopus.client import OctopusClient
from tentacle.octopus.connectivity import ConnectivityCheck
from tentacle.octopus.credentials import Credentials
from tentacle.octopus.errors import NotAnOctopusServer, RegistrationError
from tentacle.octopus.id_lookup import find_by_name, pool_ids, pool_names
from tentacle.octopus.registration import MachineKind
from tentacle.octopus.resources import has_thumbprint
from tentacle.octopus.server_address import DEFAULT_COMMS_PORT
from tentacle.octopus.spaces import choose_scope
from tentacle.records import dataclass
from tentacle.settings.model import Settings

DEFAULT_POOL: Final = "Default Worker Pool"
HTTPS: Final = "https"
"""The answer of a person whose machine is to poll by requests."""
LATER: Final = "-"
"""The answer of a person who does not want to name a server now."""
_REQUEST_SECONDS: Final = 10.0
"""For one request, while a person waits for the next question."""
_ATTEMPTS: Final = 3

T = TypeVar("T")


@dataclass(frozen=True)
class PolledPlace:
    """Where and how the server is polled, as `register-worker` is told; nothing: its own address, port 10943."""

    comms_port: str | None = None
    comms_address: str | None = None
    web_socket: str | None = None
    https: bool = False

    @classmethod
    def parse(cls, text: str) -> PolledPlace:
        """Reads an answer: a port, an address, or `https` alone.  Raises `InvalidValue`."""
        if text.lower() == HTTPS:
            return cls(https=True)
        if "://" not in text:
            return cls(str(parse_port(text, "--server-comms-port")))
        return cls(web_socket=text) if text.lower().startswith("wss:") else cls(comms_address=text)

    def address(self, server: str, route: ServerRoute) -> str:
        """The address that is polled.  Raises `TentacleError`."""
        port = int(self.comms_port) if self.comms_port else None
        if self.https:
            return https_address(route, self.comms_address, port)
        return address_to_poll(server, self.web_socket, self.comms_address, port)


@dataclass(frozen=True)
class WantedRegistration:
    """What this machine is to be, on which server."""

    server: str
    name: str
    pools: tuple[str, ...]
    credentials: Credentials = field(repr=False)
    public_host_name: str | None = None
    polled: PolledPlace = PolledPlace()


@dataclass(frozen=True)
class ServerQuestions:
    """Asks for server, credentials and pools.

    `settings` are those that the machine has, `polling` what it is to do; `space` is the one to register in.
    """

    session: CommandSession
    questions: Questions
    api: ApiOptions
    settings: Settings
    polling: bool
    space: str | None

    def server(self) -> str:
        """The server's address, or `LATER`."""

        def check(text: str) -> str:
            if text.strip() == LATER:
                return LATER
            route = self._route(text)
            if self.questions.asks:
                with self.questions.interruptible():
                    reply = asyncio.run(route.root_document(_REQUEST_SECONDS))
                found = server_versions(reply)
                if found is None:
                    raise NotAnOctopusServer(route.address.display, f"no root document at {route.address.base}/api")
                self.questions.tell([f"  Octopus Server {found[0]:.60} answers."])
            return text.strip()

        question = f"Address of the Octopus Server ({LATER} to register later)"
        return self.questions.answer("--server, or --no-register", self.api.server, question, check) or LATER

    def credentials(self, server: str) -> Credentials:
        """By an option, the environment or, on a terminal, a question whose answer is not shown."""
        given = credentials_are_given(self.session, self.api)
        if not given and not self.questions.asks:
            self.questions.miss(f"--apiKeyFile (or --apiKeyStdin, --bearerTokenFile, ${API_KEY_VARIABLE}...)")
            self.questions.need_all()
        api = replace(self.api, server=server, api_key_stdin=self.api.api_key_stdin or not given)
        if not self.questions.asks or given:
            return self._credentials(server, api, given=given)
        return self.questions.settled("API key", lambda: self._credentials(server, api, given=given))

    def _credentials(self, server: str, api: ApiOptions, *, given: bool) -> Credentials:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self.questions.interruptible():
                    found = required_access(self.session, api).credentials
                if not given and found.api_key == BACK:
                    raise GoBack
                if self.questions.asks:
                    scope = self._try(server, found, lambda client: choose_scope(client, self.space))
                    space = f", space {scope.space_name!r:.80}" if scope.space_name else ""
                    self.questions.tell([f"  Signed in{space}."])
            except Unanswered:
                raise
            except InputEnded:
                raise Unanswered(INPUT_ENDED) from None
            except TentacleError as error:
                if given or attempt == _ATTEMPTS:
                    raise
                self.questions.tell([f"  {error.message}"])
            else:
                return found
        raise AssertionError("the last attempt returns or raises")

    def name(self, server: str, credentials: Credentials, given: str | None, *, force: bool) -> str | None:
        """The name of the worker, which no other machine may have on the server unless `force` says so."""
        own = self.settings.certificate

        def check(text: str) -> str:
            name = printable(text)

            async def look_up(client: OctopusClient) -> None:
                scope = await choose_scope(client, self.space)
                found = await find_by_name(client, scope.link(MachineKind.WORKER.link), name)
                if found is not None and not force and not (own and has_thumbprint(found, own.thumbprint)):
                    raise RegistrationError(
                        f"A worker named '{name}' already exists, and it is another machine.",
                        hint="Give this machine another --name, or take the worker over with --force.",
                    )

            if self.questions.asks:
                self._try(server, credentials, look_up)
            return name

        question = "Name of this worker on the server"
        return self.questions.answer("--name", given, question, check, default=self.session.process.machine_name)

    def pools(self, server: str, credentials: Credentials, given: tuple[str, ...]) -> tuple[str, ...] | None:
        """Worker pools, which the server must have; `None` when none were given and no questions are asked."""

        def known(pools: tuple[str, ...]) -> tuple[str, ...]:
            async def look_up(client: OctopusClient) -> None:
                await pool_ids(client, await choose_scope(client, self.space), pools)

            if self.questions.asks:
                self._try(server, credentials, look_up)
            return pools

        if any(pool.strip() for pool in given):
            return known(given)
        default = DEFAULT_POOL
        if self.questions.asks:

            async def names(client: OctopusClient) -> tuple[str, ...]:
                return await pool_names(client, await choose_scope(client, self.space))

            there = self._try(server, credentials, names)
            self.questions.tell([f"  Worker pools there: {', '.join(f'{name:.80}' for name in there) or 'none'}"])
            default = default if default in there or not there else there[0]
        return self.questions.answer(
            "--workerpool",
            None,
            "Worker pools, by commas",
            lambda text: known(tuple(printable(one) for one in text.split(","))),
            default=default,
        )

    def polled(self, server: str, port: str | None) -> PolledPlace | None:
        """Where the server is to be polled; a place that does not answer as that is refused."""

        def check(text: str) -> PolledPlace:
            place, route = PolledPlace.parse(text), self._route(server)
            once = ConnectivityCheck(delays=(), timeout=_REQUEST_SECONDS)
            with self.questions.interruptible():
                address = place.address(server, route)
                at = polled_address(address, https=place.https)
                ways = {"web_socket": at.web_socket, "https": at.https}
                shown = asyncio.run(once.run(at.host, at.port, proxy=polling_proxy(self.settings), **ways))
            self.session.shown_at[address] = shown
            return place

        if port is None:
            other = f"https://HOST[:PORT], wss://HOST/PATH, or {HTTPS} for requests instead of Halibut"
            self.questions.tell([f"  Where it is not reached by a port of its own name, answer {other}."])
        return self.questions.answer("", port, "Port of the server to poll", check, default=str(DEFAULT_COMMS_PORT))

    def _route(self, server: str) -> ServerRoute:
        return route_to_register(server, self.api, self.settings, polling=self.polling)

    def _try(self, server: str, credentials: Credentials, act: Callable[[OctopusClient], Awaitable[T]]) -> T:
        with self.questions.interruptible():
            return converse(self._route(server).probing_client(credentials, _REQUEST_SECONDS), act)


def printable(text: str) -> str:
    """Returns `text` without blanks around it.  Raises `InvalidValue` for an empty or unprintable text."""
    if not text.strip() or not text.isprintable():
        raise InvalidValue(f"'{text:.80}' is empty or holds characters that cannot be printed.")
    return text.strip()
