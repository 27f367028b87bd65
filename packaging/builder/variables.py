"""The environment variables that Tentacle reads, for `docs/configuration.md`.

Those that override a setting are in the table of settings.  A test reads the code, and fails where it reads one that is
not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Variable:
    """`default` is what holds without it."""

    name: str
    default: str
    meaning: str


CONTAINER: Final = (
    Variable(
        "OCTOPUS_CONTRIBUTE_ENV_SETTINGS", "`false`", "`true`: the variables of this list and of the settings count"
    ),
    Variable("TENTACLE_TRUSTED_SERVERS", "", "the trusted servers, as JSON in the form of `show-configuration`"),
    Variable(
        "TENTACLE_CERTIFICATE", "", "the certificate with its private key: base64 of a PFX file without a password"
    ),
    Variable("TENTACLE_CERTIFICATE_THUMBPRINT", "", "the thumbprint that this certificate must have"),
)
"""Beside those of the table of settings."""

AGENT: Final = (
    Variable(
        "OCTOPUS__TENTACLE__LOGLEVEL",
        "`Info`",
        "the level of the log, spelled so: `Trace`, `Debug`, `Info`, `Warn`, `Error`, `Fatal`, `Off`",
    ),
    Variable("TentaclePollingConnectionCount", "the setting", "polling connections for each server"),
    Variable("TENTACLE_DRAIN_TIMEOUT", "`10s`", "how long an agent that ends waits for running scripts"),
    Variable("TENTACLE_DRAIN_ACTION", "`leave`", "what it does with those that still run: `leave` or `cancel`"),
    Variable("TENTACLE_DRAIN_FETCH_TIMEOUT", "`15s`", "with `cancel`: how long servers have to fetch the results"),
    Variable("TENTACLE_CANCEL_GRACE", "`5s`", "how long a cancelled script has to end by itself"),
    Variable("TENTACLE_WORKSPACE_CLEANER_DELAY", "`02:00:00`", "time between two looks for old workspaces"),
    Variable("TENTACLE_WORKSPACE_CLEANER_DELETE_OLDER_THAN", "`1.00:00:00`", "age at which a workspace is removed"),
    Variable("TENTACLE_WORKSPACE_QUOTA_BYTES", "none", "bytes that all workspaces may take, such as `20G`"),
    Variable("TENTACLE_WORKSPACE_QUOTA_INODES", "none", "files and directories that they may have"),
)

COMMANDS: Final = (
    Variable("OCTOPUS_API_KEY", "", "the API key for commands with `--server`; never given to scripts"),
    Variable("OCTOPUS_BEARER_TOKEN", "", "a bearer token instead"),
    Variable("OCTOPUS_PASSWORD", "", "the password for `--username`"),
    Variable("OCTOPUS_SERVICE_USERNAME", "`tentacle`", "the user of a service that is installed without `--username`"),
    Variable(
        "TentacleMachineConfigurationHomeDirectory",
        "`/etc/octopus` for root, `~/.local/share/Octopus` for others",
        "the directory in which instances are looked for and made",
    ),
    Variable("DefaultLogDirectory", "the user's own data directory", "where a command logs that has no instance"),
)

SYSTEM: Final = (
    Variable("HOME", "the user's entry in the system's list", "where what is the user's own lies"),
    Variable("PATH", "the usual directories", "where `doctor` looks for what steps need"),
    Variable("TMPDIR", "`/tmp`", "where temporary files lie; also those of scripts"),
    Variable("PWD", "", "named in messages when the current directory has been removed"),
    Variable("HTTPS_PROXY", "", "the proxy for registration, where no proxy is set; polling never uses it"),
    Variable("HTTP_PROXY", "", "the same for a server without TLS"),
    Variable("ALL_PROXY", "", "the same for both"),
    Variable("NO_PROXY", "", "the hosts for which they do not count"),
    Variable("NO_COLOR", "", "anything: no colours on the terminal"),
    Variable("TERM", "", "`dumb`: no colours on the terminal"),
    Variable("SUDO_USER", "", "who asked for a drain, as `status` shows it"),
    Variable("LC_ALL", "", "`doctor` looks whether steps would run with UTF-8"),
    Variable("LC_CTYPE", "", "the same"),
    Variable("LANG", "", "the same"),
    Variable("LD_LIBRARY_PATH", "", "`doctor` looks there for libicu too"),
    Variable("DOTNET_SYSTEM_GLOBALIZATION_INVARIANT", "", "`1`: `doctor` does not miss libicu"),
)

FROM_SYSTEMD: Final = (
    Variable("TENTACLE_SCRIPT_LAUNCHER", "", "the socket of the unit that starts scripts, where there are two units"),
    Variable("LISTEN_FDS", "", "how many open files are passed: the port that was open before this agent"),
    Variable("LISTEN_PID", "", "which process they are meant for"),
    Variable("LISTEN_FDNAMES", "", "their names"),
    Variable(
        "CREDENTIALS_DIRECTORY",
        "",
        "where the key is after `service --key=root`, and what `--apiKeyCredential=` and the like name",
    ),
    Variable("JOURNAL_STREAM", "", "log lines get a priority when they go to the journal"),
    Variable("NOTIFY_SOCKET", "", "where the agent says that it is ready and alive"),
    Variable("WATCHDOG_USEC", "", "how often it has to say so"),
    Variable("WATCHDOG_PID", "", "which process it is meant for"),
)

VARIABLES: Final = (*CONTAINER, *AGENT, *COMMANDS, *SYSTEM, *FROM_SYSTEMD)
