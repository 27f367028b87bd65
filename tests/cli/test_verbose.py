"""`--verbose`: each request on standard error as it is made, without secrets; standard output stays as it is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

KEY = "API-TESTKEY0123456789"


async def test_the_requests_of_a_registration(tentacle: Any, instance: Path, octopus: Any) -> None:
    tentacle.ok("new-certificate", "--instance=I")
    asking = ("--instance=I", f"--server={octopus.url}", f"--apiKey={KEY}")
    ended = await tentacle.aside(
        "register-worker", *asking, "--workerpool=Linux", "--name=W", "--publicHostName=w", "--verbose", "--format=json"
    )
    assert ended.code == 0
    assert json.loads(ended.out)["Name"] == "W"
    told = ended.err.splitlines()
    assert len(told) == len(octopus.asked)
    for line, asked in zip(told, octopus.asked, strict=True):
        method, path = asked.split()
        assert line.startswith(f"{method} {octopus.url.rstrip('/')}{path}: 20")
    assert KEY not in ended.err
    quiet = await tentacle.aside("deregister-worker", *asking)
    assert (quiet.code, quiet.err) == (0, "")


async def test_a_secret_in_a_request_is_masked(tentacle: Any, instance: Path, octopus: Any) -> None:
    tentacle.ok("new-certificate", "--instance=I")
    asking = ("--instance=I", f"--server={octopus.url}", f"--apiKey={KEY}", "--workerpool=Linux", "--publicHostName=w")
    ended = await tentacle.aside("register-worker", *asking, f"--name=x{KEY}x", "--verbose")
    assert ended.code == 0
    [line] = [line for line in ended.err.splitlines() if "?name=" in line]
    assert re.search(r"name=x\*+x: 200$", line), line
    assert KEY not in ended.err


async def test_a_refusal_is_told_behind_the_request_that_met_it(tentacle: Any, instance: Path, octopus: Any) -> None:
    asking = ("--instance=I", f"--server={octopus.url}", "--apiKey=API-WRONGWRONGWRONG", "--verbose")
    tentacle.ok("new-certificate", "--instance=I")
    ended = await tentacle.aside("deregister-worker", *asking)
    assert (ended.code, ended.out) == (1, "")
    *_, refused, problem, hint = ended.err.splitlines()
    assert refused.endswith("/api/users/me: 401")
    assert problem == "You must be logged in to request this resource."
    assert "API key" in hint
