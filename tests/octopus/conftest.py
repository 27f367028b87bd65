"""A server that behaves like Octopus over REST, on loopback, with the liberties other makes take.

It plays the peer: documents by link, pages, spaces, signing in, and a record of every request.
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tentacle.octopus.client import Credentials, OctopusClient
from tests.sockets import joined, talking

KEY = "API-TESTKEY0123456789"
THUMBPRINT = "78565D222B645F48598D42DD56934802C98BB16F"
SERVER_THUMBPRINT = "679DDD8527CCE15FE45A5DACD92EA7C0364198D3"

Intercept = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


@dataclass
class Recorded:
    method: str
    path: str
    headers: dict[str, str]
    body: Any

    @property
    def write(self) -> tuple[str, str, str | None, str | None, str]:
        """What is compared of a change; the body as text, so that the order of its members counts."""
        return (
            self.method,
            self.path,
            self.headers.get("X-HTTP-Method-Override"),
            self.headers.get("Content-Type"),
            json.dumps(self.body),
        )


def _named(prefix: str, number: int, name: str, **more: Any) -> dict[str, Any]:
    return {"Id": f"{prefix}-{number}", "Name": name, "Slug": name.lower().replace(" ", "-"), **more}


@dataclass
class OctopusLike:
    """State and habits of the server; `api` is where its interface lives, `scoped` where a space's part of it does."""

    api: str = "/api"
    scoped: str = "/api/Spaces-1"
    tilde: str | None = None
    """A virtual directory: links are written `~/…` for what lies below it."""
    has_spaces: bool = True
    thumbprint_filter: bool = True
    name_filter: bool = True
    page_size: int = 30
    version: str = "2024.4.0"
    api_version: str = "3.0.0"
    thumbprint: str = SERVER_THUMBPRINT
    has_v2: bool = False
    all_link: bool = True
    omit_links: set[str] = field(default_factory=set)
    collections: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    spaces: list[dict[str, Any]] = field(default_factory=list)
    intercept: Intercept | None = None
    lose_answers: int = 0
    """How many posts are carried out without their answer ever arriving."""
    rewrite: Callable[[Any], Any] | None = None
    """What becomes of every document before it is sent."""
    reread: Callable[[Any], Any] = lambda body: body
    """How the server makes its own again of a document that was sent to it."""
    unseen_prefix: str = ""
    """A virtual directory that only something in front of the server knows: it is cut off every request."""
    bearer: str = ""
    """An access token that is as good as the key."""
    wants_slash: bool = False
    """Whether every address without a slash at its end is answered with the way to that with one."""
    requests: list[Recorded] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        self.spaces = self.spaces or [
            {"Id": "Spaces-2", "Name": "Other", "IsDefault": False, "Links": {"SpaceHome": self.api + "/Spaces-2"}},
            {"Id": "Spaces-1", "Name": "Default", "IsDefault": True, "Links": {"SpaceHome": self.scoped}},
        ]
        defaults: dict[str, list[dict[str, Any]]] = {
            "workers": [],
            "machines": [],
            "workerpools": [
                _named("WorkerPools", 1, "Default Worker Pool"),
                {"Id": "WorkerPools-2", "Name": "Linux", "Slug": "linux-pool"},
            ],
            "machinepolicies": [_named("MachinePolicies", 1, "Default"), _named("MachinePolicies", 2, "Slow")],
            "proxies": [_named("Proxies", 1, "Proxy ABC")],
            "environments": [_named("Environments", 1, "Dev"), _named("Environments", 2, "Prod")],
            "tenants": [_named("Tenants", 1, "Acme")],
            "tagsets": [{"Id": "TagSets-1", "Name": "T", "Tags": [{"CanonicalTagName": "T/VIP"}]}],
        }
        self.collections = {**defaults, **self.collections}

    @property
    def writes(self) -> list[Recorded]:
        return [request for request in self.requests if request.method != "GET"]

    @property
    def gets(self) -> list[str]:
        return [request.path for request in self.requests if request.method == "GET"]

    def link(self, path: str) -> str:
        return path.replace(self.tilde, "~", 1) if self.tilde else path

    def root(self) -> dict[str, Any]:
        links = {
            "Self": self.link(self.api),
            "CurrentUser": self.link(self.api + "/users/me"),
            "SignIn": self.link(self.api + "/users/login{?returnUrl}"),
            "CertificateConfiguration": self.link(self.api + "/configuration/certificates{/id}{?skip,take}"),
        }
        if self.has_spaces:
            links |= {"Spaces": self.link(self.api + "/spaces{/id}"), "SpaceHome": self.link(self.api + "/{spaceId}")}
        else:
            links |= self.space_links()
        return {
            "Application": "Octopus Deploy",
            "Version": self.version,
            "ApiVersion": self.api_version,
            "Links": {name: link for name, link in links.items() if name not in self.omit_links},
        }

    def space_links(self) -> dict[str, str]:
        name = "name," if self.name_filter else ""
        thumbprint = ",thumbprint" if self.thumbprint_filter else ""
        links = {
            "Workers": f"{self.scoped}/workers{{/id}}{{?skip,take,{name}ids{thumbprint}}}",
            "Machines": f"{self.scoped}/machines{{/id}}{{?skip,take,{name}ids{thumbprint}}}",
            "WorkerPools": self.scoped + "/workerpools{/id}{?skip,ids,take,partialName}",
            "MachinePolicies": self.scoped + "/machinepolicies{/id}{?skip,take,ids,partialName}",
            "Proxies": self.scoped + "/proxies{/id}{?skip,take,ids}",
            "Environments": self.scoped + "/environments{/id}{?skip,ids,take}",
            "Tenants": self.scoped + "/tenants{/id}{?skip,ids,take}",
            "TagSets": self.scoped + "/tagsets{/id}{?skip,take}",
        }
        return {name: self.link(link) for name, link in links.items() if name not in self.omit_links}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.rel_url.raw_path
        query = f"?{request.rel_url.raw_query_string}" if request.rel_url.raw_query_string else ""
        if not path.startswith(self.unseen_prefix):
            return web.Response(status=404, text="<html>nothing here", content_type="text/html")
        if self.wants_slash and not path.endswith("/"):
            return web.Response(status=301, headers={"Location": f"{path}/{query}"})
        asked = path.removeprefix(self.unseen_prefix)
        answer = await self._answer(request.clone(rel_url=(asked.rstrip("/") if self.wants_slash else asked) + query))
        if self.rewrite is None or not isinstance(answer, web.Response) or answer.content_type != "application/json":
            return answer
        return web.json_response(self.rewrite(json.loads(answer.text or "null")), status=answer.status)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        body = json.loads(text) if text else None
        self.requests.append(Recorded(request.method, request.path_qs, dict(request.headers), body))
        if self.intercept is not None and (answer := await self.intercept(request)) is not None:
            return answer
        if request.path == self.api:
            return web.json_response(self.root())
        authorized = request.headers.get("X-Octopus-ApiKey") == KEY or "sign" in request.headers.get("Cookie", "")
        authorized |= bool(self.bearer) and request.headers.get("Authorization") == f"Bearer {self.bearer}"
        if request.path == self.api + "/users/login":
            return self._login(body)
        if not authorized:
            message = "You must be logged in to request this resource. Please provide a valid API key or log in."
            return web.json_response({"ErrorMessage": message}, status=401)
        return self._document(request, self.reread(body))

    def _login(self, body: Any) -> web.Response:
        if body["Password"] != "right":
            return web.json_response({"ErrorMessage": f"no such password {body['Password']}"}, status=401)
        answer = web.json_response({"Id": "Users-1"})
        answer.headers.add("Set-Cookie", "OctopusIdentificationToken_x=sign=ed|%2F; path=/; HttpOnly")
        answer.headers.add("Set-Cookie", "Octopus-Csrf-Token_x=csrf|%2Ba=; path=/")
        return answer

    def _document(self, request: web.Request, body: Any) -> web.Response:
        path, scoped = request.path, self.scoped + "/"
        if path == self.api + "/users/me":
            return web.json_response({"Id": "Users-1", "Links": {"Spaces": self.link(self.api + "/users/U/spaces")}})
        if path in {self.api + "/users/U/spaces", self.api + "/spaces/all"}:
            return web.json_response(self.spaces)
        if path == self.scoped:
            return web.json_response({"Links": self.space_links()})
        if path == self.api + "/configuration/certificates/certificate-global":
            return web.json_response({"Id": "certificate-global", "Thumbprint": self.thumbprint})
        if path == scoped + "environments/v2" and self.has_v2:
            return web.json_response({"Items": [_named("Environments", 9, "Ephemeral")]})
        name, _, identifier = path.removeprefix(scoped).partition("/")
        if not path.startswith(scoped) or name not in self.collections:
            return web.json_response({"ErrorMessage": "not here"}, status=404)
        if request.method == "POST":
            return self._change(request, name, identifier, body)
        return self._collection(request, name, identifier)

    def _change(self, request: web.Request, name: str, identifier: str, body: Any) -> web.Response:
        items = self.collections[name]
        override = request.headers.get("X-HTTP-Method-Override")
        found = next((item for item in items if item["Id"] == identifier), None)
        if override is None:
            if any(item["Name"] == body["Name"] for item in items):
                return web.json_response({"ErrorMessage": "Taken.", "Errors": ["Name is in use."]}, status=400)
            fresh = f"{name.title()}-{len(items) + 1}"
            found = {**body, "Id": fresh, "Links": {"Self": self.link(f"{self.scoped}/{name}/{fresh}")}}
            items.append(found)
        elif found is None:
            return web.json_response({"ErrorMessage": "not found"}, status=404)
        elif override == "PUT":
            found.update(body)
        else:
            items.remove(found)
        if self.lose_answers:
            self.lose_answers -= 1
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(found, status=200 if override else 201)

    def _collection(self, request: web.Request, name: str, identifier: str) -> web.Response:
        items, query = self.collections[name], request.query
        if identifier == "all" and self.all_link:
            wanted = query.get("thumbprint", "").lower()
            shown = [i for i in items if not wanted or i["Endpoint"]["Thumbprint"].lower() == wanted]
            return web.json_response(shown)
        if identifier:
            return web.json_response({"ErrorMessage": "not here"}, status=404)
        if "name" in query:
            items = [item for item in items if query["name"].lower() in item["Name"].lower()]
        if "ids" in query:
            items = [item for item in items if item["Id"] in query["ids"].split(",")]
        start = int(query.get("skip", "0"))
        links = {"Self": self.link(request.path)}
        if start + self.page_size < len(items):
            links["Page.Next"] = f"{self.link(request.path)}?skip={start + self.page_size}"
        return web.json_response({"Items": items[start : start + self.page_size], "Links": links})


