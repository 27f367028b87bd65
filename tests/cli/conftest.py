"""The command line run in this process, and as the installed program; a small Octopus Server and its polling port."""

from __future__ import annotations

import asyncio
import io
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tentacle.cli.frame.session import ProcessContext
from tentacle.cli.main import run
from tentacle.settings import certificates
from tentacle.settings.store import SettingsFile
from tests.cli.hostile import Place, nowhere
from tests.patience import PATIENCE
from tests.sockets import talking

PROGRAM = Path(sys.executable).parent / "tentacle"
API_KEY = "API-TESTKEY0123456789"
SERVER_THUMBPRINT = "679DDD8527CCE15FE45A5DACD92EA7C0364198D3"


@dataclass(frozen=True)
class Ended:
    """What a command left: its exit code and both outputs."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@dataclass(frozen=True)
class Tentacle:
    """The command line of one test: called, it runs in this process; `program` runs the installed executable."""

    cwd: Path
    environ: dict[str, str]

    def __call__(self, *arguments: str, stdin: str = "", **changes: Any) -> Ended:
        out, err = io.StringIO(), io.StringIO()
        world = ProcessContext(
            environ=self.environ, cwd=self.cwd, stdin=io.StringIO(stdin), stdout=out, stderr=err, machine_name="vm"
        )
        code = run(arguments, replace(world, **changes))
        return Ended(code, out.getvalue(), err.getvalue())

    def ok(self, *arguments: str, **changes: Any) -> Ended:
        ended = self(*arguments, **changes)
        assert (ended.code, ended.err) == (0, ""), ended
        return ended

    async def aside(self, *arguments: str, **changes: Any) -> Ended:
        """In a thread, so that a server of this test can answer."""
        return await asyncio.to_thread(self, *arguments, **changes)

    def program(self, *arguments: str, stdin: str = "") -> Ended:
        done = subprocess.run(
            [PROGRAM, *arguments],
            cwd=self.cwd,
            env=self.environ,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str, stdin: int | None = None) -> subprocess.Popen[str]:
        """The installed program, which goes on; `stdin` is as for `Popen`."""
        return subprocess.Popen(
            [PROGRAM, *arguments],
            cwd=self.cwd,
            env=self.environ,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def log(self, home: Path) -> str:
        return (home / "Logs" / "OctopusTentacle.txt").read_text(encoding="utf-8")


@pytest.fixture
def tentacle(tmp_path: Path) -> Tentacle:
    cwd = tmp_path / "work"
    cwd.mkdir()
    (tmp_path / "home").mkdir()
    return Tentacle(cwd, dict(os.environ))


@pytest.fixture
def instance(tentacle: Tentacle, tmp_path: Path) -> Path:
    """The home of a new instance called I."""
    home = tmp_path / "I"
    tentacle.ok("create-instance", "--instance=I", f"--config={home}/I.cfg")
    return home


@pytest.fixture
def ready(tentacle: Tentacle, instance: Path) -> SettingsFile:
    """The configuration of that instance, with a certificate, listening where the recorded one did."""
    tentacle.ok("new-certificate", "--instance=I")
    tentacle.ok("configure", "--instance=I", "--port=20933")
    return SettingsFile(instance / "I.cfg")


@pytest.fixture
def url() -> Iterator[str]:
    """The address of a server that has nothing."""
    with nowhere() as address:
        yield address


@pytest.fixture
def place(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A directory with a file, an instance I beside it; the port that the instance listens on is taken."""
    cwd = tmp_path / "work"
    cwd.mkdir()
    monkeypatch.chdir(cwd)
    (cwd / "file").write_text("x")
    made = Place(cwd, tmp_path, dict(os.environ))
    made.make_instance(url)
    return made


