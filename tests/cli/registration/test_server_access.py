"""The way to an Octopus Server: whatever calls one agrees with registration (docs/spec/rest.md,
"Proxies of the REST client").
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pytest

from tentacle.cli.frame.session import CommandSession, ProcessContext
from tentacle.cli.init.questions import Questions
from tentacle.cli.init.server_questions import ServerQuestions
from tentacle.cli.registration.options import ApiOptions
from tentacle.cli.registration.server_access import is_polling, polling_proxy, route_to_register
from tentacle.errors import TentacleError
from tentacle.octopus.credentials import Credentials
from tentacle.octopus.proxies import ProxyUrl
from tentacle.settings.model import CommunicationStyle, ProxySettings, Settings, TrustedServer
from tentacle.settings.store import SettingsFile
from tests.sockets import joined, talking

KEY: Final = "API-TESTKEY0123456789"
SERVER: Final = "679DDD8527CCE15FE45A5DACD92EA7C0364198D3"
POLLED: Final = TrustedServer(SERVER, CommunicationStyle.TENTACLE_ACTIVE, "https://node1:10943", "poll://abcdefgh/")


def api_options(server: str | None = None, **given: Any) -> ApiOptions:
    nothing = dict.fromkeys(ApiOptions.__dataclass_fields__)
    return ApiOptions(**{**nothing, "ignore_ssl_errors": False, "api_key_stdin": False, **given, "server": server})


@dataclass
class Network:
    """A server and three proxies, none of which has anything but a note of who came by."""

    seen: list[str] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)

    async def talk(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, *_ = head.decode().split()
        if method == "CONNECT":
            host, _, port = target.rpartition(":")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await joined(reader, writer, host, int(port))
            return
        self.seen.append(name)
        writer.write(b"HTTP/1.1 404 None\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    def proxy(self, kind: str, name: str) -> ProxySettings:
        """A proxy that is `custom` (called `name`), `default` (the environment's) or `off`."""
        if kind == "custom":
            return ProxySettings(use_default=False, host="127.0.0.1", port=self.ports[name])
        return ProxySettings(use_default=kind == "default")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['direct']}"

    def came_by(self) -> set[str]:
        """Who was called since the last time."""
        seen, self.seen = set(self.seen), []
        return seen


@pytest.fixture
async def network(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Network]:
    made = Network()
    async with AsyncExitStack() as stack:
        for name in ("direct", "listening", "polling", "environment"):

            async def talk(r: asyncio.StreamReader, w: asyncio.StreamWriter, name: str = name) -> None:
                await made.talk(name, r, w)

            made.ports[name] = await stack.enter_async_context(talking(talk))
        for variable in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(variable, f"http://127.0.0.1:{made.ports['environment']}")
        yield made


WAYS = pytest.mark.parametrize(
    ("style", "proxy", "polling", "to_register", "when_registered"),
    [
        ("TentaclePassive", "custom", "custom", "direct", "polling"),
        ("TentaclePassive", "default", "custom", "environment", "polling"),
        ("TentaclePassive", "off", "default", "direct", "direct"),
        ("TentacleActive", "custom", "custom", "polling", "polling"),
        ("TentacleActive", "default", "default", "environment", "direct"),
        ("TentacleActive", "default", "off", "direct", "direct"),
    ],
)


