"""The name of every file that an instance keeps: in its home, in `Work/` below it, and beside its configuration.

Knows names only.  Must not know the file system, nor what a file holds.
"""

from __future__ import annotations

from typing import Final

LOGS: Final = "Logs"
WORK: Final = "Work"
LOCK_FILE: Final = "agent.lock"
"""Locked by the agent of this home for as long as it runs."""
HEARTBEAT_FILE: Final = "livez.heartbeat"
"""Touched by the agent every few seconds (docs/spec/command-line.md, "livez")."""
STATUS_FILE: Final = "status.json"
CONTROL_SOCKET: Final = "agent.sock"
"""Where the running agent answers the commands of this machine (docs/spec/control.md)."""
DRAIN_FILE: Final = "draining.json"
"""There as long as the operator wants no new scripts here (docs/spec/control.md, "Draining")."""
EPHEMERAL_NOTE: Final = "ephemeral-worker.json"
"""Which worker a run with `--ephemeral` has registered, for the next run to take off."""
OF_THE_AGENT: Final = (WORK, LOGS, LOCK_FILE, HEARTBEAT_FILE, STATUS_FILE, CONTROL_SOCKET, DRAIN_FILE, EPHEMERAL_NOTE)
"""Everything that an agent makes in the home, and its user must own."""

TOOLS: Final = "Tools"
"""Made by servers, like what follows; Calamari is here."""
FILES: Final = "Files"
"""Packages."""
PACKAGE_JOURNAL: Final = "PackageRetentionJournal.json"
DEPLOYMENT_JOURNAL: Final = "DeploymentJournal.xml"
OF_SERVERS: Final = (TOOLS, FILES, "Calamari", DEPLOYMENT_JOURNAL, PACKAGE_JOURNAL)
"""Everything that a server's steps make in the home, under names that are known beforehand."""
ISOLATION_LOCKS: Final = "ScriptIsolation."
"""The beginning of the names of Calamari's own locks."""

LOG_FILE: Final = "OctopusTentacle.txt"
"""In `Logs`."""
AUDIT_FILE: Final = "Audit.jsonl"
"""In `Logs`, too: who has asked for what."""

RUNS: Final = ".runs"
"""In `Work`, like all below: the state and the log of each run, out of the reach of its script."""
PROXY_REFUSALS: Final = ".proxy-refusals"
"""Which credentials a proxy has refused a short while ago, as keyed hashes."""
MASK_KEY: Final = ".mask.key"
"""What the passwords of runs are sealed with."""
SHARED_MEMORY: Final = ".shared-memory"
"""What .NET 8 locks with, for all scripts, where each has a home of its own."""
SPOOL: Final = ".spool"
"""Incoming data streams; `.spool-XXXX` where it cannot be used."""
INBOX: Final = ".https"
"""Bytes that have come by HTTPS and wait for their call, or for the rest of their file."""
POLLED_CALLS: Final = ".polled"
"""Which calls of servers that are polled by HTTPS have been carried out, and the replies to them."""
UPLOADS: Final = ".uploads"
"""Notes of the copies that are being made beside their targets."""

KEY_SUFFIX: Final = ".key"
"""Beside a configuration: the key that its secrets are sealed with."""
ORIGIN_SUFFIX: Final = ".origin"
"""Beside a configuration: the machine on which its certificate was first used."""
KEPT_CERTIFICATE_SUFFIX: Final = ".certificate-"
"""Beside a configuration, with a thumbprint behind it: a certificate that was replaced, sealed with the same key."""
