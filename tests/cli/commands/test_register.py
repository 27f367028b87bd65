"""`register-worker` and `register-with` against a server of this test (docs/spec/rest.md, "Steps of a registration" and
"Deregistering").
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tentacle.settings.model import CommunicationStyle, Settings, TrustedServer
from tentacle.settings.store import SettingsFile
from tests.recorded import VECTORS

KEY = "API-TESTKEY0123456789"
SERVER = "679DDD8527CCE15FE45A5DACD92EA7C0364198D3"
RESTART = "These changes require a restart of the Tentacle."


def recorded(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))


def recorded_body(name: str) -> Any:
    return next(r["body"] for r in recorded(name)["requests"] if r.get("body") and r["method"] == "POST")


def own_thumbprint(file: SettingsFile) -> str:
    certificate = file.load().certificate
    assert certificate is not None
    return certificate.thumbprint


async def test_a_listening_worker_as_recorded(tentacle: Any, ready: SettingsFile, octopus: Any) -> None:
    ended = await tentacle.aside(
        *("register-worker", "--instance", "I", "--server", octopus.url, "--name", "ubuntu worker"),
        *("--comms-style", "TentaclePassive", "--apikey", KEY, "--workerpool", "Linux"),
        *("--publicHostName", "worker1.example.com"),
    )
    assert (ended.code, ended.err) == (0, "")
    assert ended.lines == [
        f"Registering the tentacle with the server at {octopus.url}",
        "Machine registered successfully",
        RESTART,
    ]
    expected = recorded_body("rest-register-listening")
    expected["Endpoint"]["Thumbprint"] = own_thumbprint(ready)
    expected["WorkerPoolIds"] = ["workerpools-1"]
    [posted] = octopus.posted
    assert json.dumps(posted) == json.dumps(expected)
    assert ready.load().servers == (TrustedServer(SERVER, CommunicationStyle.TENTACLE_PASSIVE),)
    assert ready.load().polling_connection_count is None


async def test_a_polling_worker_keeps_its_subscription(
    tentacle: Any, ready: SettingsFile, octopus: Any, its_comms_port: int, instance: Path
) -> None:
    arguments = (
        *("register-worker", f"--server={octopus.url}", "--name=w", "--comms-style=tentacleactive"),
        *("--workerpool=linux", f"--server-comms-port={its_comms_port}"),
    )
    ended = await tentacle.aside(*arguments, "--apiKey", KEY, processors=2)
    assert (ended.code, ended.err) == (0, "")
    assert ended.lines == [
        f"Checking connectivity on the server communications port {its_comms_port}...",
        "Connected successfully",
        f"Registering the tentacle with the server at {octopus.url}",
        "Machine registered successfully",
        RESTART,
    ]
    settings: Settings = ready.load()
    [server] = settings.servers
    assert (server.style, server.address) == (CommunicationStyle.TENTACLE_ACTIVE, f"https://127.0.0.1:{its_comms_port}")
    assert settings.polling_connection_count == 5
    assert octopus.posted[0]["Endpoint"]["Uri"] == server.subscription_id
    again = await tentacle.aside(
        *arguments, "--force", "--server-subscription-id=poll://other/", "--apiKeyStdin", stdin=f"{KEY}\n"
    )
    assert (again.code, again.err) == (0, "")
    assert ready.load() == settings
    assert KEY not in tentacle.log(instance)
    assert tentacle.log(instance).count("Setting the polling connection count to 5") == 1
    assert "--apiKey ********" in tentacle.log(instance)


async def test_a_subscription_of_ones_own_is_normalised(
    tentacle: Any, ready: SettingsFile, octopus: Any, its_comms_port: int
) -> None:
    ended = await tentacle.aside(
        *("register-with", f"--server={octopus.url}", f"--apiKey={KEY}", "--env=Dev", "--role=web", "--comms-style=2"),
        *(
            "--server-subscription-id=poll://XZ6h25sh28shx52",
            f"--server-comms-address=https://127.0.0.1:{its_comms_port}/",
        ),
    )
    assert (ended.code, ended.err) == (0, "")
    assert ready.load().servers[0].subscription_id == "poll://xz6h25sh28shx52/"
    assert ready.load().polling_connection_count == 1


async def test_a_target_as_recorded(tentacle: Any, ready: SettingsFile, octopus: Any) -> None:
    ended = await tentacle.aside(
        *("register-with", "--instance", "I", "--server", octopus.url, "--name", "target"),
        *("--comms-style", "TentaclePassive", "--apikey", KEY, "--environment", "Dev", "--role", "web"),
    )
    assert (ended.code, ended.err) == (0, "")
    expected = recorded_body("rest-register-target")
    expected["Endpoint"]["Thumbprint"] = own_thumbprint(ready)
    expected["EnvironmentIds"] = ["environments-1"]
    assert octopus.posted == [expected]


async def test_a_name_that_is_taken_changes_nothing_here(tentacle: Any, ready: SettingsFile, octopus: Any) -> None:
    arguments = (
        "register-worker",
        f"--server={octopus.url}",
        f"--apiKey={KEY}",
        "--name=ubuntu worker",
        "--workerpool=Linux",
    )
    assert (await tentacle.aside(*arguments)).code == 0
    before = ready.load()
    ended = await tentacle.aside(*arguments)
    vector = recorded("rest-register-again-without-force")
    assert ended.code == vector["exit_code"]
    assert ended.err == vector["output"].splitlines()[1] + "\n"
    assert ready.load() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([f"--apiKey={KEY}"], "Please specify an Octopus Server, e.g., --server=http://your-octopus-server"),
        (
            ["--server=http://o"],
            "Please specify an Octopus API key, a Bearer Token or a username and password. You can get an API key from "
            "the Octopus web portal. E.g., --apiKey=ABC1234",
        ),
        (
            ["--server=http://o", f"--apiKey={KEY}", "--bearerToken=x"],
            "Please specify a Bearer Token, API Key or username and password - not multiple.",
        ),
        (["--server=http://o", "-u=x"], "Please specify a password for the specified user account"),
        (["--server=http://o", "-p=x"], "Please specify a username for the specified password"),
        (
            ["--server=http://o", f"--apiKey={KEY}", "--workerpool="],
            "Please specify a worker pool name, slug or Id, e.g., --workerpool=Default",
        ),
        (
            ["--server=http://o", f"--apiKey={KEY}", "--workerpool=P", "--comms-style=Ssh"],
            "Please specify a valid communications style, e.g. --comms-style=TentaclePassive",
        ),
        (
            ["--server=http://o", f"--apiKey={KEY}", "--workerpool=P", "--comms-style=TentacleActive", "--proxy=P"],
            "Option --proxy can only be used with --comms-style=TentaclePassive.  To set a proxy for a polling "
            "Tentacle use the polling-proxy command first and then register the Tentacle with register-with.",
        ),
        (
            [
                "--server=http://o",
                f"--apiKey={KEY}",
                "--workerpool=P",
                "--server-web-socket=a",
                "--server-comms-address=b",
            ],
            "Please specify a --server-web-socket, or a --server-comms-address - not both.",
        ),
        (
            [
                "--server=http://o",
                f"--apiKey={KEY}",
                "--workerpool=P",
                "--comms-style=2",
                "--server-web-socket=http://a",
            ],
            "The websocket address must start with wss://",
        ),
        (
            [
                "--server=http://o",
                f"--apiKey={KEY}",
                "--workerpool=P",
                "--comms-style=2",
                "--server-subscription-id=https://x",
            ],
            "The ServerSubscriptionId must start with poll://",
        ),
        (["--server=http://o", f"--apiKey={KEY}", "--workerpool=P", "--tentacle-comms-port=0"], None),
    ],
)
def test_what_is_refused_before_anything_is_sent(
    tentacle: Any, ready: SettingsFile, arguments: list[str], message: str | None
) -> None:
    before = ready.load()
    ended = tentacle("register-worker", *arguments)
    assert (ended.code, ended.out) == (1, "")
    assert message is None or ended.err.splitlines()[0] == message
    assert KEY not in ended.err
    assert ready.load() == before


@pytest.mark.parametrize("option", ["--name", "--publicHostName", "--policy", "--space", "--proxy"])
def test_a_name_of_blanks_alone_is_refused_where_it_is_given(tentacle: Any, ready: SettingsFile, option: str) -> None:
    given = ("--server=http://127.0.0.1:1", f"--apiKey={KEY}", "--workerpool=P")
    ended = tentacle("register-worker", *given, f"{option}= ")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == f"The value of {option} is blank.\nLeave {option} out for the default.\n"


@pytest.mark.parametrize(
    ("command", "given", "missing"),
    [
        ("register-worker", [], "--server, --apiKey (or another kind of credentials), --workerpool"),
        ("register-worker", ["--server=http://o", "--workerpool= "], "--apiKey (or another kind of credentials), "),
        ("register-worker", ["--server=", f"--apiKey={KEY}", "--workerpool=P"], None),
        ("register-with", ["--server=http://o", f"--apiKey={KEY}"], "--environment, --role"),
        ("deregister-worker", [], "--server, --apiKey (or another kind of credentials)"),
        ("deregister-from", [], "--server, --apiKey (or another kind of credentials)"),
        ("poll-server", [], "--server, --apiKey (or another kind of credentials)"),
        ("rotate-certificate", ["--update-server"], "--server, --apiKey (or another kind of credentials)"),
        ("agent", ["--ephemeral", f"--apiKey={KEY}"], "--server, --workerpool"),
    ],
)
def test_all_that_is_missing_is_named_at_once(
    tentacle: Any, ready: SettingsFile, command: str, given: list[str], missing: str | None
) -> None:
    ended = tentacle(command, *given)
    first, *hints = ended.err.splitlines()
    assert first.startswith("Please specify an ")
    assert [hint.startswith(f"These are missing: {missing}") for hint in hints] == ([True] if missing else [])


def test_a_target_needs_environment_and_role_and_a_known_participation(tentacle: Any, ready: SettingsFile) -> None:
    base = ("register-with", "--server=http://o", f"--apiKey={KEY}")
    assert "Please specify an environment name" in tentacle(*base).err
    assert "Please specify a role name" in tentacle(*base, "--env=Dev").err
    ended = tentacle(*base, "--tenanted-deployment-participation=maybe")
    assert ended.err == (
        "The value 'maybe' is not valid. Valid values are Untenanted, TenantedOrUntenanted and Tenanted.\n"
        "e.g. --tenanted-deployment-participation=Untenanted\n"
    )
    assert ready.path.exists()


@pytest.mark.usefixtures("instance")
def test_without_a_certificate_there_is_nothing_to_register(tentacle: Any) -> None:
    arguments = ("--server=http://127.0.0.1:1", f"--apiKey={KEY}")
    ended = tentacle("register-worker", *arguments, "--workerpool=P")
    assert ended.err == (
        "No certificate has been generated for this Tentacle. Please run the new-certificate command first.\n"
    )
    ended = tentacle("deregister-worker", *arguments)
    assert ended.err == (
        "This Tentacle does not have a thumbprint. The Tentacle must have a thumbprint in order to deregister it.\n"
    )


async def test_a_wrong_key_is_told_without_the_key(tentacle: Any, ready: SettingsFile, octopus: Any) -> None:
    ended = await tentacle.aside(
        "register-worker", f"--server={octopus.url}", "--apiKey=API-WRONG0123456789", "--workerpool=Linux"
    )
    assert ended.code != 0
    assert "You must be logged in" in ended.err
    assert "WRONG" not in ended.err
    assert "Traceback" not in ended.err
    assert ready.load().servers == ()


async def test_ignoring_certificates_is_said_loudly(tentacle: Any, ready: SettingsFile, octopus: Any) -> None:
    ended = await tentacle.aside(
        "register-worker", f"--server={octopus.url}", f"--apiKey={KEY}", "--workerpool=Linux", "--ignoreSslErrors"
    )
    assert ended.code == 0
    assert ended.err.startswith("WARNING: --ignoreSslErrors")
    assert ready.load().servers
