"""A script and its files in a command, as the engine takes them."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.script import ScriptFile, ScriptType
from tentacle.scripts.workspace.workspaces import WorkspaceFile
from tentacle.services.errors import FileError
from tentacle.services.script_support import script_body, workspace_files

FILES = st.lists(st.tuples(st.text(max_size=20), st.none() | st.text(max_size=5), st.booleans()), max_size=5)


@pytest.mark.parametrize(
    ("scripts", "body"),
    [
        ({}, "default"),
        ({ScriptType.BASH: "own"}, "own"),
        ({ScriptType.BASH: ""}, ""),
        ({ScriptType.POWERSHELL: "foreign"}, "default"),
        ({ScriptType.POWERSHELL: "foreign", ScriptType.BASH: "own"}, "own"),
    ],
)
def test_the_text_for_bash_comes_before_the_default(scripts: dict[ScriptType, str], body: str) -> None:
    assert script_body("default", scripts) == body


@given(FILES)
def test_every_file_keeps_its_name_its_password_and_its_place_or_the_first_missing_one_is_told(
    wanted: list[tuple[str, str | None, bool]],
) -> None:
    files = [ScriptFile(name, DataStream(uuid4(), 7), password) for name, password, _ in wanted]
    arrived = {
        file.contents.id: Path(f"/spool/{number}")
        for number, (file, (_, _, kept)) in enumerate(zip(files, wanted, strict=True))
        if kept
    }
    missing = [name for name, _, kept in wanted if not kept]
    if missing:
        with pytest.raises(FileError) as caught:
            workspace_files(files, arrived)
        assert f"for the 7 bytes of the script's file '{missing[0]}' when they arrived" in caught.value.message
        return
    assert workspace_files(files, arrived) == tuple(
        WorkspaceFile(name, Path(f"/spool/{number}"), password) for number, (name, password, _) in enumerate(wanted)
    )


def test_a_long_name_is_cut_in_the_message() -> None:
    with pytest.raises(FileError) as caught:
        workspace_files([ScriptFile("x" * 70_000, DataStream(uuid4(), 1))], {})
    assert f"file '{'x' * 200}' when" in caught.value.message
