"""The table of all commands: names, aliases, descriptions, and the module of each.

A command's module is imported when the command is used, so that `version` does not pay for an HTTP client.  Must not
import any command itself.
"""

from __future__ import annotations

from typing import Final

from tentacle.records import dataclass


@dataclass(frozen=True)
class Entry:
    """One command; `aliases` are words that mean it too.  Descriptions are the original's (docs/spec/command-line.md,
    "List of commands").

    `shared_module` is the module under `tentacle.cli.commands` for a command that shares it with others.
    """

    name: str
    description: str
    aliases: tuple[str, ...] = ()
    shared_module: str = ""

    @property
    def function(self) -> str:
        """The name of the function that is the command."""
        return self.name.replace("-", "_")

    @property
    def module(self) -> str:
        """The full name of the module that holds the command."""
        return f"tentacle.cli.commands.{self.shared_module or self.function}"


ENTRIES: tuple[Entry, ...] = (
    Entry("agent", "Starts the Tentacle Agent in debug mode", ("", "run")),
    Entry("checkservices", "Checks the Tentacle instances are running", shared_module="windows_only"),
    Entry("clear-trusted-servers", "Clears trusted servers in the Tentacle Configuration"),
    Entry("completion", "Prints a script that completes commands and options in bash, zsh or fish"),
    Entry("configure", "Sets Tentacle settings such as the port number and thumbprints"),
    Entry("create-instance", "Registers a new instance of the Tentacle service"),
    Entry("delete-instance", "Deletes an instance of the Tentacle service"),
    Entry("deregister-from", "Deregisters this deployment target from an Octopus Server", shared_module="deregister"),
    Entry("deregister-worker", "Deregisters this worker from an Octopus Server", shared_module="deregister"),
    Entry("devserver", "Starts an embedded Octopus-like server to try a Tentacle with"),
    Entry("doctor", "Looks for whatever keeps this Tentacle from working, and says what to do"),
    Entry("drain", "Takes no new scripts from now on, and waits for those that run"),
    Entry("extract", "Extracts a NuGet package"),
    Entry("help", "Prints this help text", ("h", "?")),
    Entry("import-certificate", "Replace the certificate that Tentacle uses to authenticate itself"),
    Entry("import-instance", "Takes over an instance of an original Octopus Tentacle, whose files stay as they are"),
    Entry("init", "Sets up a worker from beginning to end, by questions or by options"),
    Entry("list-instances", "Lists all installed Tentacle instances"),
    Entry("livez", "Checks that the Tentacle agent process is alive (suitable for a Kubernetes liveness probe)."),
    Entry("log-level", "Shows or changes the level of a running agent's log, for good or for a while"),
    Entry(
        "migrate-preinstalled-k8s-config",
        "Migrates the configuration from the pre-install hook to the running agent instance",
        shared_module="kubernetes_only",
    ),
    Entry("new-certificate", "Creates and installs a new certificate for this Tentacle"),
    Entry("poll-server", "Configures an Octopus Server that this Tentacle will poll"),
    Entry(
        "polling-proxy",
        "Configure the HTTP proxy used by polling Tentacles to reach the Octopus Server",
        shared_module="proxy",
    ),
    Entry("proxy", "Configure the HTTP proxy used by Octopus"),
    Entry(
        "register-k8s-cluster",
        '[Obsolete: Please use the "register-k8s-target" command instead] Registers this kubernetes cluster as a '
        "deployment target with an Octopus Server",
        shared_module="kubernetes_only",
    ),
    Entry(
        "register-k8s-target",
        "Registers this kubernetes agent as a deployment target with an Octopus Server",
        shared_module="kubernetes_only",
    ),
    Entry(
        "register-k8s-worker",
        "Registers this kubernetes agent as a worker with an Octopus Server",
        shared_module="kubernetes_only",
    ),
    Entry(
        "register-with",
        "Registers this machine as a deployment target with an Octopus Server",
        shared_module="register",
    ),
    Entry("register-worker", "Registers this machine as a worker with an Octopus Server", shared_module="register"),
    Entry("rotate-certificate", "Replaces this Tentacle's certificate while servers may know the old or the new one"),
    Entry("scripts", "Shows the scripts that run and that ran here, and their logs"),
    Entry("server-comms", "Configure how the Tentacle communicates with an Octopus Server"),
    Entry("service", "Start, stop, install and configure the Tentacle service"),
    Entry(
        "set-polling-connection-count",
        "Sets the number of polling connections this Tentacle opens to each Octopus Server it polls",
    ),
    Entry("show-configuration", "Outputs the Tentacle configuration"),
    Entry("show-thumbprint", "Show the thumbprint of this Tentacle's certificate"),
    Entry("status", "Shows what an instance is and what its agent is doing"),
    Entry("undrain", "Takes new scripts again, after drain"),
    Entry(
        "update-trust",
        "Replaces the trusted Octopus Server thumbprint of any matching polling or listening registrations "
        "with a new thumbprint to trust",
    ),
    Entry("version", "Show the Tentacle version information"),
    Entry("watchdog", "Configure a scheduled task to monitor the Tentacle service(s)", shared_module="windows_only"),
)
"""By name, ordinal."""

GROUPS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("Every day", ("init", "status", "doctor", "service", "register-worker", "deregister-worker")),
    ("Scripts", ("scripts", "drain", "undrain")),
    ("Run the agent", ("agent", "livez", "log-level")),
    (
        "Instances and settings",
        (
            *("list-instances", "create-instance", "delete-instance", "import-instance", "configure"),
            *("show-configuration", "proxy", "polling-proxy", "set-polling-connection-count"),
        ),
    ),
    ("Certificates", ("show-thumbprint", "new-certificate", "rotate-certificate", "import-certificate")),
    (
        "Octopus Servers",
        ("poll-server", "server-comms", "update-trust", "clear-trusted-servers", "register-with", "deregister-from"),
    ),
    ("Help and tools", ("help", "version", "completion", "extract", "devserver")),
    (
        "For Windows or Kubernetes only",
        (
            *("checkservices", "watchdog", "register-k8s-cluster", "register-k8s-target", "register-k8s-worker"),
            "migrate-preinstalled-k8s-config",
        ),
    ),
)
"""In the order of general help: a title, and the names of the commands below it."""

_BY_WORD = {word: entry for entry in ENTRIES for word in (entry.name, *entry.aliases) if word}


def entry_of(name: str) -> Entry:
    """The entry of the command called exactly `name`.  Raises KeyError."""
    return _BY_WORD[name]


def find(word: str) -> Entry | None:
    """The command that `word` means, by name or alias; case and leading dashes and slashes do not count."""
    return _BY_WORD.get(word.lower().lstrip("-/"))


def nearest(word: str) -> str | None:
    """The name of the command that was probably meant by `word`, which is no command."""
    import difflib

    close = difflib.get_close_matches(word[:100].lower().lstrip("-/"), _BY_WORD, n=1, cutoff=0.7)
    return close[0] if close else None
