"""`show-configuration` with what a server of this test knows (docs/spec/command-line.md, "show-configuration")."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tentacle.settings.store import SettingsFile

KEY = "API-TESTKEY0123456789"


async def test_the_configuration_with_what_the_server_knows(
    tentacle: Any, ready: SettingsFile, octopus: Any, instance: Path
) -> None:
    access = (f"--server={octopus.url}", f"--apiKey={KEY}")
    ended = await tentacle.aside("show-configuration", *access)
    assert ended.code == 0
    assert ended.err.startswith("No machines or workers were found on the specified server with the thumbprint '")
    assert json.loads(ended.out)["Octopus"]["Home"] == str(instance)
    await tentacle.aside("register-worker", *access, "--name=w", "--workerpool=Linux", "--publicHostName=h")
    ended = await tentacle.aside("show-configuration", *access, "--file=out/configuration.json")
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    text = (tentacle.cwd / "out" / "configuration.json").read_text()
    shown = json.loads(text)["Tentacle"]
    assert shown["WorkerPools"] == [{"Id": "workerpools-1", "Name": "Linux"}]
    assert shown["DisplayName"] == "w"
    assert shown["MachinePolicy"] is None
    assert shown["Communication"]["PublicHostName"] == "https://h:20933/"
    assert not text.endswith("\n")
    assert list(shown) == sorted(shown)
    assert ready.load().servers
