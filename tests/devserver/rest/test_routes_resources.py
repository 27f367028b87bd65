"""Everyday clients: the Go SDK, the `octopus` command line, .NET's client, curl (docs/spec/rest.md,
"What everyday clients ask").
"""

from __future__ import annotations

import re

import pytest

from tests.devserver.running_server import POLL, THUMBPRINT, URI, RunningServer, worker_body

WORKER_MEMBERS = frozenset(
    {"Id", "SpaceId", "Name", "WorkerPoolIds", "MachinePolicyId", "IsDisabled", "IsInProcess", "HasLatestCalamari"}
    | {"Status", "HealthStatus", "StatusSummary", "Thumbprint", "Uri", "OperatingSystem", "ShellName", "ShellVersion"}
    | {"Architecture", "Slug", "SkipInitialHealthCheck", "Endpoint", "Links"}
)


@pytest.mark.parametrize("prefix", ["/api/Spaces-1", "/api/spaces/Spaces-1", "/api", "/API/SPACES-1"])
async def test_octopus_worker_list(server: RunningServer, prefix: str) -> None:
    await server.worker("a", WorkerPoolIds=["workerpools-1"])
    (worker,) = await server.get(f"{prefix}/workers/all")
    assert worker["WorkerPoolIds"] == ["WorkerPools-1"]
    assert worker["Endpoint"]["CommunicationStyle"] == "TentaclePassive"
    assert worker["Endpoint"]["TentacleVersionDetails"]["UpgradeLocked"] is False
    (pool,) = await server.get(f"{prefix}/workerpools/all")
    assert pool.keys() >= {"Id", "Name", "WorkerPoolType", "IsDefault", "CanAddWorkers", "Slug"}
    workers = re.sub(r"\{[^}]*\}", "", pool["Links"]["Workers"])
    assert [w["Name"] for w in (await server.get(workers))["Items"]] == ["a"]


async def test_octopus_worker_create_and_delete(server: RunningServer) -> None:
    response = await server.send("POST", "/api/Spaces-1/workers", json=worker_body("made"))
    assert response.status == 201
    made = await response.json()
    assert response.headers["Location"] == made["Links"]["Self"]
    deleted = await server.send("DELETE", f"/api/Spaces-1/workers/{made['Id']}")
    assert deleted.status == 200
    assert (await server.send("GET", made["Links"]["Self"])).status == 404


async def test_a_worker_has_every_member_of_the_specification(server: RunningServer) -> None:
    made = await server.worker("New Worker!", uri=POLL)
    assert made.keys() >= WORKER_MEMBERS
    assert next(iter(made)) == "Id"
    assert list(made)[-1] == "Links"
    assert (made["Slug"], made["Uri"], made["Thumbprint"]) == ("new-worker", POLL, THUMBPRINT)
    assert (made["Status"], made["HealthStatus"]) == ("Unknown", "Unknown")
    assert "ProxyId" not in made["Endpoint"]


async def test_numbers_are_never_given_twice(server: RunningServer) -> None:
    first = await server.worker("a")
    await server.send("DELETE", first["Links"]["Self"])
    assert (await server.worker("a"))["Id"] == "Workers-2"


async def test_update_keeps_what_is_not_said_and_ignores_what_clients_may_not_set(server: RunningServer) -> None:
    made = await server.worker("w")
    after = await server.put(made["Links"]["Self"], {"Name": "v", "HealthStatus": "Healthy", "Id": "Workers-9"})
    assert (after["Id"], after["Name"], after["HealthStatus"]) == ("Workers-1", "v", "Unknown")
    assert after["Endpoint"]["Uri"] == URI


async def test_pages_follow_each_other_and_end(server: RunningServer) -> None:
    for number in range(7):
        await server.post("/api/Spaces-1/environments", {"Name": f"e{number}"})
    path, names = "/api/Spaces-1/environments?take=3&partialName=E", []
    while path:
        page = await server.get(path)
        assert len(page["Items"]) <= 3
        names += [e["Name"] for e in page["Items"]]
        path = page["Links"].get("Page.Next")
    # "Dev" has an e too: filters are kept from page to page.
    assert names == ["Dev", *(f"e{number}" for number in range(7))]
    assert (page["TotalResults"], page["NumberOfPages"], page["LastPageNumber"]) == (8, 3, 2)
    everything = await server.get("/api/Spaces-1/environments?skip=0&take=2147483647")
    assert len(everything["Items"]) == 8
    assert "Page.Next" not in everything["Links"]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("name=ONE", ["one"]),
        ("name=on", []),
        ("partialName=o", ["one", "two"]),
        ("ids=workers-1,Workers-3", ["one", "three"]),
        ("commStyles=TentacleActive", ["two"]),
        ("isDisabled=true", ["three"]),
        ("healthStatuses=Healthy", []),
        ("healthStatuses=Healthy,Unknown", ["one", "two", "three"]),
        ("workerpoolIds=WorkerPools-2", ["three"]),
        ("whatever=x", ["one", "two", "three"]),
    ],
)
async def test_filters_of_workers(server: RunningServer, query: str, names: list[str]) -> None:
    await server.post("/api/Spaces-1/workerpools", {"Name": "Second"})
    await server.worker("one")
    await server.worker("two", uri=POLL)
    await server.worker("three", IsDisabled=True, WorkerPoolIds=["WorkerPools-2"])
    assert [w["Name"] for w in await server.get(f"/api/Spaces-1/workers/all?{query}")] == names


