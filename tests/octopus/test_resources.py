"""Addresses as .NET writes them, and bodies as the original's client sends them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.octopus.errors import InvalidAddress
from tentacle.octopus.json_document import JsonDocument
from tentacle.octopus.resources import (
    ListeningEndpoint,
    Machine,
    PollingEndpoint,
    TargetMembership,
    WorkerMembership,
    create_body,
    has_thumbprint,
    listening_uri,
    subscription_uri,
    update_body,
)
from tests.recorded import VECTORS


def recorded_body(name: str) -> Any:
    recorded = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    return next(request["body"] for request in recorded["requests"] if request.get("body"))


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [
        ("worker1.example.com", 20933, "https://worker1.example.com:20933/"),
        ("VM", 10933, "https://vm:10933/"),
        (" vm ", 443, "https://vm/"),
        ("10.0.0.1", 80, "https://10.0.0.1:80/"),
        ("2001:DB8::0:1", 10933, "https://[2001:db8::1]:10933/"),
        ("[::1]", 443, "https://[::1]/"),
        ("Bücher.example", 1, "https://bücher.example:1/"),
        ("under_score", 65535, "https://under_score:65535/"),
    ],
)
def test_listening_addresses(host: str, port: int, expected: str) -> None:
    assert listening_uri(host, port) == expected


@pytest.mark.parametrize(
    "host", ["", "https://h", "h:1", "h/x", "me@h", "a b", "h?", "[vm]", "::g", "h%0d", "h\r\nX: y", "h\u202e"]
)
def test_what_is_no_host(host: str) -> None:
    with pytest.raises(InvalidAddress):
        listening_uri(host, 10933)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_what_is_no_port(port: int) -> None:
    with pytest.raises(InvalidAddress, match=str(port)):
        listening_uri("h", port)


@given(st.text(), st.integers(1, 65535))
def test_any_text_is_a_host_or_none(host: str, port: int) -> None:
    try:
        uri = listening_uri(host, port)
    except InvalidAddress:
        return
    assert uri.startswith("https://")
    assert uri.count("/") == 3
    assert uri.isprintable()
    assert " " not in uri


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("poll://pdbr32fdrb3hqumtfbhh/", "poll://pdbr32fdrb3hqumtfbhh/"),
        ("POLL://FooBar", "poll://foobar/"),
        ("poll://a/B", "poll://a/B"),
    ],
)
def test_subscriptions(given_: str, expected: str) -> None:
    assert subscription_uri(given_) == expected


@pytest.mark.parametrize("given_", ["", "https://x/", "poll:x", "poll:///", "poll://a b/"])
def test_what_is_no_subscription(given_: str) -> None:
    with pytest.raises(InvalidAddress):
        subscription_uri(given_)


def test_recorded_bodies() -> None:
    thumbprint = "78565D222B645F48598D42DD56934802C98BB16F"
    listening = ListeningEndpoint(thumbprint, listening_uri("worker1.example.com", 20933))
    worker = Machine("ubuntu worker", "Spaces-1", listening, WorkerMembership(("WorkerPools-2",)))
    assert json.dumps(create_body(worker)) == json.dumps(recorded_body("rest-register-listening"))
    polling = PollingEndpoint("DA3A67658304BE947BA96FEEF7A6A2A337922180", "poll://PDBR32FDRB3HQUMTFBHH")
    worker = Machine("polling one", "Spaces-1", polling, WorkerMembership(("WorkerPools-1", "workerpools-1")))
    assert json.dumps(create_body(worker)) == json.dumps(recorded_body("rest-register-polling"))
    vm = ListeningEndpoint(thumbprint, listening_uri("vm", 20933))
    target = Machine("target", "Spaces-1", vm, TargetMembership(("Environments-1",), ("web", "Web")))
    assert json.dumps(create_body(target)) == json.dumps(recorded_body("rest-register-target"))


def test_an_update_keeps_what_the_original_knows_and_drops_the_rest() -> None:
    existing = {
        "LastModifiedBy": "me",
        "LastModifiedOn": "2024-01-02T03:04:05.678+00:00",
        "Links": {"Self": "/s", "Connection": "/c", "Bad": 1},
        "Id": "Workers-1",
        "SpaceId": None,
        "MachinePolicyId": "MachinePolicies-7",
        "IsDisabled": True,
        "SkipInitialHealthCheck": True,
        "Status": "Disabled",
        "ShellName": "Bash",
        "New": 1,
        "Name": "old",
    }
    endpoint = PollingEndpoint("AB", "poll://x/")
    machine = Machine("new", "Spaces-1", endpoint, WorkerMembership(("WorkerPools-1",)))
    body = update_body(machine, JsonDocument(existing, "/s"))
    assert next(iter(body)) == "Id"
    assert list(body)[-3:] == ["LastModifiedOn", "LastModifiedBy", "Links"]
    assert "New" not in body
    assert body["Links"] == {"Self": "/s", "Connection": "/c"}
    assert (body["Name"], body["SpaceId"], body["MachinePolicyId"]) == ("new", None, "MachinePolicies-7")
    assert (body["IsDisabled"], body["Status"], body["HealthStatus"], body["ShellName"]) == (
        True,
        "Disabled",
        "Healthy",
        "Bash",
    )


@pytest.mark.parametrize(
    ("machine", "ours"),
    [
        ({"Endpoint": {"Thumbprint": "ab"}}, True),
        ({"Endpoint": {"Thumbprint": "CD"}, "Thumbprint": "AB"}, False),
        ({"Endpoint": {"TentacleEndpointConfiguration": {"Thumbprint": "AB"}}}, True),
        ({"Thumbprint": "AB"}, True),
        ({"Endpoint": {"Thumbprint": ""}}, False),
        ({"Endpoint": None}, False),
        ({"Endpoint": {"Thumbprint": ["AB"]}}, False),
    ],
)
def test_whose_machine_it_is(machine: dict[str, object], ours: bool) -> None:
    assert has_thumbprint(JsonDocument(machine, "/x"), "AB") is ours


def test_nothing_has_an_empty_thumbprint() -> None:
    assert not has_thumbprint(JsonDocument({"Endpoint": {"Thumbprint": ""}}, "/x"), "")
