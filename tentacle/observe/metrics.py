"""The metrics of an agent, in a registry of their own (docs/monitoring.md, "Metrics").

What happens is counted here when it happens; what is merely so is read at the moment of a scrape.  Every value of a
label is one of a set that this program, or the agent's own configuration, fixes: no text of a peer becomes one.
Must not know who measures.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tentacle.observe.measures import Unmeasured
from tentacle.observe.readings import AgentReading

CALL_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0)
SCRIPT_BUCKETS: Final = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400, 86400)
QUEUE_BUCKETS: Final = (0.01, 0.1, 1, 5, 15, 60, 300, 900, 3600)
SCRIPT_STATES: Final = ("waiting", "launching", "running", "undelivered")
_RESULTS: Final = {
    0: "success",
    -1: "cancelled",
    -41: "fatal",
    -42: "not_started",
    -43: "cancelled",
    -44: "timeout",
    -46: "lost",
}
"""Of a script's exit code (docs/spec/services.md, "Exit codes"); every other one is a failure."""

# The times at which counters were made would double the number of series, and nobody looks at them.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics(Unmeasured):
    """Counts what it is told of, and reads the rest from `read` at every scrape."""

    def __init__(self, read: Callable[[], AgentReading]) -> None:
        self.registry = CollectorRegistry()
        self._calls = Histogram(
            "tentacle_call_duration_seconds",
            "Time from a call's arrival to its answer, by service, method and wire.",
            ("service", "method", "wire"),
            buckets=CALL_BUCKETS,
            registry=self.registry,
        )
        self._answers = Counter(
            "tentacle_calls",
            "Calls that were answered.",
            ("service", "method", "wire", "result"),
            registry=self.registry,
        )
        self._series: dict[tuple[str, str, str, str], tuple[Histogram, Counter]] = {}
        self._transfers = Counter(
            "tentacle_transfers",
            "Files and other data streams that came along with calls and answers.",
            ("direction",),
            registry=self.registry,
        )
        self._transferred = Counter("tentacle_transfer_bytes", "Their bytes.", ("direction",), registry=self.registry)
        for direction in ("received", "sent"):
            self._transfers.labels(direction)
            self._transferred.labels(direction)
        self._ended = Counter(
            "tentacle_scripts_finished",
            "Scripts whose end this agent has seen, by result.",
            ("result",),
            registry=self.registry,
        )
        for result in ("failure", *_RESULTS.values()):
            self._ended.labels(result)
        self._ran = Histogram(
            "tentacle_script_duration_seconds",
            "How long scripts ran, without the time that they waited for others.",
            buckets=SCRIPT_BUCKETS,
            registry=self.registry,
        )
        self._waited = Histogram(
            "tentacle_script_queue_seconds",
            "How long scripts waited for others before they began.",
            buckets=QUEUE_BUCKETS,
            registry=self.registry,
        )
        self._log_bytes = 0
        self.registry.register(_Readings(read, lambda: self._log_bytes))
        ProcessCollector(registry=self.registry)

    def expose(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics as the header `Accept` asks for them, and their content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def call(self, service: str, method: str, wire: str, result: str, seconds: float) -> None:
        """A call was answered after `seconds`; all other values come from fixed sets."""
        key = service, method, wire, result
        if (series := self._series.get(key)) is None:
            # To look for a series costs more than to count in it, and of these there are few.
            series = self._series[key] = self._calls.labels(*key[:3]), self._answers.labels(*key)
        series[0].observe(seconds)
        series[1].inc()

    def transfer(self, direction: str, streams: int, size: int) -> None:
        """So many data streams of `size` bytes altogether were `received` or `sent`."""
        self._transfers.labels(direction).inc(streams)
        self._transferred.labels(direction).inc(size)

    def script_began(self, waited: float) -> None:
        """A script was let in after so many seconds."""
        self._waited.observe(waited)

    def script_ended(self, exit_code: int, ran: float | None, log_bytes: int) -> None:
        """A script has ended.  `ran` seconds; `None` for one that did not run, or began before this agent."""
        self._ended.labels(_RESULTS.get(exit_code, "failure")).inc()
        self._log_bytes += log_bytes
        if ran is not None:
            self._ran.observe(ran)


class _Readings(Collector):
    def __init__(self, read: Callable[[], AgentReading], ended_log_bytes: Callable[[], int]) -> None:
        self._read = read
        self._ended_log_bytes = ended_log_bytes

    def describe(self) -> list[Metric]:
        """None of it: an agent that is being put together cannot be read yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        now = self._read()
        build = GaugeMetricFamily(
            "tentacle_build_info",
            "The version of this agent, the one that servers are told, and that of its Python.",
            labels=("version", "reported_version", "python"),
        )
        build.add_metric((now.version, now.reported_version, platform.python_version()), 1)
        yield build
        yield _gauge("tentacle_start_time_seconds", "When this agent was started.", now.since)
        yield _gauge("tentacle_ready", "1 when the agent can take work, see /readyz.", not now.missing)
        yield _gauge("tentacle_draining", "1 while an operator wants no new scripts here.", now.draining)
        yield _gauge("tentacle_calls_in_progress", "Calls that are being answered.", now.calls)
        yield _gauge("tentacle_last_call_timestamp_seconds", "When a server was answered last.", now.called)
        yield _gauge(
            "tentacle_certificate_expiry_timestamp_seconds",
            "Until when the certificate in use is valid.",
            now.certificate_ends,
        )
        scripts = GaugeMetricFamily("tentacle_scripts", "Scripts that are not completed, by state.", labels=("state",))
        for state in SCRIPT_STATES:
            scripts.add_metric((state,), now.scripts.get(state, 0))
        yield scripts
        yield CounterMetricFamily(
            "tentacle_script_log_bytes",
            "Bytes in the logs of scripts that this agent has followed.",
            value=self._ended_log_bytes() + now.running_log_bytes,
        )
        yield _gauge(
            "tentacle_oldest_undelivered_result_age_seconds",
            "Age of the oldest result that no server has completed; 0 when there is none.",
            now.undelivered or 0,
        )
        yield _gauge("tentacle_policy_broken", "1 while the host's policy file cannot be used.", now.policy_broken)
        yield CounterMetricFamily(
            "tentacle_audit_failures", "Audit records that could not be written.", value=now.audit_failures
        )
        yield _gauge("tentacle_disk_free_bytes", "Free space where scripts work.", now.disk_free)
        yield _gauge("tentacle_disk_needed_bytes", "With less free space no script is started.", now.disk_needed)
        yield from _polling(now)
        yield from _listening(now)


def _gauge(name: str, text: str, value: float | None) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=None if value is None else float(value))


def _polling(now: AgentReading) -> Iterator[Metric]:
    labels = ("server",)
    wanted = GaugeMetricFamily("tentacle_polling_connections_wanted", "Polling connections to keep.", labels=labels)
    up = GaugeMetricFamily("tentacle_polling_connections_up", "Polling connections that are identified.", labels=labels)
    again = CounterMetricFamily(
        "tentacle_polling_reconnects", "Polling connections that replaced one that was lost.", labels=labels
    )
    failed = CounterMetricFamily(
        "tentacle_polling_failures",
        "Polling connections that could not be made or broke.",
        labels=("server", "reason"),
    )
    for server in now.servers:
        wanted.add_metric((server.address,), server.wanted)
        up.add_metric((server.address,), server.up)
        again.add_metric((server.address,), server.reconnects)
        for reason, count in server.failures.items():
            failed.add_metric((server.address, reason), count)
    yield from (wanted, up, again, failed)


def _listening(now: AgentReading) -> Iterator[Metric]:
    connected = GaugeMetricFamily(
        "tentacle_listening_connections", "Connections to the listening port now.", labels=("peer",)
    )
    accepted = CounterMetricFamily(
        "tentacle_listening_accepted", "Connections that the listening port has accepted.", labels=()
    )
    refused = CounterMetricFamily(
        "tentacle_handshake_failures",
        "Connections to the listening port that did not become a trusted peer's, by reason.",
        labels=("reason",),
    )
    if now.listener is not None:
        connected.add_metric(("trusted",), now.listener.trusted)
        connected.add_metric(("stranger",), now.listener.strangers)
        accepted.add_metric((), now.listener.accepted)
        for reason, count in now.listener.refused.items():
            refused.add_metric((reason,), count)
    yield from (connected, accepted, refused)
