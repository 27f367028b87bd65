"""`configure` (docs/spec/command-line.md, "configure")."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tentacle.home_layout import LOG_FILE
from tests.cli.commands.trusted import servers

pytestmark = pytest.mark.usefixtures("instance")

RESTART = "These changes require a restart of the Tentacle."


def shown(tentacle: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(tentacle.ok("show-configuration", "--instance=I").out)["Tentacle"]
    return document


def thumbprints(tentacle: Any) -> list[str]:
    return [server["Thumbprint"] for server in shown(tentacle)["Communication"]["TrustedOctopusServers"]]


def test_trust_comes_first_and_the_rest_in_the_order_of_the_line(tentacle: Any) -> None:
    tentacle.ok("configure", "--trust=ABC123", "--trust=DEF456")
    ended = tentacle.ok(
        "configure", "--noListen:False", "/port", "9021", "--app=Apps", "--trust=GHI789", "--remove-trust=ABC123"
    )
    assert ended.lines == [
        "Removing 1 trusted Octopus Servers",
        "Adding 1 trusted Octopus Servers",
        "Tentacle will listen on a TCP port",
        "Services listen port: 9021",
        f"Application directory set to: {tentacle.cwd}/Apps",
        "'GHI789' is not the thumbprint of a certificate, which has 40 hexadecimal digits: it is stored, but no server"
        " can have it.",
        "No longer trusted: ABC123",
        RESTART,
    ]
    assert thumbprints(tentacle) == ["DEF456", "GHI789"]
    assert (tentacle.cwd / "Apps").is_dir()
    assert shown(tentacle)["Services"] == {"ListenIP": None, "NoListen": False, "PortNumber": 9021}


def test_what_is_forgotten_can_be_trusted_again(tentacle: Any) -> None:
    mine = "AB" * 20
    tentacle.ok("configure", f"--trust={mine}")
    tentacle.ok("server-comms", "--style=TentacleActive", "--host=one")
    subscription = servers(tentacle)[1]["SubscriptionId"]
    said = tentacle.ok("configure", "--reset-trust", f"--trust={mine}").lines
    assert said[0] == "Removing all trusted Octopus Servers..."
    lost = f"No longer trusted: {mine}, polled at https://one:10943 with the subscription {subscription}"
    assert [line for line in said if line.startswith("No longer")] == [lost]
    assert "No longer" not in tentacle.ok("configure", "--reset-trust", f"--trust={mine}").out


def test_reset_trust_empties_before_it_trusts(tentacle: Any) -> None:
    tentacle.ok("configure", "--trust=A", "--trust=B")
    ended = tentacle.ok("configure", "--trust=C", "--reset-trust")
    assert ended.lines[:2] == ["Removing all trusted Octopus Servers...", "Adding 1 trusted Octopus Servers"]
    assert thumbprints(tentacle) == ["C"]


def test_a_thumbprint_may_be_pasted(tentacle: Any) -> None:
    pasted = "\u200esha1 Fingerprint=" + ":".join(["ab"] * 20)
    assert tentacle.ok("configure", f"--trust={pasted}").lines == ["Adding 1 trusted Octopus Servers", RESTART]
    assert thumbprints(tentacle) == ["AB" * 20]
    tentacle.ok("configure", "--remove-trust=" + " ".join(["ab"] * 20))
    assert thumbprints(tentacle) == []


def test_a_recipe_s_address_is_trusted_but_not_silently(tentacle: Any) -> None:
    ended = tentacle.ok("configure", "--trust=https://octopus/", "--format=json")
    assert "'https://octopus/' is not the thumbprint" in json.loads(ended.out)["Warnings"][0]
    assert thumbprints(tentacle) == ["https://octopus/"]


def test_a_port_that_does_not_exist_is_refused(tentacle: Any) -> None:
    ended = tentacle("configure", "--port=70000")
    assert (ended.code, ended.err) == (1, "70000 is not a port.\nGive one from 1 to 65535, e.g. --port=10933\n")


def test_nothing_asked_nothing_said(tentacle: Any) -> None:
    assert tentacle.ok("configure").out == ""


def test_home_and_addresses(tentacle: Any) -> None:
    ended = tentacle.ok("configure", "--homedir=x/../Home", "--listenIpAddress=::0001", "--pollingConnectionCount=7")
    assert ended.lines[:3] == [
        f"Home directory set to: {tentacle.cwd}/Home",
        "Listen on IP address: ::1",
        "Polling connection count set to: 7",
    ]
    assert shown(tentacle)["Services"]["ListenIP"] == "::1"
    assert shown(tentacle)["Communication"]["PollingConnectionCount"] == 7
    assert tentacle.ok("configure", "--listenIpAddress=ANY").lines[0] == "Listen on any IP address"
    assert shown(tentacle)["Services"]["ListenIP"] is None


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--trust= ", "A valid thumbprint must be supplied"),
        ("--port=x", "The value 'x' of --port is not a valid whole number."),
        ("--port=-1", "-1 is not a port."),
        ("--noListen=maybe", "The value 'maybe' of --noListen is neither true nor false."),
        ("--listenIpAddress=host", "'host' is not an IP address."),
        ("--pollingConnectionCount=0", "The polling connection count must be greater than 0, but was 0."),
        (
            "--pollingConnectionCount=notanumber",
            "The polling connection count 'notanumber' is not a valid whole number. "
            "Specify a positive integer, e.g. --pollingConnectionCount=5",
        ),
    ],
)
def test_one_bad_value_and_nothing_is_changed(tentacle: Any, argument: str, message: str) -> None:
    before = shown(tentacle)
    ended = tentacle("configure", "--port=5", "--app=never", argument)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.splitlines()[0] == message
    assert shown(tentacle) == before
    assert not (tentacle.cwd / "never").exists()


def test_a_directory_that_cannot_be_made_changes_nothing(tentacle: Any) -> None:
    (tentacle.cwd / "file").write_text("")
    before = shown(tentacle)
    ended = tentacle("configure", "--port=5", "--app=file/x")
    assert ended.code == 1
    assert shown(tentacle) == before


def test_the_start_up_block_masks_no_more_than_secrets(tentacle: Any, instance: Path) -> None:
    tentacle.ok("configure", "--instance=I", "--port=1")
    assert "CommandLine: Tentacle configure --instance=I --port=1\n" in tentacle.log(instance)


def test_how_scripts_are_kept_apart(tentacle: Any) -> None:
    ended = tentacle.ok(
        "configure",
        "--script-isolation=Private",
        "--script-memory-limit=512m",
        "--script-cpu-limit=150%",
        "--script-task-limit=200",
        "--script-uid-range=30000-30099",
    )
    assert ended.lines == [
        "Script isolation set to: private",
        "Script memory limit set to: 512M",
        "Script cpu limit set to: 1.5",
        "Script task limit set to: 200",
        "Script uid range set to: 30000-30099",
        RESTART,
    ]
    again = tentacle.ok("configure", "--script-memory-limit=none", "--script-isolation=none")
    assert again.lines[:2] == ["Script memory limit set to: none", "Script isolation set to: none"]


def test_users_for_scripts_are_refused_where_they_cannot_be_had(tentacle: Any) -> None:
    before = shown(tentacle)
    ended = tentacle("configure", "--script-uid-range=65533-65534", "--script-isolation=user")
    reason = "holds 65534, which is 'nobody'" if os.geteuid() == 0 else "only if the agent runs as root"
    assert ended.code == 1
    assert reason in ended.err
    assert "Set --script-uid-range to" in ended.err or "Run the agent as root" in ended.err
    assert shown(tentacle) == before
    assert tentacle.ok("configure", "--script-uid-range=65533-65534").lines[0] == "Script uid range set to: 65533-65534"


def test_how_large_the_log_becomes(tentacle: Any, instance: Path) -> None:
    assert tentacle.ok("configure", "--instance=I", "--log-file-size=4M", "--log-files-kept=1").lines == [
        "Log file size set to: 4M",
        "Log files kept set to: 1",
        RESTART,
    ]
    log = instance / "Logs" / LOG_FILE
    log.with_suffix(".1.txt").write_text("older than what is kept")
    log.write_bytes(b"x" * 4 * 2**20)
    tentacle.ok("show-thumbprint", "--instance=I")
    assert log.stat().st_size < 4096
    assert sorted(path.name for path in log.parent.iterdir()) == ["OctopusTentacle.0.txt", LOG_FILE]


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("--log-file-size=1k", "must be a size from 4M, such as 100M or 2G, not '1k'"),
        ("--log-file-size=none", "must be a size from 4M, such as 100M or 2G, not 'none'"),
        ("--log-files-kept=0", "must be a number from 1 to 1000, not '0'"),
        ("--script-isolation=docker", "must be none, private or user, not 'docker'"),
        ("--script-memory-limit=lots", "must be a size from 4M, such as 512M or 2G, or none, not 'lots'"),
        ("--script-cpu-limit=0", "must be a number of processors, such as 1.5 or 150%, or none, not '0'"),
        ("--script-task-limit=1", "must be a number from 8 to 4194304, or none, not '1'"),
        ("--script-uid-range=0-10", "must be two numbers from 1000 on, such as 20000-20999, not '0-10'"),
    ],
)
def test_what_no_script_can_be_given_is_refused(tentacle: Any, option: str, problem: str) -> None:
    ended = tentacle("configure", option)
    assert ended.code == 1
    assert f"The value of {option.partition('=')[0]} {problem}." in ended.err
