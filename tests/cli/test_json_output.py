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
from tentacle.observe.text import visible
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
ORIGINAL = {"Configuration"}
"""Names whose values have the form of the original, which calls other things by the same names."""
EMPTY_LIST = "list"
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


def types_in(value: Any) -> Iterator[tuple[str, str]]:
    """Each name in a document with the type of its value; a list tells that of its members."""
    if isinstance(value, list):
        for one in value:
            yield from types_in(one)
    elif isinstance(value, dict):
        for name, one in value.items():
            if name not in ORIGINAL:
                yield from ((name, kind_of(one)),) if one is not None else ()
                yield from types_in(one)


def kind_of(value: Any) -> str:
    if isinstance(value, list):
        return " or ".join(sorted({f"list of {kind_of(one)}" for one in value})) or EMPTY_LIST
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


async def test_a_name_has_one_type_in_all_answers(tentacle: Any, tmp_path: Path, octopus: Any) -> None:
    on, server = "--instance=J", (f"--server={octopus.url}", f"--apiKey={KEY}")
    passive = ("--workerpool=Linux", "--name=W", "--publicHostName=w")
    said: dict[str, dict[str, set[str]]] = {}
    for arguments in (
        ("init", "--yes", on, "--no-register", "--mode=polling", f"--app={tmp_path}/apps"),
        ("init", "--yes", on, "--no-register", "--mode=polling", f"--app={tmp_path}/other"),
        ("create-instance", "--instance=K", f"--config={tmp_path}/K/K.cfg"),
        ("new-certificate", on),
        ("new-certificate", on, "--if-blank"),
        ("new-certificate", on, "--export-pfx=new.pfx"),
        ("import-certificate", on, "--from-file=new.pfx"),
        ("rotate-certificate", on),
        ("rotate-certificate", on, "--undo"),
        ("configure", on, "--trust=T", "--port=5"),
        ("set-polling-connection-count", on, "--pollingConnectionCount=3"),
        ("server-comms", on, "--style=TentacleActive", "--host=h"),
        ("update-trust", on, "--oldThumbprint=t", "--newThumbprint=U"),
        ("proxy", on, "--proxyEnable=true", "--proxyHost=h"),
        ("register-worker", on, *server, *passive, "--dry-run"),
        ("register-worker", on, *server, *passive),
        ("register-worker", on, *server, *passive, "--idempotent"),
        ("status", on),
        ("doctor", on),
        ("scripts", on),
        ("drain", on, "--reason=new disk"),
        ("status", on),
        ("undrain", on),
        ("livez", on),
        ("import-instance", "--from=none", "--instance=L"),
        ("deregister-worker", on, *server),
        ("clear-trusted-servers", on),
        ("delete-instance", on),
        ("delete-instance", f"--config={tmp_path}/K/K.cfg"),
    ):
        answer = json.loads((await tentacle.aside(*arguments, "--format=json")).out)
        for name, kind in types_in(answer):
            said.setdefault(name, {}).setdefault(kind, set()).add(arguments[0])
    several = {name: kinds for name, kinds in said.items() if len(kinds.keys() - {EMPTY_LIST}) > 1}
    mixed = {name: kinds for name, kinds in said.items() if EMPTY_LIST in kinds and not list_kinds(kinds)}
    assert (several, mixed) == ({}, {})
    assert len(said) > 80, "the answers are more or less those of all commands"


def list_kinds(kinds: dict[str, set[str]]) -> bool:
    return all(kind.startswith("list") for kind in kinds)


@pytest.mark.parametrize("name", [entry.name for entry in ENTRIES if entry.name != "help"])
@pytest.mark.parametrize("wrong", ["--no-such-option=1", "--instance", "--config=a\x1bb"])
def test_a_wrong_command_line_is_a_document_too(tentacle: Any, name: str, wrong: str) -> None:
    ended = tentacle(name, "--format=json", wrong)
    error = json.loads(ended.out)["Error"]
    assert (ended.code, error["ExitCode"]) == (1, 1)
    assert ended.err.splitlines() == [visible(line) for line in (error["Message"], error["Hint"]) if line]


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
    assert (told["ServerThumbprint"], told["CommsStyle"]) == (SERVER, "TentaclePassive")
    assert told["RestartRequired"] is True
    ended = await tentacle.aside("deregister-worker", *asking)
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out)["DeletedMachines"] == ["W"]


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
