"""Requests of foreign clients, as their sources make them: the Go SDK and its own tests, Terraform, .NET, npm, curl."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from tests.devserver.running_server import KEY, Json, RunningServer, worker_body
from tests.pki import identity, pem

SPACE = "/api/Spaces-1"


@pytest.mark.parametrize(
    ("kind", "body", "change"),
    [
        ("users", {"Username": "go user", "DisplayName": "D", "IsService": True}, {"DisplayName": "E"}),
        ("teams", {"Name": "T", "Description": "d", "MemberUserIds": []}, {"Name": "U"}),
        ("userroles", {"Name": "R", "GrantedSpacePermissions": ["ProjectView"]}, {"Description": "r"}),
        ("spaces", {"Name": "S", "SpaceManagersTeamMembers": ["Users-1"]}, {"TaskQueueStopped": True}),
        ("Spaces-1/lifecycles", {"Name": "L", "Phases": []}, {"Description": "l"}),
        ("Spaces-1/workerpools", {"Name": "P", "WorkerPoolType": "StaticWorkerPool"}, {"Name": "Q"}),
        (
            "Spaces-1/workerpools",
            {"Name": "P", "WorkerPoolType": "DynamicWorkerPool", "WorkerType": "Ubuntu2204"},
            {"WorkerType": "UbuntuDefault"},
        ),
        ("Spaces-1/accounts", {"Name": "A", "AccountType": "UsernamePassword", "Username": "u"}, {"Username": "v"}),
        (
            "Spaces-1/accounts",
            {"Name": "A", "AccountType": "AmazonWebServicesAccount", "AccessKey": "k", "SecretKey": {"NewValue": "s"}},
            {"AccessKey": "l"},
        ),
        (
            "Spaces-1/machines",
            {
                "Name": "M",
                "EnvironmentIds": ["Environments-1"],
                "Roles": ["Prod"],
                "IsDisabled": True,
                "MachinePolicyId": "MachinePolicies-1",
                "Endpoint": {
                    "CommunicationStyle": "OfflineDrop",
                    "ApplicationsDirectory": "C:\\Applications",
                    "Destination": {"DestinationType": "Artifact"},
                },
            },
            {"Name": "N"},
        ),
    ],
)
async def test_what_is_made_is_found_changed_and_deleted(
    server: RunningServer, kind: str, body: dict[str, Any], change: dict[str, Any]
) -> None:
    made = await server.post(f"/api/{kind}", body)
    path = made["Links"]["Self"]
    assert await server.get(path) == made
    assert made in await server.get(f"/api/{kind}/all")
    listed = await server.get(f"/api/{kind}?ids={made['Id']}&take=1")
    assert listed["Items"] == [made]
    changed = await server.put(path, {**made, **change})
    assert {name: changed[name] for name in change} == change
    for name in body.keys() - change.keys():
        assert changed[name] == made[name], name
    assert (await server.send("DELETE", path)).status == 200
    assert (await server.send("GET", path)).status == 404
    assert (await server.send("DELETE", path)).status == 404


async def test_scoped_roles_are_found_by_their_team(server: RunningServer) -> None:
    team = await server.post("/api/teams", {"Name": "T"})
    role = await server.post("/api/userroles", {"Name": "R"})
    grant = {"TeamId": team["Id"], "UserRoleId": role["Id"], "SpaceId": "Spaces-1", "EnvironmentIds": []}
    made = await server.post("/api/scopeduserroles", grant)
    assert await server.get(f"{SPACE}/scopeduserroles/{made['Id']}") == made
    link = team["Links"]["ScopedUserRoles"].partition("{")[0]
    assert (await server.get(f"{link}?take=1"))["Items"] == [made]
    assert (await server.send("DELETE", role["Links"]["Self"])).status == 400, "a team holds it"
    assert (await server.send("DELETE", team["Links"]["Self"])).status == 200
    assert (await server.send("GET", made["Links"]["Self"])).status == 404
    assert {team["Id"] for team in await server.get("/api/teams/all")} == {"teams-administrators", "teams-everyone"}


async def test_secrets_are_kept_shown_to_nobody_and_not_lost_when_a_document_is_put_back(server: RunningServer) -> None:
    proxy = await server.post(f"{SPACE}/proxies", {"Name": "P", "Host": "h", "Password": {"NewValue": "hidden-1"}})
    account = await server.post(f"{SPACE}/accounts", {"Name": "A", "AccountType": "Token", "Token": "hidden-2"})
    endpoint = {"CommunicationStyle": "Kubernetes", "Authentication": {"Token": {"NewValue": "hidden-3"}}}
    target = {"Name": "M", "EnvironmentIds": ["dev"], "Roles": ["r"], "Endpoint": endpoint, "IsDisabled": True}
    machine = await server.post(f"{SPACE}/machines", target)
    for made, shown in (
        (proxy, proxy["Password"]),
        (account, account["Token"]),
        (machine, machine["Endpoint"]["Authentication"]["Token"]),
    ):
        assert shown == {"HasValue": True, "NewValue": None, "Hint": None}
        assert await server.put(made["Links"]["Self"], made) == made
        assert "hidden" not in str(await server.get(made["Links"]["Self"]))
    store = server.up.server.store
    (kept,) = [
        r
        for r in await store._resources("SELECT kind, id, space, name, body, observed FROM resource")
        if r.id == "Proxies-1"
    ]
    assert kept.body["Password"] == "hidden-1"
    assert "hidden" not in repr(kept)
    cleared = await server.put(proxy["Links"]["Self"], {**proxy, "Password": {"HasValue": False, "NewValue": None}})
    assert cleared["Password"]["HasValue"] is False


async def test_a_machine_without_a_policy_has_the_default_one(server: RunningServer) -> None:
    without: tuple[Json, ...] = ({}, {"MachinePolicyId": None}, {"MachinePolicyId": ""})
    for number, given in enumerate(without):
        assert (await server.worker(f"w{number}", **given))["MachinePolicyId"] == "MachinePolicies-1"


async def test_the_health_check_of_a_cloud_target_runs_on_a_worker_of_its_pool(ready: RunningServer) -> None:
    await ready.post(f"{SPACE}/workerpools", {"Name": "Empty"})
    for pool, expected, reason in (
        (None, "Healthy", "The machine runs scripts."),
        ("WorkerPools-1", "Healthy", "The machine runs scripts."),
        ("empty", "Unavailable", "'T2' has no agent, and its worker pool 'WorkerPools-2' has no worker for it."),
    ):
        endpoint = {
            "CommunicationStyle": "Kubernetes",
            "ClusterUrl": "https://k8s.example",
            "DefaultWorkerPoolId": pool,
        }
        number = len(await ready.get(f"{SPACE}/machines/all"))
        target = {"Name": f"T{number}", "EnvironmentIds": ["dev"], "Roles": ["r"], "Endpoint": endpoint}
        made = await ready.post(f"{SPACE}/machines", target)
        assert made["Endpoint"]["DefaultWorkerPoolId"] == (pool and pool.replace("empty", "WorkerPools-2"))
        assert made["Endpoint"]["ClusterUrl"] == "https://k8s.example"
        await ready.idle()
        checked = await ready.get(made["Links"]["Self"])
        assert (checked["HealthStatus"], checked["StatusSummary"]) == (expected, reason)
    refused = {**target, "Endpoint": {**endpoint, "DefaultWorkerPoolId": "WorkerPools-9"}}
    assert (await ready.send("POST", f"{SPACE}/machines", json=refused)).status == 400
    used = await ready.send("DELETE", f"{SPACE}/workerpools/WorkerPools-2")
    assert "still used by T2" in await used.text()


async def test_slugs_stand_in_for_ids(server: RunningServer) -> None:
    pool = await server.post(f"{SPACE}/workerpools", {"Name": "My Pool", "Slug": "fast"})
    assert await server.get(f"{SPACE}/workerpools/fast") == pool
    assert await server.get("/api/spaces/default/workerpools/FAST") == pool
    made = await server.worker("w", WorkerPoolIds=["fast", "default-worker-pool"])
    assert made["WorkerPoolIds"] == ["WorkerPools-2", "WorkerPools-1"]
    assert (await server.send("GET", "/api/spaces/nothing/workerpools")).status == 404


async def test_pools_and_environments_are_summed_up_by_what_is_asked_for(server: RunningServer) -> None:
    await server.post(f"{SPACE}/workerpools", {"Name": "Empty"})
    for name, disabled in (("a", False), ("b", True), ("ab", False)):
        await server.worker(name, IsDisabled=disabled)
    await server.up.server.store.observe(
        (await server.up.server.machines.in_space("Spaces-1"))[0], {"HealthStatus": "Healthy", "ShellName": "Bash"}
    )
    path = f"{SPACE}/workerpools/summary"
    whole = await server.get(path)
    assert {
        name: whole[name] for name in whole if name not in ("WorkerPoolSummaries", "MachineHealthStatusSummaries")
    } == {
        "TotalMachines": 3,
        "TotalDisabledMachines": 1,
        "MachineEndpointSummaries": {"TentaclePassive": 3},
        "TentacleUpgradesRequired": False,
        "MachineIdsForCalamariUpgrade": [],
        "MachineIdsForTentacleUpgrade": [],
        "Links": {},
    }
    health = whole["MachineHealthStatusSummaries"]
    assert (health["Healthy"], health["Unknown"], health["Unavailable"]) == (1, 2, 0)
    assert [(s["WorkerPool"]["Name"], s["TotalMachines"]) for s in whole["WorkerPoolSummaries"]] == [
        ("Default Worker Pool", 3),
        ("Empty", 0),
    ]
    for query, expected in {
        "ids=WorkerPools-2": [0],
        "partialName=emp": [0],
        "hideEmptyWorkerPools=true": [3],
        "hideEmptyPools=True": [3],
        "machinePartialName=a": [2, 0],
        "isDisabled=true": [1, 0],
        "isDisabled=False": [2, 0],
        "healthStatuses=Healthy": [1, 0],
        "commStyles=TentacleActive": [0, 0],
        "shellNames=Bash": [1, 0],
    }.items():
        found = await server.get(f"{path}?{query}")
        assert [s["TotalMachines"] for s in found["WorkerPoolSummaries"]] == expected, query
    (summary,) = (await server.get(f"{SPACE}/environments/summary"))["EnvironmentSummaries"]
    assert (summary["Environment"]["Name"], summary["TotalMachines"], summary["MachineTenantSummaries"]) == (
        "Dev",
        0,
        {},
    )


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", 2),
        ("project=Projects-1", 0),
        ("tenant=Tenants-1", 0),
        ("environment=Environments-1", 1),
        ("environment=Environments-2", 0),
        ("node=OctopusServerNodes-1", 2),
        ("node=other", 0),
        ("partialName=scripts", 0),
        ("partialName=everywhere", 1),
        ("hasPendingInterruptions=true", 0),
        ("hasPendingInterruptions=false", 2),
        ("hasWarningsOrErrors=true", 1),
        ("hasWarningsOrErrors=false", 1),
        ("spaces=all", 2),
        ("spaces=Spaces-2", 0),
        ("active=true", 0),
        ("states=Failed,Canceled", 1),
    ],
)
async def test_tasks_are_filtered_by_all_that_their_link_names(ready: RunningServer, query: str, expected: int) -> None:
    await ready.ended(await ready.script("exit 3", "Workers-1"))
    more = {"Description": "Everywhere", "Arguments": {"EnvironmentId": "Environments-1", "MachineIds": ["Workers-1"]}}
    await ready.ended(await ready.post("/api/tasks", {"Name": "Health", **more}))
    page = await ready.get(f"/api/tasks?{query}")
    assert (page["TotalResults"], sum(page["TotalCounts"].values())) == (expected, expected)
    assert page["TotalCounts"].keys() >= {"Queued", "Executing", "Failed", "Success"}


async def test_the_state_of_an_ended_task_is_corrected_and_no_other(ready: RunningServer) -> None:
    task = await ready.ended(await ready.script("exit 3", "Workers-1"))
    await ready.post(task["Links"]["State"], {"state": "Success", "reason": "it was fine"}, 200)
    after = await ready.get(task["Links"]["Self"])
    assert (after["State"], after["FinishedSuccessfully"], after["ErrorMessage"]) == ("Success", True, "it was fine")
    for state in ("Executing", "Nonsense"):
        assert (await ready.send("POST", task["Links"]["State"], json={"State": state})).status == 400


async def test_a_task_with_priority_goes_before_those_that_wait(ready: RunningServer) -> None:
    queue = ready.up.server.queue
    slots = queue._slots
    assert type(slots) is type(queue._cap), "the cap of all tasks has priorities too"
    for number in range(10):
        await slots.acquire("Workers-1", number)
    order: list[int] = []

    async def wait(number: int) -> None:
        await slots.acquire("Workers-1", number)
        order.append(number)
        slots.release("Workers-1")

    waiting = [asyncio.create_task(wait(number)) for number in (11, 12, 13)]
    gone = asyncio.create_task(wait(14))
    await asyncio.sleep(0)
    gone.cancel()
    queue.prioritize(13)
    for _ in range(10):
        slots.release("Workers-1")
    await asyncio.gather(*waiting)
    assert order == [13, 11, 12]
    task = await ready.ended(await ready.script("true", "Workers-1"))
    assert (await ready.send("POST", task["Links"]["Prioritize"])).status == 200


async def test_the_raw_log_names_the_worker_before_its_lines(ready: RunningServer) -> None:
    await ready.worker("second")
    task = await ready.ended(await ready.script("echo from it", "Workers-1", "Workers-2"))
    raw = await ready.raw(task)
    for name in ("w", "second"):
        after = raw[raw.index(f"== Run script on {name} ==") :]
        assert "from it" in after
    assert "==" not in await ready.raw(task, "?plain=true")


async def test_a_task_is_in_the_space_that_its_document_names(server: RunningServer) -> None:
    await server.post("/api/spaces", {"Name": "Second"})
    task = await server.post("/api/tasks", {"Name": "Health", "Arguments": {}, "SpaceId": "Spaces-2"})
    assert task["SpaceId"] == "Spaces-2"
    await server.put("/api/spaces/Spaces-2", {"TaskQueueStopped": True})
    refused = await server.send("POST", "/api/Spaces-2/tasks", json={"Name": "Health", "Arguments": {}})
    assert refused.status == 400
    await server.idle()


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({}, f"apikey={KEY}"),
        ({}, f"ApiKey={KEY}&take=1"),
        ({"X-NuGet-ApiKey": KEY}, ""),
        ({"x-octopus-apikey": KEY}, ""),
    ],
)
async def test_a_key_comes_in_a_header_or_the_query_and_is_in_no_answer(
    server: RunningServer, headers: dict[str, str], query: str
) -> None:
    await server.worker("w")
    stranger = replace(server, headers=headers)
    page = await stranger.get(f"{SPACE}/workers?{query}")
    assert KEY not in str(page)
    assert (await stranger.send("GET", f"{SPACE}/workers?apikey=API-WRONG")).status == (200 if headers else 401)


async def test_an_answer_that_is_known_is_not_sent_again(server: RunningServer) -> None:
    first = await server.send("GET", f"{SPACE}/workerpools/all")
    tag = first.headers["ETag"]
    again = await server.send("GET", f"{SPACE}/workerpools/all", headers={"If-None-Match": f'"other", {tag}'})
    assert (again.status, await again.read(), again.headers["ETag"]) == (304, b"", tag)
    await server.post(f"{SPACE}/workerpools", {"Name": "P"})
    assert (await server.send("GET", f"{SPACE}/workerpools/all", headers={"If-None-Match": tag})).status == 200


async def test_large_answers_are_compressed_where_the_client_asks_for_it(server: RunningServer) -> None:
    async with ClientSession(auto_decompress=False) as plain:
        for coding, expected in (("gzip", "gzip"), ("identity", None)):
            headers = {**server.headers, "Accept-Encoding": coding}
            async with plain.get(server.url("/api"), headers=headers) as response:
                assert response.headers.get("Content-Encoding") == expected
                assert (await response.read())[:2] == (b"\x1f\x8b" if expected else b"{\n")


async def test_options_are_told_before_a_key_is_shown(server: RunningServer) -> None:
    for path in ("/api", f"{SPACE}/workers", "/api/nothing"):
        response = await replace(server, headers={}).send("OPTIONS", path)
        assert (response.status, response.headers["Allow"]) == (204, "GET, HEAD, POST, PUT, DELETE, OPTIONS")


@pytest.mark.parametrize(
    "path", ["projects", "projects/all", "deployments", "releases", "runbooks", "dashboard", "channels"]
)
async def test_what_is_out_of_scope_is_not_there_in_the_words_of_the_api(server: RunningServer, path: str) -> None:
    for prefix in ("/api", SPACE, "/api/spaces/default"):
        response = await server.send("GET", f"{prefix}/{path}")
        assert response.status == 404
        document = await response.json()
        assert document.keys() == {"ErrorMessage", "Errors", "HelpText", "FullException", "Details"}


async def test_the_documents_of_what_there_is_one_of(server: RunningServer, tmp_path: Path) -> None:
    stranger = replace(server, headers={})
    ping = await stranger.get("/api/octopusservernodes/ping")
    assert (ping["Id"], ping["IsOffline"], ping["RunningTaskCount"]) == ("OctopusServerNodes-1", False, 0)
    assert await stranger.get("/api/capabilities") == {"Capabilities": []}
    assert (await server.get("/api/octopusservernodes/summary"))["Nodes"][0]["Name"] == "devserver"
    assert (await server.get("/api/serverstatus/system-info"))["Uptime"].count(":") == 2
    assert (await server.get("/api/serverstatus/health"))["IsOperatingNormally"] is True
    types = await server.get(f"{SPACE}/workerpools/dynamicworkertypes")
    assert types == {"Id": "dynamicworkertypes", "WorkerTypes": [], "Links": {}}
    assert (await server.get(f"{SPACE}/workerpools/supportedtypes"))["SupportedPoolTypes"] == ["StaticWorkerPool"]
    assert (await server.get(f"{SPACE}/machineroles/all")) == []
    certificate = await server.get("/api/configuration/certificates/certificate-global")
    shown = await (await server.send("GET", certificate["Links"]["PublicCer"])).read()
    assert ssl.DER_cert_to_PEM_cert(shown).split() == pem("server")[0].decode().split()
    assert certificate["Thumbprint"] == identity("server").thumbprint


async def test_a_listening_worker_is_discovered_by_the_certificate_that_it_shows(
    server: RunningServer, tmp_path: Path
) -> None:
    certificate, key = pem("worker")
    (tmp_path / "both.pem").write_bytes(key + certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    listening = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    port = listening.sockets[0].getsockname()[1]
    async with listening:
        found = await server.get(f"{SPACE}/workers/discover?host=127.0.0.1&port={port}&type=TentaclePassive")
    assert (found["Id"], found["Name"], found["WorkerPoolIds"]) == (None, "127.0.0.1", [])
    assert found["Endpoint"]["Uri"] == f"https://127.0.0.1:{port}/"
    assert found["Endpoint"]["Thumbprint"] == identity("worker").thumbprint
    added = await server.post(f"{SPACE}/workers", {**found, "WorkerPoolIds": ["WorkerPools-1"]})
    assert added["Thumbprint"] == identity("worker").thumbprint
    for query in ("", "host=127.0.0.1&port=0", "host=127.0.0.1&type=Kubernetes", f"host=127.0.0.1&port={port}"):
        response = await server.send("GET", f"{SPACE}/machines/discover?{query}")
        assert response.status == 400, query


async def test_a_worker_keeps_whatever_thumbprint_it_is_given(server: RunningServer) -> None:
    """The tests of the Go SDK make one up; such a worker is only never found healthy."""
    body = worker_body("w")
    body["Endpoint"]["Thumbprint"] = "go-sdk made up 1"
    made = await server.post(f"{SPACE}/workers", body)
    assert made["Thumbprint"] == "go-sdk made up 1"


async def test_guesses_are_slowed_down_and_the_right_key_is_not(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.up.server.authentication._guesses, "now", lambda: 0.0)
    stranger = replace(server, headers={"X-Octopus-ApiKey": "API-WRONG"})
    answers = [await stranger.send("GET", "/api/users/me") for _ in range(12)]
    assert [answer.status for answer in answers] == [401] * 10 + [429] * 2
    assert answers[-1].headers["Retry-After"] == "1"
    assert (await server.send("GET", "/api/users/me")).status == 200
    login = {"Username": "admin", "Password": "wrong"}
    statuses = [(await stranger.send("POST", "/api/users/login", json=login)).status for _ in range(11)]
    assert statuses == [401] * 10 + [429]