@dataclass
class Octopus:
    """A server with one space, as the client sees it: what it was asked, and what it was given."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    posted: list[dict[str, Any]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    workers: list[dict[str, Any]] = field(default_factory=list)
    machines: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str] = field(default_factory=lambda: {API_KEY})
    thumbprint: str = SERVER_THUMBPRINT
    tokens: dict[str, str] = field(default_factory=dict)
    """Access tokens by the OIDC tokens that they are given for."""

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._gate])
        app.router.add_get("/api", self._root)
        app.router.add_get("/api/users/me", self._me)
        app.router.add_get("/api/users/Users-1/spaces", self._spaces)
        app.router.add_get("/api/Spaces-1", self._space)
        app.router.add_get("/api/configuration/certificates/certificate-global", self._certificate)
        for kind in ("workers", "machines"):
            app.router.add_get(f"/api/Spaces-1/{kind}", self._list)
            app.router.add_get(f"/api/Spaces-1/{kind}/all", self._all)
            app.router.add_post(f"/api/Spaces-1/{kind}", self._create)
            app.router.add_get(f"/api/Spaces-1/{kind}/{{id}}", self._one)
            app.router.add_post(f"/api/Spaces-1/{kind}/{{id}}", self._change)
        app.router.add_get("/api/Spaces-1/{kind:workerpools|environments|machinepolicies}", self._named)
        app.router.add_post("/handshake", self._root)
        app.router.add_post("/api/token/v1", self._token)
        return app

    @web.middleware
    async def _gate(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path_qs}")
        known = request.headers.get("X-Octopus-ApiKey") in self.keys
        known |= request.headers.get("Authorization") in {f"Bearer {token}" for token in self.tokens.values()}
        if request.path not in ("/api", "/api/token/v1") and not known:
            return web.json_response({"ErrorMessage": "You must be logged in to request this resource."}, status=401)
        response: web.StreamResponse = await handler(request)
        return response

    async def _token(self, request: web.Request) -> web.Response:
        return web.json_response({"access_token": self.tokens[(await request.json())["subject_token"]]})

    async def _root(self, _: web.Request) -> web.Response:
        links = {
            "Self": "/api",
            "CurrentUser": "/api/users/me",
            "Spaces": "/api/spaces{/id}{?skip,take}",
            "SpaceHome": "/api/{spaceId}",
            "CertificateConfiguration": "/api/configuration/certificates{/id}",
        }
        body = {"Application": "Octopus Deploy", "Version": "2026.3.1", "ApiVersion": "3.0.0", "Links": links}
        return web.json_response(body)

    async def _me(self, _: web.Request) -> web.Response:
        return web.json_response({"Id": "Users-1", "Links": {"Spaces": "/api/users/Users-1/spaces"}})

    async def _spaces(self, _: web.Request) -> web.Response:
        space = {"Id": "Spaces-1", "Name": "Default", "IsDefault": True, "Links": {"SpaceHome": "/api/Spaces-1"}}
        return web.json_response([space])

    async def _space(self, _: web.Request) -> web.Response:
        links = {
            "Workers": "/api/Spaces-1/workers{/id}{?skip,take,ids,name,thumbprint}",
            "Machines": "/api/Spaces-1/machines{/id}{?skip,take,ids,name,thumbprint}",
            "WorkerPools": "/api/Spaces-1/workerpools{/id}{?skip,take,ids}",
            "Environments": "/api/Spaces-1/environments{/id}{?skip,take,ids}",
            "MachinePolicies": "/api/Spaces-1/machinepolicies{/id}{?skip,take,ids}",
        }
        return web.json_response({"Links": links})

    async def _certificate(self, _: web.Request) -> web.Response:
        return web.json_response({"Id": "certificate-global", "Thumbprint": self.thumbprint})

    def _of(self, request: web.Request) -> list[dict[str, Any]]:
        return self.workers if "/workers" in request.path else self.machines

    async def _list(self, request: web.Request) -> web.Response:
        return web.json_response({"Items": [m for m in self._of(request) if m["Name"] == request.query.get("name")]})

    async def _all(self, request: web.Request) -> web.Response:
        wanted = request.query.get("thumbprint")
        return web.json_response([m for m in self._of(request) if m["Endpoint"]["Thumbprint"] == wanted])

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.posted.append(body)
        known = self._of(request)
        identifier = f"{'Workers' if known is self.workers else 'Machines'}-{len(known) + 1}"
        known.append({**body, "Id": identifier, "Links": {"Self": f"{request.path}/{identifier}"}})
        return web.json_response(known[-1], status=201)

    async def _one(self, request: web.Request) -> web.Response:
        return web.json_response(next(m for m in self._of(request) if m["Id"] == request.match_info["id"]))

    async def _change(self, request: web.Request) -> web.Response:
        if request.headers["X-HTTP-Method-Override"] == "DELETE":
            self.deleted.append(request.match_info["id"])
            return web.json_response({})
        body = await request.json()
        self.posted.append(body)
        return web.json_response(body)

    async def _named(self, request: web.Request) -> web.Response:
        names = {"workerpools": "Linux", "environments": "Dev", "machinepolicies": "Slow"}
        kind = request.match_info["kind"]
        return web.json_response({"Items": [{"Id": f"{kind}-1", "Name": names[kind], "Slug": names[kind].lower()}]})


@pytest.fixture
async def octopus() -> AsyncIterator[Octopus]:
    server = Octopus()
    async with TestServer(server.application(), host="127.0.0.1") as running:
        server.url = str(running.make_url("/"))
        yield server


@dataclass(frozen=True)
class Comms:
    """A port that answers like a server's polling port: TLS, a self-signed certificate, a page."""

    port: int
    thumbprint: str


@pytest.fixture
async def comms(tmp_path: Path) -> AsyncIterator[Comms]:
    """Such a port."""
    made = certificates.generate()
    pem = tmp_path / "server.pem"
    pem.write_bytes(made.certificate_pem + made.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        await reader.read()

    async with talking(answer, context) as port:
        yield Comms(port, made.thumbprint)


@pytest.fixture
def comms_port(comms: Comms) -> int:
    """A polling port of nobody in particular."""
    return comms.port


@pytest.fixture
def its_comms_port(octopus: Any, comms: Comms) -> int:
    """The polling port of the server of the test."""
    octopus.thumbprint = comms.thumbprint
    return comms.port