async def test_the_default_policy_is_what_the_specification_shows(server: RunningServer) -> None:
    (policy,) = await server.get("/api/Spaces-1/machinepolicies/all")
    assert policy["Name"] == "Default Machine Policy"
    assert policy["IsDefault"] is True
    assert policy["MachineRpcCallRetryPolicy"]["RetryDuration"] == "00:02:30"
    assert policy["ConnectionRetryCountLimit"] >= 2
    template = await server.get("/api/Spaces-1/machinepolicies/template")
    assert template["MachineHealthCheckPolicy"] == policy["MachineHealthCheckPolicy"]


async def test_a_policy_is_changed_in_part(server: RunningServer) -> None:
    part = {"MachineHealthCheckPolicy": {"healthCheckInterval": "1.00:00:00"}}
    after = await server.put("/api/Spaces-1/machinepolicies/MachinePolicies-1", part)
    assert after["MachineHealthCheckPolicy"]["HealthCheckInterval"] == "1.00:00:00"
    assert after["MachineHealthCheckPolicy"]["HealthCheckType"] == "RunScript"
    assert after["Name"] == "Default Machine Policy"


async def test_environments_pools_tenants_tags_and_spaces_are_made_by_post(server: RunningServer) -> None:
    tags = await server.post("/api/Spaces-1/tagsets", {"Name": "Customer Type", "Tags": [{"Name": "VIP"}]})
    assert [t["CanonicalTagName"] for t in tags["Tags"]] == ["Customer Type/VIP"]
    tenant = await server.post("/api/Spaces-1/tenants", {"Name": "Acme", "TenantTags": ["Customer Type/VIP"]})
    assert tenant["Slug"] == "acme"
    space = await server.post("/api/spaces", {"Name": "Second"})
    assert space["Links"]["SpaceHome"] == "/api/Spaces-2"
    assert [p["IsDefault"] for p in await server.get("/api/Spaces-2/workerpools/all")] == [True]
    assert await server.get("/api/Spaces-2/workers/all") == []


async def test_what_is_used_or_default_is_not_deleted(server: RunningServer) -> None:
    pool = await server.post("/api/Spaces-1/workerpools", {"Name": "P"})
    worker = await server.worker("w", WorkerPoolIds=[pool["Id"]])
    used = await server.send("DELETE", pool["Links"]["Self"])
    assert used.status == 400
    assert "still used by w" in (await used.json())["ErrorMessage"]
    assert (await server.send("DELETE", "/api/Spaces-1/workerpools/WorkerPools-1")).status == 400
    await server.send("DELETE", worker["Links"]["Self"])
    assert (await server.send("DELETE", pool["Links"]["Self"])).status == 200


async def test_a_proxy_is_named_in_any_case_and_is_not_deleted_while_it_is_used(server: RunningServer) -> None:
    proxy = await server.post("/api/Spaces-1/proxies", {"Name": "px", "Host": "h"})
    endpoint = {**worker_body()["Endpoint"], "ProxyId": "proxies-1"}
    worker = await server.worker("w", Endpoint=endpoint)
    assert worker["Endpoint"]["ProxyId"] == "Proxies-1"
    assert (await server.send("DELETE", proxy["Links"]["Self"])).status == 400


