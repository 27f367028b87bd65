"""Exit codes that are not the script's own (docs/spec/services.md, "Exit codes").

Imported by the shim too, which must stay small: nothing is imported here that it does not have.
"""

from __future__ import annotations


class ScriptExitCode:
    """The codes by name.  -1 is what a script ends with that was cancelled while it ran."""

    CANCELLED_WHILE_RUNNING = -1
    FATAL = -41
    INVOCATION_ERROR = -42
    CANCELLED = -43
    TIMEOUT = -44
    UNKNOWN_SCRIPT = -45
    UNKNOWN_RESULT = -46
