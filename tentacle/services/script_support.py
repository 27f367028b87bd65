"""What both script services share: the script and its files in a command, as the engine takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tentacle.contracts.script import ScriptFile, ScriptType
from tentacle.scripts.workspace.workspaces import WorkspaceFile
from tentacle.services.dispatch import Files
from tentacle.services.errors import FileError
from tentacle.trace_context import current_work


def script_body(default: str, scripts: Mapping[ScriptType, str]) -> str:
    """The script's text for bash: its own if there is one, else the default (docs/spec/services.md,
    "Preparing a script").
    """
    return scripts.get(ScriptType.BASH, default)


def workspace_files(wanted: Sequence[ScriptFile], files: Files) -> tuple[WorkspaceFile, ...]:
    """The script's files, each with the path of the file that holds its bytes.

    Raises `FileError` for a file whose bytes were not kept, because the disk had no room when they arrived.
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


def script_trace() -> str:
    """The `traceparent` of the call at hand; empty where there is none."""
    trace = current_work().trace
    return trace.parent if trace else ""
