"""Failures of a call, with what a server's client needs to tell them apart (docs/spec/services.md,
"Failures of a call").
"""

from __future__ import annotations

from typing import ClassVar

from tentacle.errors import EXIT_INTERNAL, TentacleError


class ServiceError(TentacleError):
    """The service understood the call and could not do it.  The caller's code does not try again."""

    default_exit_code = EXIT_INTERNAL
    dotnet_type: ClassVar[str] = "System.InvalidOperationException"


class FileError(ServiceError):
    """Something about a file or directory."""

    dotnet_type = "System.IO.IOException"


class NotAFile(FileError):
    """Something else than a file has the name, or a file has the name that a directory would need."""


class MissingFile(FileError):
    """A file or directory that is not there."""

    dotnet_type = "System.IO.FileNotFoundException"


class AccessDenied(ServiceError):
    """A file or directory that the agent's user may not use."""

    dotnet_type = "System.UnauthorizedAccessException"


class ArgumentError(ServiceError):
    """A name or path that cannot be used."""

    dotnet_type = "System.ArgumentException"


class RefusedByPolicy(ServiceError):
    """What the administrator of the host does not allow (`message` says which rule).  Asking again does not help."""

    dotnet_type = "System.UnauthorizedAccessException"


class ShuttingDown(TentacleError):
    """The agent is stopping.  The caller's code tries again, and reaches the next agent."""

    def __init__(self) -> None:
        super().__init__("The Tentacle service is shutting down and cannot process this request.")


class DrainingAgent(ServiceError):
    """An operator wants no new scripts on this worker.  The caller's code does not try again: it may last for days."""

    def __init__(self) -> None:
        super().__init__(
            "This worker is being drained and takes no new scripts. Its operator ends that with 'tentacle undrain'; "
            "until then disable the worker on the Octopus Server, so that other workers are chosen."
        )
