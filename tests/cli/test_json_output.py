"""`--format=json` of commands that otherwise tell lines: one document on standard output, and nothing else."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tentacle.cli.frame.command_table import ENTRIES
from tests.cli.hostile import Place, base_of, nowhere, options_of

KEY = "API-TESTKEY0123456789"
SPEC = Path(__file__).parents[2] / "docs" / "spec"
DOCUMENTED = {
    name
    for document in ("json.md", "command-line.md")
    for quoted in re.findall(r"`[^`\n]+`|\"\w+\":", (SPEC / document).read_text())
    for name in re.findall(r"\b[A-Z]\w*", quoted)
}
"""The names that the documents explain."""
SERVER = "679DDD8527CCE15FE45A5DACD92EA7C0364198D3"


def names_in(value: Any) -> Iterator[str]:
    """The names of all members of all objects in a document."""
    if isinstance(value, list):
        for one in value:
            yield from names_in(one)
    elif isinstance(value, dict):
        for name, one in value.items():
            yield name
            yield from names_in(one)


def document(tentacle: Any, *arguments: str) -> Any:
    return json.loads(tentacle.ok(*arguments, "--format=json").out)


def test_a_life_in_json(tentacle: Any, tmp_path: Path) -> None:
    home, on = tmp_path / "J", "--instance=J"
    made = document(tentacle, "create-instance", on, f"--config={home}/J.cfg")
    assert made == {
        "Instance": "J",
        "ConfigurationFilePath": f"{home}/J.cfg",
        "Home": str(home),
        "RestartRequired": False,
    }
    certificate = document(tentacle, "new-certificate", on)
    thumbprint = tentacle.ok("show-thumbprint", on).out
    assert certificate == {"Instance": "J", "Thumbprint": thumbprint, "Created": True, "RestartRequired": True}
    assert document(tentacle, "new-certificate", on, "--if-blank")["Created"] is False
    assert document(tentacle, "configure", on, "--port=5", "--trust=T")["Changes"] == [
        "Adding 1 trusted Octopus Servers",
        "Services listen port: 5",
    ]
    assert document(tentacle, "configure", on) == {"Instance": "J", "Changes": [], "RestartRequired": False}
    assert (
        document(tentacle, "set-polling-connection-count", on, "--pollingConnectionCount=3")["PollingConnectionCount"]
        == 3
    )
    assert document(tentacle, "update-trust", on, "--oldThumbprint=t", "--newThumbprint=U")["Updated"] == 1
    polled = document(tentacle, "server-comms", on, "--style=TentacleActive", "--host=h")["TrustedOctopusServers"]
    assert [server["CommunicationStyle"] for server in polled] == [1, 2]
    assert document(tentacle, "clear-trusted-servers", on)["TrustedOctopusServers"] == []
    assert document(tentacle, "show-configuration", on)["Tentacle"]["CertificateThumbprint"] == thumbprint
    assert document(tentacle, "delete-instance", on)["Deleted"] == "J"


@pytest.mark.parametrize(("words", "exit_code"), [(["statsu"], 2), (["help", "statsu"], 0)])
def test_a_command_that_there_is_not(tentacle: Any, words: list[str], exit_code: int) -> None:
    done = tentacle(*words, "--format=json")
    assert done.code == exit_code
    assert json.loads(done.out)["Error"] == {
        "Message": "Command 'statsu' is not supported",
        "Hint": "Did you mean 'Tentacle status'?",
        "ExitCode": exit_code,
    }


def test_a_proxy_without_its_password(tentacle: Any, instance: Path) -> None:
    shown = document(tentacle, "proxy", "--instance=I", "--proxyEnable=true", "--proxyHost=h", "--proxyPassword=hush")
    assert shown == {
        "Instance": "I",
        "UseDefaultProxy": False,
        "ProxyHost": "h",
        "ProxyPort": 80,
        "ProxyUsername": None,
        "ProxyPasswordSet": True,
        "RestartRequired": False,
    }


async def test_a_registration_and_its_end(tentacle: Any, instance: Path, octopus: Any) -> None:
    tentacle.ok("new-certificate", "--instance=I")
    asking = ("--instance=I", f"--server={octopus.url}", f"--apiKey={KEY}", "--format=json")
    ended = await tentacle.aside("register-worker", *asking, "--workerpool=Linux", "--name=W", "--publicHostName=w")
    assert (ended.code, ended.err) == (0, "")
    told = json.loads(ended.out)
    assert (told["Id"], told["Name"], told["Created"]) == ("Workers-1", "W", True)
    assert told["Thumbprint"] == tentacle.ok("show-thumbprint", "--instance=I").out
    assert (told["ServerThumbprint"], told["CommunicationStyle"]) == (SERVER, "TentaclePassive")
    assert told["RestartRequired"] is True
    ended = await tentacle.aside("deregister-worker", *asking)
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out)["Deleted"] == ["W"]


def test_another_format_is_refused_before_anything_is_done(tentacle: Any, instance: Path) -> None:
    ended = tentacle("new-certificate", "--instance=I", "--format=xml")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "The format 'xml' is not supported. Try text or json.\n"
    assert tentacle.ok("show-thumbprint", "--instance=I").out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("new-certificate", "--instance=None", "--format=json"), "Instance None of Tentacle has not been configured"),
        (("configure", "--format", "JSON", "--prot=1"), "Unrecognized command line arguments: --prot=1"),
        (("scripts", "/format:json", "log"), "Whose log?"),
        (("drain", "--format=json", "--timeout=soon"), "of --timeout is not a valid whole number"),
    ],
)
def test_a_failure_is_a_document_too(tentacle: Any, arguments: tuple[str, ...], message: str) -> None:
    ended = tentacle(*arguments)
    assert ended.code == 1
    error = json.loads(ended.out)["Error"]
    assert (list(error), error["ExitCode"]) == (["Message", "Hint", "ExitCode"], 1)
    assert ended.err.splitlines() == [line for line in (error["Message"], error["Hint"]) if line]
    assert message in error["Message"]


TAKE_FORMAT = [
    entry.name for entry in ENTRIES if any(option.described.names == ("format",) for option in options_of(entry.name))
]


@pytest.mark.parametrize("name", TAKE_FORMAT)
def test_nothing_but_one_document_is_on_standard_output(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the command succeeds or not; most that ask a server fail, as there is none that answers."""
    monkeypatch.chdir(tmp_path)
    place = Place(tmp_path, tmp_path, dict(os.environ))
    with nowhere() as url:
        place.make_instance(url)
        place.run("configure", "--instance=I", "--trust=T")
        code, out, err = place.run(name, *base_of(name, url), "--format=json")
    assert out or err, "not a word"
    assert code in (0, 1, 3)
    if code == 0 or out:
        assert set(names_in(json.loads(out))) <= DOCUMENTED
