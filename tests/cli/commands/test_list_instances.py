"""`list-instances` (docs/spec/command-line.md, "list-instances")."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def test_a_path_that_others_wrote_down_does_not_move_the_cursor(tentacle: Any, instance: Path, tmp_path: Path) -> None:
    entry = {"Name": "evil\x1b[2J", "ConfigurationFilePath": "/x\n/y\x1b]0;z\x07"}
    (tmp_path / "machine" / "Tentacle" / "Instances" / "evil.config").write_text(json.dumps(entry))
    lines = tentacle.ok("list-instances").lines
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    assert json.loads(tentacle.ok("list-instances", "--format=json").out)[1]["InstanceName"] == entry["Name"]


def test_instances_are_listed_by_name(tentacle: Any, tmp_path: Path) -> None:
    for name in ("b", "A"):
        tentacle.ok("create-instance", f"--instance={name}", f"--config={tmp_path}/{name}.cfg")
    assert tentacle.ok("list-instances", "--format=Text").lines == [
        f"Instance 'A' uses configuration '{tmp_path}/A.cfg'.",
        f"Instance 'b' uses configuration '{tmp_path}/b.cfg'.",
    ]
    ended = tentacle.ok("list-instances", "--format=json")
    assert not ended.out.endswith("\n")
    assert f'"InstanceName": "A",\n    "ConfigurationFilePath": "{tmp_path}/A.cfg"' in ended.out


def test_no_instances_as_json(tentacle: Any) -> None:
    assert tentacle.ok("list-instances", "--format=json").out == "[]"
    assert tentacle("list-instances", "--instance=I").code == 1
