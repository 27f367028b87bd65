"""`deregister-worker` and `deregister-from` against a server of this test (docs/spec/rest.md, "Deregistering")."""

from __future__ import annotations

import json
from typing import Any

from tentacle.settings.store import SettingsFile
from tests.recorded import VECTORS

KEY = "API-TESTKEY0123456789"
SERVER = "679DDD8527CCE15FE45A5DACD92EA7C0364198D3"


def recorded(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))


def own_thumbprint(file: SettingsFile) -> str:
    certificate = file.load().certificate
    assert certificate is not None
    return certificate.thumbprint


async def test_deregistering_as_recorded(tentacle: Any, ready: SettingsFile, octopus: Any) -> None:
    access = (f"--server={octopus.url}", f"--apiKey={KEY}")
    await tentacle.aside("register-worker", *access, "--name=ubuntu worker", "--workerpool=Linux", "--instance=I")
    before = ready.load()
    ended = await tentacle.aside("deregister-worker", *access, "--instance=I")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == recorded("rest-deregister")["output"].replace("--instance Tentacle", "--instance I")
    assert octopus.deleted == ["Workers-1"]
    assert ready.load() == before


async def test_several_of_ours_go_only_together(tentacle: Any, ready: SettingsFile, octopus: Any) -> None:
    for number in (1, 2):
        endpoint = {"Thumbprint": own_thumbprint(ready)}
        links = {"Self": f"/api/Spaces-1/machines/M{number}"}
        octopus.machines.append({"Id": f"M{number}", "Name": f"m{number}", "Endpoint": endpoint, "Links": links})
    access = (f"--server={octopus.url}", f"--apiKey={KEY}", f"--config={ready.path}")
    ended = await tentacle.aside("deregister-from", *access)
    assert ended.code == 1
    assert ended.err.startswith("The Tentacle matches more than one machine on the server.")
    ended = await tentacle.aside("deregister-from", *access, "-m")
    assert ended.lines[:2] == [f"Deleting machine 'm{n}' from the Octopus Server..." for n in (1, 2)]
    assert ended.lines[2].endswith(f"'Tentacle configure --remove-trust={SERVER}'")
    assert ended.lines[3:] == ["Machine deregistered successfully"]
    ended = await tentacle.aside("deregister-worker", *access)
    assert (ended.code, ended.err) == (1, "No worker was found matching this Tentacle's thumbprint.\n")
