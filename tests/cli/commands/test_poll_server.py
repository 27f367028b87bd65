"""`poll-server` (docs/spec/command-line.md, "poll-server")."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tentacle.settings.model import CommunicationStyle, TrustedServer
from tentacle.settings.store import SettingsFile

KEY = "API-TESTKEY0123456789"
SERVER = "679DDD8527CCE15FE45A5DACD92EA7C0364198D3"
FIRST = TrustedServer(SERVER, CommunicationStyle.TENTACLE_ACTIVE, "https://node1:10943", "poll://abcdefghijklmnopqrst/")
RESTART = "These changes require a restart of the Tentacle."


@pytest.fixture
def file(tentacle: Any, instance: Path) -> SettingsFile:
    tentacle.ok("configure", "--instance=I", "--noListen=True")
    return SettingsFile(instance / "I.cfg")


def trusts(file: SettingsFile, *servers: TrustedServer) -> None:
    settings = file.load()
    file.save(type(settings)(**{**vars(settings), "servers": servers}))


async def test_another_node_is_polled_under_the_same_subscription(
    tentacle: Any, file: SettingsFile, octopus: Any, comms_port: int
) -> None:
    trusts(file, FIRST)
    ended = await tentacle.aside(
        *("poll-server", "--instance=I", f"--server={octopus.url}", f"--apiKey={KEY}"),
        f"--server-comms-address=https://127.0.0.1:{comms_port}",
    )
    assert (ended.code, ended.err) == (0, "")
    assert ended.lines == [
        f"Checking connectivity on the server communications port {comms_port}...",
        "Connected successfully",
        f"Configuring Tentacle to poll the server at {octopus.url}",
        "Polling endpoint configured",
        RESTART,
    ]
    address = f"https://127.0.0.1:{comms_port}"
    assert file.load().servers == (
        FIRST,
        TrustedServer(SERVER, CommunicationStyle.TENTACLE_ACTIVE, address, FIRST.subscription_id),
    )


async def test_a_server_that_is_not_trusted_stays_so(
    tentacle: Any, file: SettingsFile, octopus: Any, comms_port: int
) -> None:
    asking = (
        *("poll-server", "--instance=I", f"--server={octopus.url}", f"--apiKey={KEY}"),
        f"--server-comms-port={comms_port}",
    )
    ended = await tentacle.aside(*asking)
    assert ended.code == 1
    assert ended.err.splitlines() == [
        f"The Octopus Server with the thumbprint '{SERVER}' is not yet trusted.",
        f"Trust this Octopus Server using 'Tentacle configure --trust=\"{SERVER}\" --instance I'",
    ]
    trusts(file, TrustedServer(SERVER, CommunicationStyle.TENTACLE_PASSIVE))
    ended = await tentacle.aside(*asking)
    assert ended.code == 1
    first, hint = ended.err.splitlines()
    assert first == (
        "This Tentacle has not been configured to connect to the specified Octopus Server as a polling Tentacle."
    )
    assert f"'Tentacle server-comms --thumbprint=\"{SERVER}\" --style=TentacleActive --instance I --host HOST'" in hint
    assert len(file.load().servers) == 1


def test_reusing_contacts_nobody(tentacle: Any, file: SettingsFile) -> None:
    trusts(file, TrustedServer("F" * 40, CommunicationStyle.TENTACLE_PASSIVE), FIRST)
    ended = tentacle.ok(
        *("poll-server", "--instance=I", "--reuse-server-thumbprint"),
        *("--server-comms-address=https://node2.example.com:1", "--server-comms-port=10943", "--format=json"),
    )
    facts = json.loads(ended.out)
    assert facts == {
        "Instance": "I",
        "Thumbprint": SERVER,
        "CommunicationStyle": 2,
        "Address": "https://node2.example.com:10943",
        "Squid": None,
        "SubscriptionId": FIRST.subscription_id,
        "RestartRequired": True,
    }
    assert file.load().servers[2].address == facts["Address"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--reuse-server-thumbprint"], "You must specify either a WebSocketAddress or a ServerCommsAddress"),
        (
            ["--reuse-server-thumbprint", "--server-comms-address=https://o"],
            "No trusted server that is polled is configured, so there is no thumbprint to reuse.",
        ),
        (
            ["--reuse-server-thumbprint", "--server-web-socket=http://o"],
            "The websocket address must start with wss://",
        ),
        (
            ["--reuse-server-thumbprint", "--server-web-socket=wss://o", "--server-comms-address=https://o"],
            "Please specify a --server-web-socket, or a --server-comms-address - not both.",
        ),
        ([], "Please specify an Octopus Server, e.g., --server=http://your-octopus-server"),
    ],
)
def test_what_is_missing_or_too_much(tentacle: Any, file: SettingsFile, options: list[str], text: str) -> None:
    ended = tentacle("poll-server", "--instance=I", *options)
    assert (ended.code, ended.err.splitlines()[0]) == (1, text)
