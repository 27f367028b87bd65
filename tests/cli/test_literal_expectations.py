"""What the original's own test suite demands of the executable, case by case (docs/spec/command-line.md,
"What the original's tests demand"; numbers are its).

Those about usage, help texts and versions (1 to 4, 9, 11, 12, 15) are in `test_executable`; here are the others.
"""

from __future__ import annotations

import json
import os
import platform
import pwd
import re
import socket
import uuid
from pathlib import Path
from typing import Any, Final

import pytest

from tentacle import __version__

SHOWN: Final = """{{
  "Octopus": {{
    "Home": "{home}",
    "Watchdog": {{
      "Enabled": false,
      "Instances": "*",
      "Interval": 0
    }}
  }},
  "Tentacle": {{
    "CertificateThumbprint": "{thumbprint}",
    "Communication": {{
      "PollingConnectionCount": null,
      "TrustedOctopusServers": [
        {{
          "Thumbprint": "{server}",
          "CommunicationStyle": {style},
          "Address": {address},
          "Squid": null,
          "SubscriptionId": {subscription}
        }}
      ]
    }},
    "Deployment": {{
      "ApplicationDirectory": "{home}/appdir"
    }},
    "Services": {{
      "ListenIP": null,
      "NoListen": {no_listen},
      "PortNumber": {port}
    }}
  }}
}}
"""
SERVER: Final = "84B349F9A6F8F1F6BB39F1ED4B9A2E5B4E3D2F1A"


@pytest.fixture
def home(tentacle: Any, tmp_path: Path) -> Path:
    """An instance made as the harness makes it: its registry lies inside the home, a certificate is imported."""
    made = tmp_path / "h"
    made.mkdir()
    tentacle.environ.update(
        TentacleMachineConfigurationHomeDirectory=f"{made}/Octopus/Tentacle/Instances",
        TentacleUseTcpNoDelay="true",
        TentacleUseAsyncListener="true",
    )
    elsewhere = f"--config={tmp_path}/other/O.cfg"
    tentacle.ok("create-instance", "--instance=O", elsewhere)
    tentacle.ok("new-certificate", elsewhere, f"--export-pfx={made}/Tentacle.pfx")
    tentacle.ok("delete-instance", "--instance=O")
    tentacle.ok("create-instance", "--config", f"{made}/I.cfg", "--instance=I")
    tentacle.ok("import-certificate", f"--from-file={made}/Tentacle.pfx", "--instance=I")
    return made


def thumbprint_of(tentacle: Any) -> str:
    found: str = tentacle.program("show-thumbprint", "--instance=I").out
    assert re.fullmatch("[0-9A-F]{40}", found)
    return found


@pytest.mark.parametrize("switch", ["--noconsolelogging", "--nologo", "--console"])
def test_5_to_7_switches_that_change_nothing(tentacle: Any, switch: str) -> None:
    ended = tentacle.program("version", switch)
    assert (ended.code, ended.out, ended.err) == (0, __version__, "")


def test_10_version_as_json(tentacle: Any) -> None:
    ended = tentacle.program("version", "--format=json")
    assert (ended.code, ended.err) == (0, "")
    found = json.loads(ended.out)
    assert found["InformationalVersion"] == __version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", found["MajorMinorPatch"])
    assert found["NuGetVersion"] is not None
    assert found["SourceBranchName"] is not None


def test_13_general_help_as_json(tentacle: Any) -> None:
    ended = tentacle.program("help", "--format=json")
    assert (ended.code, ended.err) == (0, "")
    commands = json.loads(ended.out)["Commands"]
    assert {"configure", "help", "agent", "version", "show-thumbprint"} <= {command["Name"] for command in commands}
    assert all(set(command) == {"Name", "Description", "Aliases"} for command in commands)


@pytest.mark.parametrize("arguments", [["help", "version"], ["version", "--help"], ["help", "version", "--nologo"]])
def test_12_14_and_23_help_of_one_command_is_the_same_either_way(tentacle: Any, arguments: list[str]) -> None:
    text, document = tentacle.ok(*arguments), tentacle.ok(*arguments, "--format=json")
    assert text.out.startswith(
        "Usage: Tentacle version [<options>]\n\nWhere [<options>] is any of: \n\n      --format=VALUE"
    )
    assert json.loads(document.out)["Name"] == "version"
    assert [option["Name"] for option in json.loads(document.out)["Options"]] == ["format"]


