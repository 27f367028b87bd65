"""What both script services share: from a command to a start of the engine, from a run's status to an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tentacle.contracts.script import ScriptFile, ScriptType
from tentacle.scripts.workspace.workspaces import WorkspaceFile
from tentacle.services.dispatch import Files
from tentacle.services.errors import FileError


def script_body(default: str, scripts: Mapping[ScriptType, str]) -> str:
    """The text for bash: the one given for it, else the general one (tentacle-services.md 3.2)."""
    return scripts.get(ScriptType.BASH, default)


def workspace_files(wanted: Sequence[ScriptFile], files: Files) -> tuple[WorkspaceFile, ...]:
    """The script's files with the places where their bytes lie.

    Raises `FileError` for one whose bytes were not kept, because the disk had no room when they arrived.
    """
    found = []
    for file in wanted:
        source = files.get(file.contents.id)
        if source is None:
            raise FileError(
                f"There was no room on the disk for the {file.contents.length} bytes of the script's file "
                f"'{file.name[:200]}' when they arrived; please free up space."
            )
        found.append(WorkspaceFile(file.name, source, file.encryption_password))
    return tuple(found)