async def test_another_pool_becomes_the_default(server: RunningServer) -> None:
    made = await server.post("/api/Spaces-1/workerpools", {"Name": "P", "IsDefault": True})
    assert made["IsDefault"] is True
    pools = await server.get("/api/Spaces-1/workerpools/all")
    assert [p["IsDefault"] for p in pools] == [False, True]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"Name": ""}, "Name must not be empty"),
        ({"Name": None}, "Name must be given"),
        ({"WorkerPoolIds": []}, "WorkerPoolIds must name at least one"),
        ({"WorkerPoolIds": ["WorkerPools-9"]}, "The worker pool 'WorkerPools-9' does not exist"),
        ({"MachinePolicyId": "MachinePolicies-9"}, "The machine policy 'MachinePolicies-9' does not exist"),
        ({"Endpoint": None}, "Endpoint must be given"),
        ({"Endpoint": {"CommunicationStyle": "Carrier pigeon"}}, "CommunicationStyle"),
        ({"Endpoint": {"CommunicationStyle": "TentaclePassive", "Thumbprint": "A" * 40, "Uri": POLL}}, "Uri must be"),
        ({"Endpoint": {"CommunicationStyle": "TentacleActive", "Thumbprint": "A" * 40, "Uri": URI}}, "Uri must be"),
        ({"Endpoint": {"CommunicationStyle": "TentacleActive", "Thumbprint": " ", "Uri": POLL}}, "Thumbprint must not"),
        ({"IsDisabled": "maybe"}, "IsDisabled must be true or false"),
    ],
)
async def test_a_wrong_worker_is_refused_with_a_reason(server: RunningServer, change: object, complaint: str) -> None:
    assert isinstance(change, dict)
    response = await server.send("POST", "/api/Spaces-1/workers", json={**worker_body(), **change})
    assert response.status == 400
    assert any(complaint in entry for entry in (await response.json())["Errors"])


async def test_a_name_is_taken_whatever_its_case(server: RunningServer) -> None:
    await server.worker("Worker")
    refused = await server.send("POST", "/api/Spaces-1/workers", json=worker_body("WORKER"))
    assert refused.status == 400
    assert "already used" in (await refused.json())["Errors"][0]


async def test_a_kubernetes_agent_is_kept_as_it_registers(server: RunningServer) -> None:
    endpoint = {
        "CommunicationStyle": "KubernetesTentacle",
        "TentacleEndpointConfiguration": {"CommunicationMode": "Polling", "Thumbprint": "b" * 40, "Uri": POLL},
        "DefaultNamespace": "ns",
    }
    made = await server.worker("k", Endpoint=endpoint)
    assert made["Endpoint"]["TentacleEndpointConfiguration"]["Uri"] == POLL
    assert made["Thumbprint"] == "B" * 40
    assert [e.uri for e in server.comms.trusted] == [POLL]


async def test_a_polling_worker_is_trusted_from_registration_to_deletion(server: RunningServer) -> None:
    made = await server.worker("p", uri=POLL)
    assert {(e.uri, e.thumbprint) for e in server.comms.trusted} == {(POLL, THUMBPRINT)}
    moved = worker_body("p", uri=POLL)
    moved["Endpoint"]["Thumbprint"] = "C" * 40
    await server.put(made["Links"]["Self"], moved)
    assert {e.thumbprint for e in server.comms.trusted} == {"C" * 40}
    await server.send("DELETE", made["Links"]["Self"])
    assert not server.comms.trusted


async def test_kinds_are_told_apart_by_their_ids(server: RunningServer) -> None:
    await server.worker("w")
    assert (await server.send("GET", "/api/Spaces-1/machines/Workers-1")).status == 404
    assert (await server.send("GET", "/api/Spaces-1/workers/WorkerPools-1")).status == 404


async def test_other_spaces_do_not_see_a_worker(server: RunningServer) -> None:
    await server.worker("w")
    await server.post("/api/spaces", {"Name": "Second"})
    assert (await server.send("GET", "/api/Spaces-2/workers/Workers-1")).status == 404
    assert (await server.send("DELETE", "/api/Spaces-2/workers/Workers-1")).status == 404
    assert (await server.send("GET", "/api/Spaces-9/workers")).status == 404


async def test_the_order_of_pools_is_the_order_in_which_they_are_listed(server: RunningServer) -> None:
    await server.post("/api/Spaces-1/workerpools", {"Name": "P"})
    await server.worker("w")
    sort = await server.send("PUT", "/api/Spaces-1/workerpools/sortorder", json=["WorkerPools-2", "WorkerPools-1"])
    assert sort.status == 200
    for listed in (await server.get("/api/workerpools/all"), (await server.get("/api/workerpools"))["Items"]):
        assert [(p["Id"], p["SortOrder"]) for p in listed] == [("WorkerPools-2", 0), ("WorkerPools-1", 1)]
    assert await server.get("/api/workerpools/sortorder") == ["WorkerPools-2", "WorkerPools-1"]