def test_17_an_invalid_instance(tentacle: Any) -> None:
    ended = tentacle.program("show-thumbprint", "--instance=invalidinstance")
    assert (ended.code, ended.out) == (1, "")
    assert "instance invalidinstance of tentacle has not been configured" in ended.err.lower()
    assert "Available instances:" in ended.err


def test_18_to_21_thumbprint_and_instances(tentacle: Any, home: Path) -> None:
    thumbprint = thumbprint_of(tentacle)
    expected = {
        ("show-thumbprint", "--instance=I", "--format=json"): f'{{"Thumbprint":"{thumbprint}"}}',
        ("list-instances", "--format=text"): f"Instance 'I' uses configuration '{home}/I.cfg'.\n",
    }
    for arguments, out in expected.items():
        ended = tentacle.program(*arguments)
        assert (ended.code, ended.out, ended.err) == (0, out, "")
    ended = tentacle.program("list-instances", "--format=json")
    assert (ended.code, ended.err) == (0, "")
    assert '"InstanceName": "I"' in ended.out
    assert f'"ConfigurationFilePath": "{home}/I.cfg"' in ended.out


def test_22_the_start_up_block_is_in_the_log_of_the_instance_and_not_on_standard_output(
    tentacle: Any, home: Path, tmp_path: Path
) -> None:
    before = tentacle.log(home)
    shown = tentacle.program("show-thumbprint", "--instance=I")
    after = tentacle.log(home)
    assert after.startswith(before)
    appended = after.removeprefix(before)
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    for expected in (
        "CommandLine:",
        f"OperatingSystem: {system}",
        "OsBitVersion: x64",
        "Is64BitProcess: True",
        f"CurrentUser: {pwd.getpwuid(os.geteuid()).pw_name}",
        f"MachineName: {socket.gethostname().partition('.')[0]}",
        "ProcessorCount: ",
        f"CurrentDirectory: {tentacle.cwd}",
        f"TempDirectory: {tmp_path}/",
        "HostProcessName: Tentacle",
    ):
        assert expected in appended, expected
    assert system not in shown.out


def test_25_a_tentacle_that_is_only_half_configured(tentacle: Any, tmp_path: Path) -> None:
    name = str(uuid.uuid4())
    assert tentacle.program("create-instance", f"--instance={name}", "--config", f"{tmp_path}/{name}.cfg").code == 0
    ended = tentacle.program("show-configuration", f"--instance={name}")
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out)["Octopus"]["Home"] == str(tmp_path)


def test_24_and_26_the_configuration_of_a_listening_tentacle_to_the_letter(tentacle: Any, home: Path) -> None:
    trusting = ("--reset-trust", f"--trust={SERVER}", f"--app={home}/appdir", "--port=0", "--noListen=False")
    tentacle.ok("configure", "--instance=I", *trusting)
    tentacle.ok("configure", "--instance=I", "--port=40123")
    ended = tentacle.program("show-configuration", "--instance=I")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == SHOWN.format(
        home=home,
        thumbprint=thumbprint_of(tentacle),
        server=SERVER,
        style=1,
        address="null",
        subscription="null",
        no_listen="false",
        port=40123,
    )


def test_26_the_configuration_of_a_polling_tentacle_to_the_letter(tentacle: Any, home: Path) -> None:
    tentacle.ok("configure", "--instance=I", f"--trust={SERVER}", f"--app={home}/appdir", "--noListen=True")
    polled = ("--style=TentacleActive", "--host=localhost", "--port=40124")
    tentacle.ok("server-comms", "--instance=I", f"--thumbprint={SERVER}", *polled)
    # The entry that `--trust` made stays beside it (docs/spec/command-line.md, "Trusted servers"); the address tells it
    # from the one we want.
    tentacle.ok("clear-trusted-servers", "--instance=I", "--keep=https://localhost:40124")
    ended = tentacle.program("show-configuration", "--instance=I")
    [server] = json.loads(ended.out)["Tentacle"]["Communication"]["TrustedOctopusServers"]
    assert re.fullmatch("poll://[a-z0-9]{20}/", server["SubscriptionId"])
    assert ended.out == SHOWN.format(
        home=home,
        thumbprint=thumbprint_of(tentacle),
        server=SERVER,
        style=2,
        address='"https://localhost:40124"',
        subscription=json.dumps(server["SubscriptionId"]),
        no_listen="true",
        port=10933,
    )
