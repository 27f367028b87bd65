"""The questions of `init` about the server: its address, the credentials, and what this machine is to be there.

A person's answer is tried out at once, so that a slip can be corrected where it was made; without a person all is tried
together, before anything is done (`steps.try_registration`).  Nothing is changed, neither here nor on the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from yarl import URL

from tentacle.cli.doctor.polling import polling_target
from tentacle.cli.doctor.reach import reach
from tentacle.cli.frame.secrets import InputEnded
from tentacle.cli.frame.session import CommandSession
from tentacle.cli.frame.values import InvalidValue, parse_port
from tentacle.cli.init.questions import BACK, INPUT_ENDED, GoBack, Questions, Unanswered
from tentacle.cli.registration.credentials import API_KEY_VARIABLE, credentials_are_given, required_access
from tentacle.cli.registration.options import ApiOptions
from tentacle.cli.registration.server_access import (
    ServerRoute,
    converse,
    polling_proxy,
    route_to_register,
    server_versions,
)
from tentacle.errors import TentacleError
from tentacle.octopus.client import OctopusClient
from tentacle.octopus.credentials import Credentials
from tentacle.octopus.errors import NotAnOctopusServer, RegistrationError
from tentacle.octopus.id_lookup import find_by_name, pool_ids, pool_names
from tentacle.octopus.registration import MachineKind
from tentacle.octopus.resources import has_thumbprint
from tentacle.octopus.server_address import DEFAULT_COMMS_PORT, ServerAddress, polling_address
from tentacle.octopus.spaces import choose_scope
from tentacle.settings.model import Settings

DEFAULT_POOL: Final = "Default Worker Pool"
LATER: Final = "-"
"""The answer of a person who does not want to name a server now."""
_REQUEST_SECONDS: Final = 10.0
"""For one request, while a person waits for the next question."""
_ATTEMPTS: Final = 3

T = TypeVar("T")


@dataclass(frozen=True)
class WantedRegistration:
    """What this machine is to be, on which server."""

    server: str
    name: str
    pools: tuple[str, ...]
    credentials: Credentials = field(repr=False)
    public_host_name: str | None = None
    comms_port: str | None = None


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

    def comms_port(self, server: str, given: str | None) -> str | None:
        """The port to poll at the server's own address; one that does not answer with TLS is refused."""
        origin = ServerAddress.parse(server).origin

        def check(text: str) -> str:
            port = parse_port(text, "--server-comms-port")
            polled = URL(polling_address(origin, None, port))
            with self.questions.interruptible():
                target = polling_target(
                    polled.host or "", polled.port or 0, polling_proxy(self.settings), self.settings
                )
                reached = asyncio.run(reach(target))
            if not reached.complete:
                last = reached.findings[-1]
                raise TentacleError(last.found, hint=last.advice)
            return str(port)

        return self.questions.answer("", given, "Port of the server to poll", check, default=str(DEFAULT_COMMS_PORT))

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
