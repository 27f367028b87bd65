"""`server-comms` (docs/spec/command-line.md, "server-comms")."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands.trusted import servers
from tests.pki import write_pem

pytestmark = pytest.mark.usefixtures("instance")


def test_trust_then_polling_leaves_two_entries(tentacle: Any) -> None:
    tentacle.ok("configure", "--reset-trust", "--trust=T", "--app=apps", "--port=0", "--noListen=False")
    ended = tentacle.ok("server-comms", "--thumbprint=T", "--style=TentacleActive", "--host=localhost", "--port=1234")
    assert ended.lines == [
        "Updated server communications configuration",
        "These changes require a restart of the Tentacle.",
    ]
    first, second = servers(tentacle)
    assert first == {"Thumbprint": "T", "CommunicationStyle": 1, "Address": None, "Squid": None, "SubscriptionId": None}
    assert second["CommunicationStyle"] == 2
    assert second["Address"] == "https://localhost:1234"
    assert re.fullmatch(r"poll://[b-hj-np-z2-9]{20}/", second["SubscriptionId"])


def test_the_default_port_a_web_socket_and_back_to_listening(tentacle: Any) -> None:
    tentacle.ok("configure", "--trust=T")
    tentacle.ok("server-comms", "--style=2", "--host=example.com")
    tentacle.ok("server-comms", "--style=tentacleactive", "--web-socket=https://example.com/OctopusComms")
    tentacle.ok("server-comms", "--style=TentaclePassive")
    addresses = [server["Address"] for server in servers(tentacle)]
    assert sorted(filter(None, addresses)) == ["https://example.com:10943", "wss://example.com/OctopusComms"]
    assert len({server["SubscriptionId"] for server in servers(tentacle) if server["SubscriptionId"]}) == 1


def test_polled_by_https_through_a_proxy_that_opens_tls_and_then_without(tentacle: Any, tmp_path: Path) -> None:
    tentacle.ok("configure", "--trust=T")
    certificate, _ = write_pem("server", tmp_path)
    address = "https://example.com:8443/octopus"
    to_poll = ("server-comms", "--style=TentacleActive", f"--https-address={address}")
    said = tentacle.ok(*to_poll, f"--ca-file={certificate}").lines
    assert f"{address} is polled by HTTPS from now on, and not by Halibut" in said
    assert "--https-address can only be used with" in tentacle("server-comms", "--style=1", *to_poll[2:]).err
    (server,) = [one for one in servers(tentacle) if one["CommunicationStyle"] == 2]
    assert (server["Address"], server["HttpsAddress"], server["CaFile"]) == (None, address, str(certificate))
    before = servers(tentacle)
    ended = tentacle(*to_poll, "--ca-file=nowhere")
    assert (ended.code, ended.err.splitlines()[0].startswith("The certificate file ")) == (1, True)
    assert servers(tentacle) == before
    tentacle.ok(*to_poll)
    (again,) = [one for one in servers(tentacle) if one["CommunicationStyle"] == 2]
    assert again == {name: value for name, value in server.items() if name != "CaFile"}


@pytest.mark.parametrize(
    ("trusted", "arguments", "message"),
    [
        (
            [],
            ["--style=TentaclePassive"],
            "Before server communications can be modified, trust must be established with the configure command",
        ),
        (
            ["A", "B"],
            ["--style=TentaclePassive"],
            "More than one server is trusted; please provide the thumbprint of the server to configure, "
            "e.g. --thumbprint=...",
        ),
        (["A"], [], "Please specify a valid communications style, e.g. --style=TentaclePassive"),
        (["A"], ["--style=nope"], "Please specify a valid communications style, e.g. --style=TentaclePassive"),
        (["A"], ["--thumbprint=B", "--style=1"], "No trusted server was found with the supplied thumbprint"),
        (
            ["A"],
            ["--style=2"],
            "Please provide either the server hostname or websocket address, e.g. --host=OCTOPUS",
        ),
        (
            ["A"],
            ["--style=2", "--host=a", "--web-socket=wss://a"],
            "The hostname and websocket options cannot be used together",
        ),
        (
            ["A"],
            ["--style=2", "--host=a", "--https-address=https://a"],
            "Please specify --https-address alone, without a --host or a --web-socket.",
        ),
        (["A"], ["--style=2", "--host=a", "--ca-file=x"], "Option --ca-file can only be used with --https-address."),
        (
            ["A"],
            ["--style=2", "--https-address=http://a"],
            "The server communications address 'http://a/' is not one to poll by HTTPS.",
        ),
        (["A"], ["--style=2", "--web-socket=http://a"], "The websocket address must start with wss://"),
        (["A"], ["--style=2", "--host=https://a"], "'https://a' is not a host name."),
        (["A"], ["--style=2", "--host=a..b"], "'a..b' is not a host name."),
        (["A"], ["--style=2", "--host=a", "--port=x"], "The value 'x' of --port is not a valid whole number."),
        (["A"], ["--style=2", "--host=a", "--port=70000"], "The value 70000 of --port is not a port."),
    ],
)
def test_what_cannot_be_is_told_and_nothing_changes(
    tentacle: Any, trusted: list[str], arguments: list[str], message: str
) -> None:
    tentacle.ok("configure", *(f"--trust={thumbprint}" for thumbprint in trusted))
    before = servers(tentacle)
    ended = tentacle("server-comms", *arguments)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.splitlines()[0] == message
    assert servers(tentacle) == before
