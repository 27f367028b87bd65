"""The clients of all that a worker can be: one with an agent, one that is reached by SSH, the server's own machine.

Knows the three; must not know tasks or storage.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tentacle.calling import (
    LISTENING,
    POLLING,
    CallRetries,
    Capabilities,
    Endpoint,
    Report,
    RetryPolicy,
    StatusInterval,
    Time,
    TypedCalls,
    WorkerCaller,
    WorkerClient,
)
from tentacle.devserver.worker.built_in import BuiltInClient
from tentacle.devserver.worker.ssh import SshClient, SshEndpoint

Client = WorkerClient | SshClient | BuiltInClient


@dataclass(frozen=True)
class WorkerClients:
    """Makes the client of a worker; what workers can do is remembered between tasks.  `directory` is for files on their
    way.
    """

    caller: WorkerCaller
    time: Time
    intervals: tuple[StatusInterval, StatusInterval] = (LISTENING, POLLING)
    cache: Capabilities = field(default_factory=dict)
    directory: Path = Path()
    built_in: BuiltInClient | None = None

    def by_ssh(self, endpoint: SshEndpoint, policy: RetryPolicy, report: Report, timeout: float) -> SshClient:
        return SshClient(endpoint, CallRetries(policy, self.time, report), self.directory, timeout)

    def of(self, endpoint: Endpoint, policy: RetryPolicy, report: Report) -> WorkerClient:
        retries = CallRetries(policy, self.time, report)
        return WorkerClient(TypedCalls(self.caller, endpoint), retries, self.cache, self.intervals[endpoint.polling])
