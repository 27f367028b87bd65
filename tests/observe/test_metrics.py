"""The metrics as a scrape shows them: names, numbers and the few values that labels may have."""

from __future__ import annotations

import asyncio

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from tentacle.observe.metrics import Metrics
from tentacle.observe.readings import AgentReading, ListenerReading, ServerReading

FULL = AgentReading(
    version="1.2.3",
    reported_version="9.8.7",
    since=1000.0,
    missing=("disk: full",),
    draining=True,
    called=2000.0,
    certificate_ends=3000.0,
    scripts={"waiting": 1, "running": 2, "undelivered": 3},
    running_log_bytes=50,
    undelivered=60.0,
    calls=4,
    disk_free=5,
    disk_needed=6,
    servers=(ServerReading('https://a"b\n:1/', 5, 4, 3, {"timeout": 2}),),
    listener=ListenerReading(1, 2, 3, {"untrusted": 4}),
)


def samples(metrics: Metrics) -> dict[str, float]:
    text, _ = metrics.expose()
    found = {}
    for family in parse(text.decode()):
        for one in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(one.labels.items()))
            found[f"{one.name}{{{labels}}}" if labels else one.name] = one.value
    return found


def test_what_is_so_is_read_at_each_scrape() -> None:
    now = FULL
    metrics = Metrics(lambda: now)
    found = samples(metrics)
    assert found["tentacle_ready"] == 0
    assert found["tentacle_draining"] == 1
    assert found["tentacle_last_call_timestamp_seconds"] == 2000
    assert found["tentacle_certificate_expiry_timestamp_seconds"] == 3000
    assert found["tentacle_scripts{state=waiting}"] == 1
    assert found["tentacle_scripts{state=launching}"] == 0
    assert found["tentacle_scripts{state=undelivered}"] == 3
    assert found["tentacle_script_log_bytes_total"] == 50
    assert found["tentacle_oldest_undelivered_result_age_seconds"] == 60
    assert (found["tentacle_disk_free_bytes"], found["tentacle_disk_needed_bytes"]) == (5, 6)
    server = 'server=https://a"b\n:1/'
    assert found[f"tentacle_polling_connections_wanted{{{server}}}"] == 5
    assert found[f"tentacle_polling_connections_up{{{server}}}"] == 4
    assert found[f"tentacle_polling_reconnects_total{{{server}}}"] == 3
    assert found[f"tentacle_polling_failures_total{{reason=timeout,{server}}}"] == 2
    assert found["tentacle_listening_connections{peer=trusted}"] == 1
    assert found["tentacle_handshake_failures_total{reason=untrusted}"] == 4
    assert any(
        name.startswith("tentacle_build_info{") and "version=1.2.3" in name and "reported_version=9.8.7" in name
        for name in found
    )
    assert "process_resident_memory_bytes" in found
    now = AgentReading(version="1.2.3", since=1000.0)
    found = samples(metrics)
    assert found["tentacle_ready"] == 1
    assert "tentacle_last_call_timestamp_seconds" not in found
    assert "tentacle_disk_free_bytes" not in found


def test_what_happens_is_counted() -> None:
    metrics = Metrics(lambda: FULL)
    metrics.call("IScriptServiceV2", "StartScript", "halibut", "ok", 0.02)
    metrics.transfer("received", 2, 1000)
    metrics.script_began(3.0)
    for code, ran in ((0, 2.0), (7, 20.0), (-1, None), (-43, None), (-44, None), (-46, None), (-42, None)):
        metrics.script_ended(code, ran, 10)
    found = samples(metrics)
    call = "method=StartScript,service=IScriptServiceV2,wire=halibut"
    assert found["tentacle_calls_total{method=StartScript,result=ok,service=IScriptServiceV2,wire=halibut}"] == 1
    assert found[f"tentacle_call_duration_seconds_count{{{call}}}"] == 1
    assert found["tentacle_transfers_total{direction=received}"] == 2
    assert found["tentacle_transfer_bytes_total{direction=received}"] == 1000
    assert found["tentacle_script_queue_seconds_sum"] == 3
    assert found["tentacle_script_duration_seconds_count"] == 2
    assert found["tentacle_script_log_bytes_total"] == 120
    results = {n.partition("result=")[2][:-1]: v for n, v in found.items() if n.startswith("tentacle_scripts_finished")}
    assert results == {
        "success": 1,
        "failure": 1,
        "cancelled": 2,
        "timeout": 1,
        "lost": 1,
        "not_started": 1,
        "fatal": 0,
    }


def test_two_agents_in_one_process_count_for_themselves() -> None:
    one, other = Metrics(lambda: FULL), Metrics(lambda: FULL)
    one.script_began(1.0)
    assert samples(one)["tentacle_script_queue_seconds_count"] == 1
    assert samples(other)["tentacle_script_queue_seconds_count"] == 0


def test_openmetrics_is_spoken_too() -> None:
    text, content_type = Metrics(lambda: FULL).expose("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    families = parse_openmetrics(text.decode())  # type: ignore[no-untyped-call]
    assert {family.name for family in families} > {"tentacle_ready", "tentacle_calls"}


async def test_the_conventions_of_prometheus_are_kept() -> None:
    metrics = Metrics(lambda: FULL)
    metrics.call("IScriptServiceV2", "StartScript", "halibut", "ok", 0.02)
    process = await asyncio.create_subprocess_exec(
        *("promtool", "check", "metrics"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate(metrics.expose()[0])
    assert (process.returncode, said) == (0, b"")
