"""A client of the Octopus Server's REST interface: documents by link, with retries where they are safe.

Knows the root document, signing in, paging and how changes are sent (docs/spec/rest.md, "Requests" and
"Collections and pages" and "Signing in").  Knows nothing of workers, pools or registration.  Paths other than the
root's come from the server's own links.
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
from tentacle.octopus.certificates import parse_pin
from tentacle.octopus.credentials import Credentials
from tentacle.octopus.errors import (
    AccessRefused,
    ConnectionFailed,
    InvalidAddress,
    NotAnOctopusServer,
    NotFound,
    UnexpectedAnswer,
    ValidationFailed,
)
from tentacle.octopus.http_client import REQUEST_SECONDS, HttpClient, HttpOptions, HttpResponse, user_agent
from tentacle.octopus.json_document import JsonDocument, json_documents
from tentacle.octopus.link_templates import ROOT_LINKS, expand
from tentacle.octopus.proxies import ProxyUrl
from tentacle.octopus.responses import REDIRECTS, failure, json_value, succeeded
from tentacle.octopus.retries import FailedAttempt, Retries
from tentacle.octopus.server_address import ServerAddress, redirect_target, same_but_for_a_slash

__all__ = ["Credentials", "OctopusClient"]

MAX_PAGES = 1000
"""Pages of one collection that are read before it is taken to be endless."""
MAX_REDIRECTS = 5
JITTER = 0.25
"""The largest part of a pause by which it is made longer at random."""
_KEEP_METHOD = frozenset({307, 308})
_MOVED = frozenset({301, 302})
_CSRF_COOKIE = "Octopus-Csrf-Token"

Rehearse = Callable[[str, URL, Mapping[str, object] | None], None]
"""Gets the method (`POST`, `PUT`, `DELETE`), the address and the body of a change that is not made."""


class OctopusClient:
    """One conversation with one server, as an async context manager that signs in on entering.

    `version` is what the server is told of this agent; `timeout` the seconds that a single request may take;
    `retry_for` the seconds for which one step is tried again while the server cannot be reached or is busy.  `chance`
    returns a number from 0 to 1, by which pauses differ.  `pin` is the thumbprint of the only TLS certificate that is
    accepted.  `on_request` gets a line for each request, `on_notice` a line before each pause.  With `rehearse` nothing
    is changed on the server: each change is handed to it instead.  Entering raises any `OctopusError`.
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
        timeout: float = REQUEST_SECONDS,
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
        options = HttpOptions(
            ignore_ssl_errors,
            str(ca_file) if ca_file else None,
            proxy,
            trust_env,
            timeout,
            parse_pin(pin) if pin is not None else None,
        )
        self._http = HttpClient(
            options,
            user_agent=user_agent(version),
            cookies=bool(credentials.username),
            on_request=None if on_request is None else lambda line: on_request(self._redact(line)),
        )
        self._access = credentials
        """What the credentials were exchanged for; the credentials themselves where they are sent as they are."""
        self._headers = credentials.headers
        self._root: JsonDocument | None = None
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._http)
            await self.root()
            if self._credentials.username:
                await self._sign_in()
            if self._credentials.oidc_token:
                account = self._credentials.service_account or ""
                token = await oidc.exchange(self.get, self._post, self._credentials.oidc_token, account)
                self._access = Credentials(bearer_token=token)
                self._headers = self._access.headers
            self._open = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def root(self) -> JsonDocument:
        """The root document, which is fetched once.

        Raises `NotAnOctopusServer` unless its ApiVersion is from 3.0.0 to 3.0.99, and any `OctopusError`.
        """
        if self._root is None:
            try:
                document = await self.get("~/api")
            except (NotFound, UnexpectedAnswer) as error:
                raise NotAnOctopusServer(
                    self.address.display, f"no root document at {self.address.base}/api"
                ) from error
            _check_api_version(self.address.display, document)
            self.address = self.address.linked_by(document.links.values())
            self._root = document.with_default_links(ROOT_LINKS)
        return self._root

    async def get(self, link: str) -> JsonDocument:
        """The object at `link`.  Raises any `OctopusError`."""
        response = await self._send_with_retries("GET", link)
        return JsonDocument.of(json_value(response), response.url.raw_path)

    async def collection(self, link: str) -> list[JsonDocument]:
        """Everything in the collection at `link`, a plain list or pages.  Raises any `OctopusError`."""
        return [item async for item in self._items(link)]

    async def find(self, link: str, wanted: Callable[[JsonDocument], bool]) -> JsonDocument | None:
        """The first in the collection at `link` that is `wanted`; later pages are not fetched.

        Raises any `OctopusError`.
        """
        async with aclosing(self._items(link)) as items:
            async for item in items:
                if wanted(item):
                    return item
        return None

    async def create(
        self, link: str, body: Mapping[str, object], *, already: Callable[[], Awaitable[JsonDocument | None]]
    ) -> JsonDocument:
        """Posts `body` to the collection at `link` and returns what the server made of it.

        When the answer to a post is lost, the post may have been done.  So it is never repeated before `already` has
        looked for its effect and found none.  Raises any `OctopusError`.
        """
        if self._rehearse is not None:
            self._rehearse("POST", self.address.resolve(expand(link)), body)
            return JsonDocument({**body, "Id": "(new)"}, "a rehearsal")
        retries = Retries(self._retry_for, self._clock)
        while True:
            outcome = await self._attempt("POST", link, body=body)
            if isinstance(outcome, HttpResponse):
                return await self._created(outcome, already)
            refused_after_retry = isinstance(outcome.error, ValidationFailed) and retries.attempts > 1
            if refused_after_retry and (done := await already()):
                return done
            await self._pause_after(outcome, retries)
            if done := await already():
                return done

    async def update(self, link: str, body: Mapping[str, object]) -> None:
        """Replaces the document at `link`.  Doing so twice changes nothing more, so this is retried."""
        await self._send_with_retries("POST", link, override="PUT", body=body)

    async def delete(self, link: str) -> None:
        """Deletes the document at `link`.  When it is gone after an attempt without an answer, it counts as deleted."""
        await self._send_with_retries("POST", link, override="DELETE")

    async def _items(self, link: str) -> AsyncGenerator[JsonDocument, None]:
        following: str | None = link
        seen: set[URL] = set()
        count = 0
        while following:
            url = self.address.resolve(following)
            if url in seen or len(seen) >= MAX_PAGES:
                raise UnexpectedAnswer(f"The pages of {expand(link)} on the Octopus Server never end.")
            seen.add(url)
            response = await self._send_with_retries("GET", following)
            value = json_value(response)
            if isinstance(value, list):
                page, following = json_documents(value, response.url.raw_path), None
            else:
                document = JsonDocument.of(value, response.url.raw_path)
                page = document.objects("Items")
                count += len(page)
                following = _next_page(document, url, count) if page else None
            for item in page:
                yield item

    async def _post(self, link: str, body: Mapping[str, object]) -> JsonDocument:
        """The answer to a post that changes nothing and so may be repeated.  Raises any `OctopusError`."""
        response = await self._send_with_retries("POST", link, body=body)
        return JsonDocument.of(json_value(response), response.url.raw_path)

    async def _send_with_retries(
        self, method: str, link: str, *, override: str | None = None, body: Mapping[str, object] | None = None
    ) -> HttpResponse:
        """A successful answer to a request that may be repeated.  Raises any `OctopusError`."""
        if self._rehearse is not None and override is not None:
            url = self.address.resolve(expand(link))
            self._rehearse(override, url, body)
            return HttpResponse(200, url, {}, b"{}")
        retries = Retries(self._retry_for, self._clock)
        while True:
            outcome = await self._attempt(method, link, override=override, body=body)
            if isinstance(outcome, HttpResponse):
                return outcome
            response = outcome.response
            if response is not None and override == "DELETE" and response.status == 404 and retries.attempts > 1:
                return response
            await self._pause_after(outcome, retries)

    async def _attempt(
        self, method: str, link: str, *, override: str | None = None, body: Mapping[str, object] | None = None
    ) -> HttpResponse | FailedAttempt:
        """A successful answer, or a failure that may be worth another attempt.  Raises the other `OctopusError`s."""
        try:
            response = await self._send(method, link, override=override, body=body)
        except ConnectionFailed as error:
            return FailedAttempt(error)
        return response if succeeded(response) else FailedAttempt(failure(response, self._redact), response)

    async def _pause_after(self, failed: FailedAttempt, retries: Retries) -> None:
        """Waits before another attempt.  Raises the failure's error when there is to be none."""
        pause = retries.pause_after(failed)
        if pause is None:
            raise failed.error
        self._notice(f"{failed.error} Trying again in {pause:g} s.")
        # Many machines that start together must not come back together.
        await self._sleep(pause * (1 + JITTER * self._chance()))

    async def _send(
        self, method: str, link: str, *, override: str | None = None, body: Mapping[str, object] | None = None
    ) -> HttpResponse:
        """One answer, after redirects as far as credentials may follow them."""
        headers = dict(self._headers)
        if override is not None:
            headers["X-HTTP-Method-Override"] = override
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json; charset=utf-8"
            content = json.dumps(body, ensure_ascii=False).encode()
        url = self.address.resolve(expand(link))
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._http.send(method, url, headers, content)
            location = response.headers.get("location")
            if response.status not in REDIRECTS or not location:
                return response
            target = redirect_target(url, location)
            moved = response.status in _MOVED and same_but_for_a_slash(url, target)
            if method != "GET" and not moved and response.status not in _KEEP_METHOD:
                return response
            if target.origin() != url.origin():
                self._notice(f"{url.origin()} leads to {target.origin()}: use that in --server")
                self.address = self.address.moved_to(target)
            url = target
        raise NotAnOctopusServer(str(url.origin()), f"it redirects more than {MAX_REDIRECTS} times")

    async def _created(
        self, response: HttpResponse, already: Callable[[], Awaitable[JsonDocument | None]]
    ) -> JsonDocument:
        """What a successful post made: from the answer, or looked up when the answer does not show it."""
        try:
            document = JsonDocument.of(json_value(response), response.url.raw_path)
        except UnexpectedAnswer:
            document = None
        if document is None or not document.text("Id"):
            document = await already()
        if document is None:
            raise UnexpectedAnswer(f"The Octopus Server's answer to a creation at {response.url.raw_path} has no 'Id'.")
        return document

    async def _sign_in(self) -> None:
        """Exchanges user name and password for the cookies of a session (docs/spec/rest.md, "Signing in")."""
        link = (await self.root()).require_link("SignIn")
        body = {
            "Username": self._credentials.username,
            "Password": self._credentials.password,
            "RememberMe": False,
            "State": {"UsingSecureConnection": self.address.secure},
        }
        url = self.address.resolve(expand(link))
        response = await self._send("POST", link, body=body)
        if not succeeded(response):
            error = failure(response, self._redact)
            if response.status in {400, 401, 403}:
                hint = "Check the user name and the password."
                raise AccessRefused(error.message, hint=hint, status=response.status)
            raise error
        tokens = [v for name, v in self._http.cookie_names_and_values(url) if name.startswith(_CSRF_COOKIE)]
        if len(tokens) != 1:
            raise UnexpectedAnswer(
                f"The Octopus Server set {len(tokens)} cookies named {_CSRF_COOKIE}… at sign-in instead of one.",
                hint="Use an API key instead.",
            )
        self._headers = {**self._headers, "X-Octopus-Csrf-Token": tokens[0]}

    def _redact(self, text: str) -> str:
        return self._access.redact(self._credentials.redact(text))


def _next_page(page: JsonDocument, url: URL, count: int) -> str | None:
    """The link to what follows the `page` at `url`, the last of `count` items so far.

    A page without any links says only how many items there are.
    """
    total = page.raw("TotalResults")
    if page.links or not isinstance(total, int) or count >= total:
        return page.link("Page.Next")
    return str(url.update_query(skip=count))


def _check_api_version(where: str, root: JsonDocument) -> None:
    version = root.text("ApiVersion") or ""
    numbers = version.split(".")
    if not all(part.isascii() and part.isdigit() for part in numbers) or len(numbers) < 2:
        raise NotAnOctopusServer(where, "its root document has no usable ApiVersion")
    major, minor, patch = ([int(part[:9]) for part in numbers] + [0])[:3]
    if (major, minor) != (3, 0) or patch > 99:
        raise NotAnOctopusServer(where, f"its ApiVersion is {version[:40]}, and this agent speaks 3.0.0 to 3.0.99")
