"""The errors of the engine, in words for a person."""

from __future__ import annotations

from pathlib import Path

from tentacle.errors import EXIT_INTERNAL, EXIT_USER_ERROR, TentacleError


class ScriptError(TentacleError):
    """A script could not be accepted, started or removed."""

    default_exit_code = EXIT_INTERNAL


class DamagedRunError(ScriptError):
    """The files of a run exist but cannot be read, so the ticket cannot be treated as unused."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"The record of a script in '{path}' cannot be read: {why}",
            hint="The script is not run again under its ticket. Complete it, or remove the file.",
        )


class WorkspaceNotPreparedError(ScriptError):
    """The files of a script could not be written; nothing has run."""

    def __init__(self, workspace: Path, why: str) -> None:
        super().__init__(f"The workspace '{workspace}' could not be prepared: {why}")


class InvalidTicketError(ScriptError):
    """A ticket that cannot name a workspace.  Nothing has been written."""


class InvalidFileNameError(ScriptError):
    """A file name that does not stay inside the workspace.  Nothing has been written."""


class InvalidArgumentError(ScriptError):
    """An argument, a body or a mutex name that no process could be given.  Nothing has been written."""


class LaunchError(ScriptError):
    """No process could be made for a script; the script has not run."""


class SandboxUnavailableError(ScriptError):
    """This host or user cannot provide the sandbox or the limits of the settings.  The agent must not start."""

    default_exit_code = EXIT_USER_ERROR