@WAYS
async def test_every_command_goes_the_way_that_registration_goes(
    tentacle: Any,
    instance: Path,
    network: Network,
    comms_port: int,
    style: str,
    proxy: str,
    polling: str,
    to_register: str,
    when_registered: str,
) -> None:
    """The proxy of a listening machine is for its scripts: `init` once tried out a way that registration did not go."""
    tentacle.ok("new-certificate", "--instance=I")
    tentacle.ok("rotate-certificate", "--instance=I")
    active = style == "TentacleActive"
    file = SettingsFile(instance / "I.cfg")
    settings = replace(
        file.load(),
        no_listen=active,
        proxy=network.proxy(proxy, "listening"),
        polling_proxy=network.proxy(polling, "polling"),
        servers=(POLLED,) if active else (),
    )
    file.save(settings)
    asking = ("--instance=I", f"--server={network.url}", f"--apiKey={KEY}")
    registering = (*asking, f"--comms-style={style}", "--workerpool=P")
    ways: dict[str, set[str]] = {}
    for command, *arguments in (
        ("register-worker", *registering, "--dry-run"),
        ("register-with", *registering[:-1], "--env=E", "--role=R", "--dry-run"),
        *(() if active else [("agent", "--noninteractive", "--ephemeral", *registering)]),
        ("rotate-certificate", "--update-server", *asking),
        ("doctor", *asking, f"--server-comms-port={comms_port}"),
        ("deregister-worker", *asking),
        ("deregister-from", *asking),
        ("show-configuration", *asking),
        ("poll-server", *asking, f"--server-comms-port={comms_port}"),
    ):
        ended = await tentacle.aside(command, *arguments)
        assert ended.code == 1, (command, ended)
        ways[command] = network.came_by()
    stdin, out = io.StringIO(), io.StringIO()
    session = CommandSession(ProcessContext(environ={}, cwd=tentacle.cwd, stdin=stdin, stdout=out))
    questions = Questions(stdin, out, defaults=False, terminal=True)
    about_server = ServerQuestions(session, questions, api_options(network.url), settings, active, None)
    for name, ask in (
        ("init: the address", about_server.server),
        ("init: the pools", lambda: about_server.pools(network.url, Credentials(api_key=KEY), ("P",))),
    ):
        with pytest.raises(TentacleError):
            await asyncio.to_thread(ask)
        ways[name] = network.came_by()
    registered = {"deregister-worker", "deregister-from", "show-configuration", "poll-server"}
    assert ways == {name: {when_registered if name in registered else to_register} for name in ways}


async def test_the_polling_port_is_tried_the_way_polling_goes(
    tentacle: Any, instance: Path, network: Network, its_comms_port: int
) -> None:
    """Polling does not use the environment's proxy, so the doctor must not either."""
    tentacle.ok("configure", "--instance=I", "--noListen=True")
    asking = ("doctor", "--instance=I", f"--server={network.url}", f"--server-comms-port={its_comms_port}")
    for proxy, told in (
        (network.proxy("default", "polling"), False),
        (network.proxy("custom", "polling"), True),
    ):
        file = SettingsFile(instance / "I.cfg")
        file.save(replace(file.load(), polling_proxy=proxy))
        found = " ".join((await tentacle.aside(*asking)).out.split())
        assert f"ok poll tcp 127.0.0.1:{its_comms_port} accepts connections" in found or told
        assert (f"ok poll proxy 127.0.0.1:{network.ports['polling']} connects to" in found) is told, found


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ignore_ssl_errors": True, "server_thumbprint": "A" * 40}, "exclude each other"),
        ({"server_thumbprint": "123"}, "'123' is not the thumbprint of a certificate"),
    ],
)
def test_what_is_said_of_the_servers_certificate_makes_sense(
    tentacle: Any, instance: Path, given: dict[str, Any], message: str
) -> None:
    """For whatever is asked, before anything is: `init` and `doctor` took what registration refused."""
    with pytest.raises(TentacleError, match=message):
        route_to_register("https://o", api_options(**given), Settings())
    tentacle.ok("new-certificate", "--instance=I")
    options = [f"--serverThumbprint={given['server_thumbprint']}", *(["--ignoreSslErrors"] if len(given) > 1 else [])]
    asking = ("--server=https://127.0.0.1:1", f"--apiKey={KEY}", *options)
    for command in (
        ("register-worker", "--instance=I", "--workerpool=P"),
        ("doctor", "--instance=I"),
        ("init", "--instance=New", "--yes"),
    ):
        ended = tentacle(*command, *asking)
        assert (ended.code, ended.out, message in ended.err) == (1, "", True), ended


def test_a_pin_is_read_as_people_write_it() -> None:
    pin = ":".join(["ab"] * 20)
    assert route_to_register("https://o", api_options(server_thumbprint=pin), Settings()).pin == "AB" * 20


def test_who_polls_and_through_what() -> None:
    passive = replace(POLLED, style=CommunicationStyle.TENTACLE_PASSIVE)
    assert [is_polling(Settings(servers=(one,))) for one in (POLLED, passive)] == [True, False]
    assert is_polling(Settings(no_listen=True))
    custom = ProxySettings(use_default=False, host="[::1]", port=3128, username="u", password="p")
    assert polling_proxy(Settings(polling_proxy=custom)) == ProxyUrl("::1", 3128, "u", "p")
    assert polling_proxy(Settings(polling_proxy=replace(custom, use_default=True))) is None
    assert polling_proxy(Settings(proxy=custom)) is None
