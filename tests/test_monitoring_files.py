"""The dashboard and the alert rules: what they ask for exists, and each rule fires when it should."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families as parse

from tentacle.observe.metrics import Metrics
from tentacle.observe.readings import AgentReading, ListenerReading, ServerReading
from tentacle.transport.errors import REASONS

MONITORING = Path(__file__).parent.parent / "packaging" / "monitoring"
ALERTS = MONITORING / "alerts.yml"
DOCUMENT = Path(__file__).parent.parent / "docs" / "monitoring.md"
OWN = re.compile(r"\b(?:tentacle|process)_[a-z_]+")
SELECTED = re.compile(r'(\w+)\s*(?:=~|!=|=)\s*"([^"$]+)"')


def metrics() -> Metrics:
    """With a series of everything."""
    reading = AgentReading(
        "1.0",
        1.0,
        called=1.0,
        certificate_ends=1.0,
        disk_free=1,
        disk_needed=1,
        servers=(ServerReading("https://a:1/", 1, 1, 1, dict.fromkeys(REASONS, 1)),),
        listener=ListenerReading(1, 1, 1, {"untrusted": 1, "no_certificate": 1}),
    )
    made = Metrics(lambda: reading)
    for result in ("ok", "failed", "refused", "draining", "stopping", "bad_request", "not_found"):
        made.call("IScriptServiceV2", "StartScript", "halibut", result, 0.1)
    return made


def known() -> tuple[set[str], set[tuple[str, str]]]:
    """All names of samples, and all labels with a value that they have."""
    families = list(parse(metrics().expose()[0].decode()))
    samples = [one for family in families for one in family.samples]
    return {one.name for one in samples}, {pair for one in samples for pair in one.labels.items()}


def expressions() -> Iterator[tuple[str, str]]:
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        yield from ((rule["alert"], rule["expr"]) for rule in group["rules"])
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])
    yield from ((one["name"], one["query"]) for one in dashboard["templating"]["list"])


def test_what_is_asked_for_exists() -> None:
    names, labels = known()
    for title, expression in expressions():
        assert set(OWN.findall(expression)) <= names, f"{title} asks for what there is not"
        for label, values in SELECTED.findall(expression):
            if label not in ("job", "instance"):
                assert {(label, value) for value in values.split("|")} <= labels, f"{title}: {label} is never {values}"


def test_every_metric_is_documented_and_every_documented_one_exists() -> None:
    names = {re.sub(r"_(bucket|count|sum)$", "", name) for name in known()[0]}
    documented = set(OWN.findall(DOCUMENT.read_text()))
    assert {name for name in names if name.startswith("tentacle_")} <= documented
    assert documented <= names


def test_the_dashboard_can_be_imported() -> None:
    dashboard: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
    places = [tuple(panel["gridPos"][key] for key in "xywh") for panel in dashboard["panels"]]
    assert all(x + w <= 24 for x, _, w, _ in places)
    for number, (x, y, w, h) in enumerate(places):
        for a, b, c, d in places[number + 1 :]:
            assert x + w <= a or a + c <= x or y + h <= b or b + d <= y, "two panels lie one over the other"
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(places)


def test_prometheus_takes_the_rules() -> None:
    subprocess.run(["promtool", "check", "rules", str(ALERTS)], check=True, capture_output=True)


FIRES: list[tuple[str, dict[str, str], int]] = [
    ("TentacleDown", {'up{job="tentacle", instance="a"}': "0x200"}, 3),
    ("TentacleNotReady", {"tentacle_ready": "0x200", "tentacle_draining": "0x200"}, 6),
    ("TentacleDrainedForLong", {"tentacle_draining": "1x2000", "tentacle_ready": "0x2000"}, 1500),
    (
        "TentaclePollingDown",
        {
            'tentacle_polling_connections_up{server="s"}': "0x200",
            'tentacle_polling_connections_wanted{server="s"}': "2x200",
        },
        6,
    ),
    ("TentaclePollingUnsteady", {'tentacle_polling_reconnects_total{server="s"}': "0+1x200"}, 61),
    ("TentacleStrangers", {'tentacle_handshake_failures_total{reason="untrusted"}': "0+10x200"}, 20),
    ("TentacleDiskFull", {"tentacle_disk_free_bytes": "9x200", "tentacle_disk_needed_bytes": "10x200"}, 1),
    ("TentacleDiskFillsUp", {"tentacle_disk_free_bytes": "39x200", "tentacle_disk_needed_bytes": "10x200"}, 11),
    ("TentacleCertificateExpires", {"tentacle_certificate_expiry_timestamp_seconds": "86400x200"}, 61),
    ("TentacleResultsNotFetched", {"tentacle_oldest_undelivered_result_age_seconds": "3601x200"}, 6),
    ("TentacleScriptsLost", {'tentacle_scripts_finished_total{result="lost"}': "0+1x200"}, 10),
    ("TentacleScriptsWait", {'tentacle_scripts{state="waiting"}': "1x200"}, 61),
    (
        "TentacleCallsFail",
        {
            'tentacle_calls_total{service="S", method="M", result="failed"}': "0+1x200",
            'tentacle_calls_total{service="S", method="M", result="ok"}': "0+3x200",
        },
        31,
    ),
    ("TentaclePolicyRefuses", {'tentacle_calls_total{result="refused"}': "0+1x200"}, 10),
    ("TentaclePolicyBroken", {"tentacle_policy_broken": "1x200"}, 1),
    ("TentacleAuditFails", {"tentacle_audit_failures_total": "0+1x200"}, 10),
]


@pytest.mark.parametrize(("alert", "series", "minutes"), FIRES)
def test_a_rule_fires(alert: str, series: dict[str, str], minutes: int, tmp_path: Path) -> None:
    """By Prometheus' own test runner: it fires at that minute, and with healthy series it does not."""
    healthy = {name: _healthy(name) for name in series}
    for values, count in ((series, 1), (healthy, 0)):
        given = [{"series": name, "values": value} for name, value in values.items()]
        query = f'count(ALERTS{{alertname="{alert}", alertstate="firing"}}) or vector(0)'
        test = {
            "rule_files": [str(ALERTS)],
            "evaluation_interval": "1m",
            "tests": [
                {
                    "interval": "1m",
                    "input_series": given,
                    "promql_expr_test": [
                        {"expr": query, "eval_time": f"{minutes}m", "exp_samples": [{"labels": "{}", "value": count}]}
                    ],
                }
            ],
        }
        path = tmp_path / "test.yml"
        path.write_text(yaml.safe_dump(test))
        done = subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def _healthy(name: str) -> str:
    """Values of a series of an agent that is well."""
    if name.startswith(("up{", "tentacle_ready", "tentacle_polling_connections_up")):
        return "2x2000" if "connections" in name else "1x2000"
    if "_total" in name:
        return "0+10x2000" if 'result="ok"' in name else "0x2000"
    if "expiry" in name or name.endswith("free_bytes"):
        return "1e12x2000"
    return "2x2000" if name.endswith(("wanted", "needed_bytes")) or "wanted" in name else "0x2000"


def test_every_rule_is_tested() -> None:
    rules = [rule["alert"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    assert sorted(alert for alert, _, _ in FIRES) == sorted(rules)
