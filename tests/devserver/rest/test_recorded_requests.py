"""The recorded conversations of the original's command line, played against our server: the same statuses, in order."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.devserver.running_server import KEY, THUMBPRINT, RunningServer, worker_body
from tests.recorded import VECTORS, load_vector

RECORDED = sorted(path.stem for path in VECTORS.glob("rest-*.json"))
WORKER = {"name": "ubuntu worker", "uri": "https://worker1.example.com:20933/"}
HAS_WORKER = {"rest-deregister", "rest-register-again-without-force", "rest-register-force-slug-id-policy"}
CREATED_BEFORE = {"rest-register-polling": 1, "rest-register-target": 2}
"""How many machines the recorded server had numbered before the conversation."""


async def prepare(server: RunningServer, name: str) -> None:
    """What the recorded server had: a second pool, a second policy, workers of earlier conversations."""
    await server.post("/api/Spaces-1/workerpools", {"Name": "Linux", "Slug": "linux-pool"})
    await server.post("/api/Spaces-1/machinepolicies", {"Name": "Slow"})
    for number in range(CREATED_BEFORE.get(name, 0)):
        await server.worker(f"earlier {number}")
    if name in HAS_WORKER:
        await server.worker(**WORKER)


async def play(server: RunningServer, request: dict[str, Any]) -> Any:
    method, path, body = request["method"], request["path"], request["body"]
    more = {} if body is None else {"data": json.dumps(body)}
    response = await server.send(method, path, headers=request["headers"], **more)
    assert response.status == request["status"], f"{request['method']} {request['path']}: {await response.text()}"
    assert response.content_type == "application/json"
    return await response.json()


@pytest.mark.parametrize("name", RECORDED)
async def test_a_recorded_conversation_is_answered_as_it_was(server: RunningServer, name: str) -> None:
    await prepare(server, name)
    for request in load_vector(name)["requests"]:
        if "method" in request:
            answer = await play(server, request)
            check(request, answer)


def check(request: dict[str, Any], answer: Any) -> None:
    """What clients read of the answers."""
    path = request["path"]
    if request["status"] >= 400:
        assert answer["ErrorMessage"]
    elif path == "/api":
        assert answer["ApiVersion"].startswith("3.0.")
        assert answer["Version"].split(".")[0].isdecimal()
    elif path == "/api/users/me":
        assert answer["Links"]["Spaces"] == "/api/users/Users-1/spaces"
    elif path.endswith("/spaces"):
        assert [(s["Name"], s["IsDefault"], s["Links"]["SpaceHome"]) for s in answer] == [
            ("Default", True, "/api/Spaces-1")
        ]
    elif path.endswith("certificate-global"):
        assert len(answer["Thumbprint"]) == 40
    elif request["status"] == 201 or request["headers"].get("X-HTTP-Method-Override") == "PUT":
        assert answer["Links"]["Self"].startswith(path if request["status"] == 200 else f"{path}/")
        for member in ("Name", "SpaceId", "WorkerPoolIds", "EnvironmentIds", "Roles"):
            assert answer.get(member) == request["body"].get(member)
        assert answer["MachinePolicyId"] == (request["body"].get("MachinePolicyId") or "MachinePolicies-1")
        assert answer["Thumbprint"] == request["body"]["Endpoint"]["Thumbprint"]
        assert answer["Endpoint"]["Uri"] == request["body"]["Endpoint"]["Uri"]
        assert (answer["Status"], answer["HealthStatus"]) != ("Online", "Healthy"), "never checked"


async def test_all_of_them_one_after_the_other_on_one_server(server: RunningServer) -> None:
    """In the order in which they were recorded, every id comes out as it did."""
    await server.post("/api/Spaces-1/workerpools", {"Name": "Linux", "Slug": "linux-pool"})
    await server.post("/api/Spaces-1/machinepolicies", {"Name": "Slow"})
    order = [
        "rest-register-listening",
        "rest-register-again-without-force",
        "rest-register-force-slug-id-policy",
        "rest-register-polling",
        "rest-register-no-such-pool",
        "rest-register-wrong-key",
        "rest-register-target",
        "rest-deregister",
        "rest-deregister-not-found",
    ]
    assert sorted(order) == RECORDED
    for name in order:
        for request in load_vector(name)["requests"]:
            if "method" in request:
                await play(server, request)
    assert [w["Name"] for w in await server.get("/api/Spaces-1/workers/all")] == ["polling one"]


async def test_pools_are_found_by_name_slug_and_id_and_not_by_anything_else(server: RunningServer) -> None:
    await prepare(server, "")
    pools = (await server.get("/api/Spaces-1/workerpools"))["Items"]
    assert [(p["Id"], p["Name"], p["Slug"]) for p in pools] == [
        ("WorkerPools-1", "Default Worker Pool", "default-worker-pool"),
        ("WorkerPools-2", "Linux", "linux-pool"),
    ]
    assert [p["Id"] for p in (await server.get("/api/Spaces-1/workerpools?ids=WorkerPools-2"))["Items"]] == [
        "WorkerPools-2"
    ]
    assert (await server.get("/api/Spaces-1/workerpools?ids=Nope"))["Items"] == []


async def test_workers_are_filtered_by_thumbprint_because_the_client_deletes_all_it_gets(server: RunningServer) -> None:
    await server.worker("mine")
    other = worker_body("other")
    other["Endpoint"]["Thumbprint"] = "A" * 40
    await server.post("/api/Spaces-1/workers", other)
    for written in (THUMBPRINT, THUMBPRINT.lower()):
        found = await server.get(f"/api/Spaces-1/workers/all?thumbprint={written}")
        assert [w["Name"] for w in found] == ["mine"]
    assert await server.get(f"/api/Spaces-1/workers/all?thumbprint={'B' * 40}") == []


async def test_only_the_handshake_is_left_out() -> None:
    """The requests that are not played are those to the other port."""
    left_out = [r for name in RECORDED for r in load_vector(name)["requests"] if "method" not in r]
    assert {r["handshake"] for r in left_out} == {"/handshake"}
    assert KEY in {r["headers"].get("X-Octopus-ApiKey") for r in load_vector("rest-deregister")["requests"]}