@pytest.fixture
async def octopus() -> AsyncIterator[Callable[..., Awaitable[OctopusLike]]]:
    """Starts servers: `await octopus(api=…)`; they end with the test."""
    runners: list[web.AppRunner] = []

    async def start(*, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", **habits: Any) -> OctopusLike:
        server = OctopusLike(**habits)
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", server.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        site = web.TCPSite(runner, host, 0, ssl_context=tls)
        await site.start()
        port = runner.addresses[0][1]
        shown = f"[{host}]" if ":" in host else host
        server.url = f"{'https' if tls else 'http'}://{shown}:{port}{server.tilde or server.unseen_prefix}"
        return server

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
def connect() -> Callable[..., OctopusClient]:
    """A client of a server, with the key of the recordings and pauses that take no time unless told otherwise."""

    async def no_time(_: float) -> None:
        await asyncio.sleep(0)

    def client(server: OctopusLike | str, **options: Any) -> OctopusClient:
        url = server if isinstance(server, str) else server.url
        credentials = options.pop("credentials", Credentials(api_key=KEY))
        return OctopusClient(
            url, credentials, **{"version": "8.1.2", "sleep": no_time, "timeout": 5.0, "chance": lambda: 0.0, **options}
        )

    return client


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A self-signed certificate for 127.0.0.1 with its key in one PEM file, and its thumbprint."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Octopus of the test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path, made.fingerprint(hashes.SHA1()).hex().upper()


@pytest.fixture
def server_tls(certificate: tuple[Path, str]) -> ssl.SSLContext:
    """The accepting side's context for that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate[0])
    return context


@asynccontextmanager
async def _tunnel(status: bytes, seen: list[bytes]) -> AsyncIterator[int]:
    """A proxy that joins the client with whom it asks for, or says no."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(head)
        writer.write(b"HTTP/1.1 " + status + b"\r\nVia: us\r\n\r\n")
        if not status.startswith(b"200"):
            return
        host, _, port = head.split()[1].decode().rpartition(":")
        await joined(reader, writer, host, int(port))

    async with talking(handle) as port:
        yield port


@pytest.fixture
def tunnel() -> Callable[[bytes, list[bytes]], Any]:
    """`async with tunnel(b"200 OK", seen) as port`: a CONNECT proxy that notes what it was asked."""
    return _tunnel
