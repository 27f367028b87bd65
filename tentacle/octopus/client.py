"""A client of the Octopus Server's REST interface: documents by link, with retries where they are safe.

Knows the root document, signing in, paging and how changes are sent (tentacle-cli.md 5.4).  Knows nothing of workers,
pools or registration.  Paths other than the root's come from the server's own links.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Self

from yarl import URL

from tentacle.octopus import oidc
from tentacle.octopus.answers import BROKEN, BUSY, REDIRECTS, failure, retry_after, succeeded, value_of
from tentacle.octopus.certificates import parse_pin
from tentacle.octopus.credentials import Credentials
from tentacle.octopus.document import Document, documents
from tentacle.octopus.errors import (
    AccessRefused,
    ConnectionFailed,
    InvalidAddress,
    NameUnresolved,
    NotAnOctopusServer,
    NotFound,
    OctopusError,
    UnexpectedAnswer,
    ValidationFailed,
)
from tentacle.octopus.exchange import Exchange, Network, Reply
from tentacle.octopus.links import ServerAddress, expand, redirect_target, same_but_for_a_slash
from tentacle.octopus.patience import Patience
from tentacle.octopus.proxies import ProxyUrl
from tentacle.octopus.well_known import linked_root

__all__ = ["Credentials", "OctopusClient"]

MAX_PAGES = 1000
"""Pages of one collection that are read before the server is taken to be endless."""
MAX_REDIRECTS = 5
LONGER = 0.25
"""By how much of it a pause may be longer than it has to be."""
FEW_TRIES = 3
"""How often is tried what waiting rarely cures: a name that leads nowhere, a server that fails."""
_KEEP_METHOD = frozenset({307, 308})
_MOVED = frozenset({301, 302})
_CSRF_COOKIE = "Octopus-Csrf-Token"

Rehearse = Callable[[str, URL, Mapping[str, object] | None], None]
"""Gets the method (`POST`, `PUT`, `DELETE`), the address and the body of a change that is not made."""


class OctopusClient:
    """One conversation with one server, as an async context manager that signs in on entering.

    `version` is this agent's; `timeout` the seconds a single request may take; `retry_for` the seconds that one step
    goes on trying while the server cannot be reached or is busy, with pauses that differ by `chance`, a number from 0
    to 1.  `pin` is the thumbprint of the only TLS certificate that is accepted.  `on_request` gets a line per request,
    `on_notice` a line before each wait.  With `rehearse` nothing is changed on the server: each change is handed to it
    instead.  Entering raises any `OctopusError`.
    """

    def __init__(
        self,
        server: str,
        credentials: Credentials,
        *,
        version: str,
        ignore_ssl_errors: bool = False,
        ca_file: Path | str | None = None,
        pin: str | None = None,
        proxy: ProxyUrl | None = None,
        trust_env: bool = False,
        timeout: float = 100.0,
        retry_for: float = 60.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        on_request: Callable[[str], None] | None = None,
        on_notice: Callable[[str], None] | None = None,
        rehearse: Rehearse | None = None,
    ) -> None:
        self.address = ServerAddress.parse(server)
        if pin is not None and not self.address.secure:
            raise InvalidAddress(
                f"A thumbprint was given for {self.address.display}, which shows no certificate.",
                hint="Use https:// in the address of the Octopus Server.",
            )
        self.version = version
        self._credentials = credentials
        self._retry_for, self._sleep, self._clock, self._chance = retry_for, sleep, clock, chance
        self._notice = on_notice or (lambda _: None)
        self._rehearse = rehearse
        network = Network(
            ignore_ssl_errors,
            str(ca_file) if ca_file else None,
            proxy,
            trust_env,
            timeout,
            parse_pin(pin) if pin is not None else None,
        )
        self._exchange = Exchange(
            network,
            user_agent=f"tentacle/{version}",
            cookies=bool(credentials.username),
            on_request=None if on_request is None else lambda line: on_request(self._redact(line)),
        )
        self._access = credentials
        """What the credentials were exchanged for; themselves where they are sent as they are."""
        self._headers = credentials.headers
        self._root: Document | None = None
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._exchange)
            await self.root()
            if self._credentials.username:
                await self._sign_in()
            if self._credentials.oidc_token:
                await self._exchange_token(self._credentials.oidc_token, self._credentials.service_account or "")
            self._open = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def root(self) -> Document:
        """The root document, fetched once; its ApiVersion is within 3.0.0 and 3.0.99.  Raises `NotAnOctopusServer`."""
        if self._root is None:
            try:
                document = await self.get("~/api")
            except (NotFound, UnexpectedAnswer) as error:
                raise NotAnOctopusServer(
                    self.address.display, f"no root document at {self.address.base}/api"
                ) from error
            _check_api_version(self.address.display, document)
            self.address = self.address.linked_by(document.links.values())
            self._root = linked_root(document)
        return self._root

    async def get(self, link: str) -> Document:
        """The object at `link`.  Raises any `OctopusError`."""
        reply = await self._ask("GET", link)
        return Document.of(value_of(reply), reply.url.raw_path)

    async def collection(self, link: str) -> list[Document]:
        """Everything in the collection at `link`, a plain list or pages.  Raises any `OctopusError`."""
        return [item async for item in self._items(link)]

    async def find(self, link: str, wanted: Callable[[Document], bool]) -> Document | None:
        """The first in the collection at `link` that is `wanted`; later pages are not fetched.

        Raises any `OctopusError`.
        """
        async with aclosing(self._items(link)) as items:
            async for item in items:
                if wanted(item):
                    return item
        return None

    async def create(
        self, link: str, body: Mapping[str, object], *, already: Callable[[], Awaitable[Document | None]]
    ) -> Document:
        """Posts `body` to the collection at `link` and gives what the server made of it.

        A post whose answer was lost may have been done.  It is therefore never repeated before `already` has looked
        for its effect and found none.  Raises any `OctopusError`.
        """
        if self._rehearse is not None:
            self._rehearse("POST", self.address.resolve(expand(link)), body)
            return Document({**body, "Id": "(new)"}, "a rehearsal")
        patience = Patience(self._retry_for, self._clock)
        while True:
            try:
                reply = await self._send("POST", link, body=body)
            except ConnectionFailed as error:
                problem: OctopusError = error
                pause = _pause(patience, problem)
            else:
                if succeeded(reply):
                    return await self._created(reply, already)
                problem = self._failure(reply)
                if isinstance(problem, ValidationFailed) and patience.attempts > 1 and (done := await already()):
                    return done
                pause = _pause(patience, problem, reply)
            if pause is None:
                raise problem
            await self._wait(pause, problem)
            if done := await already():
                return done

    async def update(self, link: str, body: Mapping[str, object]) -> None:
        """Replaces the document at `link`.  Saying the same twice changes nothing, so this is retried."""
        await self._ask("POST", link, override="PUT", body=body)

    async def delete(self, link: str) -> None:
        """Deletes the document at `link`; gone after an attempt of ours whose answer was lost counts as deleted."""
        await self._ask("POST", link, override="DELETE")

    async def _items(self, link: str) -> AsyncGenerator[Document, None]:
        following: str | None = link
        seen: set[URL] = set()
        count = 0
        while following:
            url = self.address.resolve(following)
            if url in seen or len(seen) >= MAX_PAGES:
                raise UnexpectedAnswer(f"The pages of {expand(link)} on the Octopus Server never end.")
            seen.add(url)
            reply = await self._ask("GET", following)
            value = value_of(reply)
            if isinstance(value, list):
                page, following = documents(value, reply.url.raw_path), None
            else:
                document = Document.of(value, reply.url.raw_path)
                page = document.objects("Items")
                count += len(page)
                following = _next_page(document, url, count) if page else None
            for item in page:
                yield item

    async def _ask(
        self, method: str, link: str, *, override: str | None = None, body: Mapping[str, object] | None = None
    ) -> Reply:
        """A successful answer to a request that may be repeated.  Raises any `OctopusError`."""
        if self._rehearse is not None and override is not None:
            url = self.address.resolve(expand(link))
            self._rehearse(override, url, body)
            return Reply(200, url, {}, b"{}")
        patience = Patience(self._retry_for, self._clock)
        while True:
            try:
                reply = await self._send(method, link, override=override, body=body)
            except ConnectionFailed as error:
                problem: OctopusError = error
                pause = _pause(patience, problem)
            else:
                if succeeded(reply) or (override == "DELETE" and reply.status == 404 and patience.attempts > 1):
                    return reply
                problem = self._failure(reply)
                pause = _pause(patience, problem, reply)
            if pause is None:
                raise problem
            await self._wait(pause, problem)

    async def _wait(self, pause: float, problem: OctopusError) -> None:
        self._notice(f"{problem} Trying again in {pause:g} s.")
        # Many machines that start together are not to come back together.
        await self._sleep(pause * (1 + LONGER * self._chance()))

    async def _send(
        self, method: str, link: str, *, override: str | None = None, body: Mapping[str, object] | None = None
    ) -> Reply:
        """One answer, redirects followed as far as credentials may go."""
        headers = dict(self._headers)
        if override is not None:
            headers["X-HTTP-Method-Override"] = override
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json; charset=utf-8"
            content = json.dumps(body, ensure_ascii=False).encode()
        url = self.address.resolve(expand(link))
        for _ in range(MAX_REDIRECTS + 1):
            reply = await self._exchange.send(method, url, headers, content)
            location = reply.headers.get("location")
            if reply.status not in REDIRECTS or not location:
                return reply
            target = redirect_target(url, location)
            moved = reply.status in _MOVED and same_but_for_a_slash(url, target)
            if method != "GET" and not moved and reply.status not in _KEEP_METHOD:
                return reply
            if target.origin() != url.origin():
                self._notice(f"{url.origin()} leads to {target.origin()}: use that in --server")
                self.address = self.address.moved_to(target)
            url = target
        raise NotAnOctopusServer(str(url.origin()), f"it redirects more than {MAX_REDIRECTS} times")

    async def _created(self, reply: Reply, already: Callable[[], Awaitable[Document | None]]) -> Document:
        """What a successful post made, from the answer, or looked up when the answer does not show it."""
        try:
            document = Document.of(value_of(reply), reply.url.raw_path)
        except UnexpectedAnswer:
            document = None
        if document is None or not document.text("Id"):
            document = await already()
        if document is None:
            raise UnexpectedAnswer(f"The Octopus Server's answer to a creation at {reply.url.raw_path} has no 'Id'.")
        return document

    async def _sign_in(self) -> None:
        """Exchanges user name and password for the cookies of a session (tentacle-cli.md 5.4)."""
        link = (await self.root()).need_link("SignIn")
        url = self.address.resolve(expand(link))
        body = {
            "Username": self._credentials.username,
            "Password": self._credentials.password,
            "RememberMe": False,
            "State": {"UsingSecureConnection": self.address.secure},
        }
        reply = await self._send("POST", link, body=body)
        if not succeeded(reply):
            problem = self._failure(reply)
            raise (
                AccessRefused(problem.message, hint="Check the user name and the password.", status=reply.status)
                if reply.status in {400, 401, 403}
                else problem
            )
        tokens = [v for name, v in self._exchange.cookie_names_and_values(url) if name.startswith(_CSRF_COOKIE)]
        if len(tokens) != 1:
            raise UnexpectedAnswer(
                f"The Octopus Server set {len(tokens)} cookies named {_CSRF_COOKIE}… at sign-in instead of one.",
                hint="Use an API key instead.",
            )
        self._headers = {**self._headers, "X-Octopus-Csrf-Token": tokens[0]}

    async def _exchange_token(self, token: str, service_account: str) -> None:
        """From here on the access token is used that the server gives for an OIDC token.  Changes nothing there."""
        try:
            endpoint = oidc.endpoint_of(await self.get(oidc.DISCOVERY))
        except (AccessRefused, NotFound, UnexpectedAnswer):
            endpoint = oidc.WELL_KNOWN_ENDPOINT
        try:
            reply = await self._ask("POST", endpoint, body=oidc.exchange_body(token, service_account))
        except (AccessRefused, ValidationFailed) as error:
            message = f"The Octopus Server does not accept the OIDC token: {error.message}"
            raise AccessRefused(message, hint=oidc.REFUSED, status=getattr(error, "status", 400)) from error
        self._access = Credentials(bearer_token=oidc.access_token_of(Document.of(value_of(reply), reply.url.raw_path)))
        self._headers = self._access.headers

    def _failure(self, reply: Reply) -> OctopusError:
        return failure(reply, self._redact)

    def _redact(self, text: str) -> str:
        return self._access.redact(self._credentials.redact(text))


def _next_page(page: Document, url: URL, count: int) -> str | None:
    """Where the collection goes on after `count` items, the last of which are those of the `page` at `url`.

    By its link; a page without any links goes on as long as it says that there are more items.
    """
    total = page.raw("TotalResults")
    if page.links or not isinstance(total, int) or count >= total:
        return page.link("Page.Next")
    return str(url.update_query(skip=count))


def _pause(patience: Patience, problem: OctopusError, reply: Reply | None = None) -> float | None:
    """The pause before one more attempt after a `problem`, None when it is not to be tried again."""
    if reply is not None and reply.status in BUSY:
        return patience.pause(retry_after(reply))
    if isinstance(problem, NameUnresolved) or (reply is not None and reply.status in BROKEN):
        return patience.pause() if patience.attempts < FEW_TRIES else None
    return patience.pause() if isinstance(problem, ConnectionFailed) else None


def _check_api_version(where: str, root: Document) -> None:
    version = root.text("ApiVersion") or ""
    numbers = version.split(".")
    if not all(part.isascii() and part.isdigit() for part in numbers) or len(numbers) < 2:
        raise NotAnOctopusServer(where, "its root document has no usable ApiVersion")
    major, minor, patch = ([int(part[:9]) for part in numbers] + [0])[:3]
    if (major, minor) != (3, 0) or patch > 99:
        raise NotAnOctopusServer(where, f"its ApiVersion is {version[:40]}, and this agent speaks 3.0.0 to 3.0.99")
