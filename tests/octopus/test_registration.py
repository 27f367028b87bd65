"""The recorded conversations, replayed; and the same with servers of other makes and with lost answers."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from tentacle import __version__
from tentacle.octopus.client import Credentials
from tentacle.octopus.errors import (
    AccessRefused,
    ConnectionFailed,
    NotFound,
    RegistrationError,
    UnexpectedAnswer,
    ValidationFailed,
)
from tentacle.octopus.registration import (
    MachineKind,
    RegistrationRequest,
    TargetRole,
    WorkerRole,
    deregister,
    register,
)
from tentacle.octopus.resources import ListeningEndpoint, Participation, PollingEndpoint, listening_uri
from tests.recorded import VECTORS

THUMBPRINT = "78565D222B645F48598D42DD56934802C98BB16F"
OTHER_THUMBPRINT = "0" * 40
SERVER_THUMBPRINT = "679DDD8527CCE15FE45A5DACD92EA7C0364198D3"
POLLING = PollingEndpoint("DA3A67658304BE947BA96FEEF7A6A2A337922180", "poll://pdbr32fdrb3hqumtfbhh/")


def vector(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))


def listening(host: str) -> ListeningEndpoint:
    return ListeningEndpoint(THUMBPRINT, listening_uri(host, 20933))


def worker(name: str = "w", thumbprint: str = THUMBPRINT, number: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "Id": f"Workers-{number}",
        "Name": name,
        "SpaceId": "Spaces-1",
        "Endpoint": {"CommunicationStyle": "TentaclePassive", "Thumbprint": thumbprint},
        "Links": {"Self": f"/api/Spaces-1/workers/Workers-{number}"},
        **more,
    }


REQUEST = RegistrationRequest("w", listening("vm"), WorkerRole(("Linux",)))
UBUNTU = RegistrationRequest("ubuntu worker", listening("vm"), WorkerRole(("Linux",)))
EXISTING = worker(
    "ubuntu worker",
    WorkerPoolIds=["WorkerPools-2"],
    Thumbprint=THUMBPRINT,
    Uri="https://worker1.example.com:20933/",
    IsDisabled=False,
    MachinePolicyId="MachinePolicies-1",
    Status="Unknown",
    HealthStatus="Unknown",
    Slug="ubuntu worker",
    ANewMember={"that": ["nobody", "knows"]},
)
REPLAYS: dict[str, tuple[RegistrationRequest, list[dict[str, Any]]]] = {
    "rest-register-listening": (
        RegistrationRequest("ubuntu worker", listening("worker1.example.com"), WorkerRole(("Linux",))),
        [],
    ),
    "rest-register-polling": (
        RegistrationRequest("polling one", POLLING, WorkerRole(("Default Worker Pool",))),
        [worker("another")],
    ),
    "rest-register-target": (RegistrationRequest("target", listening("vm"), TargetRole(("Dev",), ("web",))), []),
    "rest-register-force-slug-id-policy": (
        RegistrationRequest(
            "ubuntu worker", listening("vm"), WorkerRole(("linux-pool", "WorkerPools-1")), policy="Slow", force=True
        ),
        [EXISTING],
    ),
    "rest-register-again-without-force": (UBUNTU, [EXISTING]),
    "rest-register-no-such-pool": (RegistrationRequest("polling two", POLLING, WorkerRole(("Nope",))), []),
    "rest-register-wrong-key": (RegistrationRequest("polling three", POLLING, WorkerRole(("Linux",))), []),
}


@pytest.mark.parametrize("name", REPLAYS)
async def test_the_recorded_registration(name: str, octopus: Any, connect: Any) -> None:
    recorded = vector(name)
    request, workers = REPLAYS[name]
    server = await octopus(collections={"workers": [dict(item) for item in workers]})
    arguments = shlex.split(recorded["command"])
    key = arguments[arguments.index("--apikey") + 1]
    said = ""
    async with connect(server, credentials=Credentials(api_key=key)) as client:
        try:
            result = await register(client, request)
        except (RegistrationError, AccessRefused) as error:
            assert recorded["exit_code"] != 0
            assert error.exit_code == 1
            said = str(error)
        else:
            assert recorded["exit_code"] == 0
            assert result.server_thumbprint == SERVER_THUMBPRINT
            assert (result.name, result.space_name) == (request.name, "Default")
            assert result.created is (name != "rest-register-force-slug-id-policy")
    assert said in recorded["output"].splitlines() or not said
    assert [write.write for write in server.writes] == writes_of(recorded)
    recorded_gets = {r["path"].replace("Users-1", "U") for r in recorded["requests"] if r.get("method") == "GET"}
    assert set(server.gets) <= recorded_gets, "nothing is asked that the original does not ask"
    assert len(server.gets) == len(set(server.gets)), "nothing is asked twice"


def writes_of(recorded: Any) -> list[tuple[Any, ...]]:
    return [
        (
            r["method"],
            r["path"],
            r["headers"].get("X-HTTP-Method-Override"),
            r["headers"].get("Content-Type"),
            json.dumps(r["body"]),
        )
        for r in recorded["requests"]
        if r.get("method", "GET") != "GET"
    ]


@pytest.mark.parametrize("name", ["rest-deregister", "rest-deregister-not-found"])
async def test_the_recorded_deregistration(name: str, octopus: Any, connect: Any) -> None:
    recorded = vector(name)
    present = name == "rest-deregister"
    server = await octopus(collections={"workers": [dict(EXISTING)] if present else []})
    said: list[str] = []
    async with connect(server) as client:
        try:
            result = await deregister(client, MachineKind.WORKER, THUMBPRINT, None, False, said.append)
        except RegistrationError as error:
            said.append(str(error))
            assert error.exit_code == recorded["exit_code"]
        else:
            assert recorded["exit_code"] == 0
            assert result.names == ("ubuntu worker",)
            assert result.server_thumbprint == SERVER_THUMBPRINT
    assert said == recorded["output"].splitlines()[:1]
    assert [write.write for write in server.writes] == writes_of(recorded)


async def test_headers_are_those_of_the_specification_with_our_own_name(octopus: Any, connect: Any) -> None:
    server = await octopus()
    async with connect(server) as client:
        await register(client, REQUEST)
    for request in server.requests:
        assert request.headers["Accept"] == "application/json"
        assert request.headers["User-Agent"] == f"tentacle/8.1.2 ({__version__})"
        assert request.headers["X-Octopus-ApiKey"] == "API-TESTKEY0123456789"


# Servers of another make.

LAYOUTS: dict[str, dict[str, Any]] = {
    "other paths": {"api": "/api", "scoped": "/elsewhere/room/7"},
    "virtual directory, links with a tilde": {
        "api": "/octopus/api",
        "scoped": "/octopus/api/Spaces-1",
        "tilde": "/octopus",
    },
    "no spaces": {"scoped": "/api", "has_spaces": False},
    "no filters, small pages": {"name_filter": False, "thumbprint_filter": False, "page_size": 1},
    "no list of all": {"all_link": False},
}


@pytest.mark.parametrize("habits", [pytest.param(h, id=n) for n, h in LAYOUTS.items()])
async def test_other_layouts(habits: dict[str, Any], octopus: Any, connect: Any) -> None:
    others = [worker(f"other {n}", OTHER_THUMBPRINT, n) for n in range(50, 54)]
    server = await octopus(**habits, collections={"workers": others})
    said: list[str] = []
    async with connect(server) as client:
        result = await register(client, REQUEST)
        assert result.created
        with pytest.raises(RegistrationError, match="'w' already exists"):
            await register(client, REQUEST)
        assert server.collections["workers"][-1]["WorkerPoolIds"] == ["WorkerPools-2"]
        assert server.collections["workers"][-1]["SpaceId"] == ("Spaces-1" if server.has_spaces else None)
        gone = await deregister(client, MachineKind.WORKER, THUMBPRINT.lower(), None, False, said.append)
    assert gone.names == ("w",)
    assert len(server.collections["workers"]) == 4
    assert said == ["Deleting worker 'w' from the Octopus Server..."]


async def test_a_target_with_everything(octopus: Any, connect: Any) -> None:
    server = await octopus(has_v2=True)
    role = TargetRole(
        ("prod", "Environments-1", "Ephemeral", "Dev"),
        ("web", "WEB", "db"),
        ("acme",),
        ("t/vip",),
        Participation.TENANTED,
    )
    async with connect(server) as client:
        await register(client, RegistrationRequest("target", listening("vm"), role, policy="slow", proxy=" proxy abc "))
    body = server.writes[0].body
    assert body["EnvironmentIds"] == ["Environments-1", "Environments-2", "Environments-9"]
    assert body["Roles"] == ["web", "db"]
    assert body["TenantIds"] == ["Tenants-1"]
    assert body["TenantTags"] == ["t/vip"]
    assert body["TenantedDeploymentParticipation"] == "Tenanted"
    assert body["MachinePolicyId"] == "MachinePolicies-2"
    assert body["Endpoint"]["ProxyId"] == "Proxies-1"


@pytest.mark.parametrize("link", ["Workers", "WorkerPools", "CertificateConfiguration"])
async def test_a_missing_link_is_named(link: str, octopus: Any, connect: Any) -> None:
    server = await octopus(omit_links={link})
    async with connect(server) as client:
        with pytest.raises(UnexpectedAnswer, match=f"'{link}'"):
            await register(client, REQUEST)
    assert not server.writes


@pytest.mark.parametrize(
    ("own", "theirs", "message"),
    [
        ("8.1.2", "", "Unable to determine the Octopus Server version."),
        ("8.1.2", "2.6.1", "You cannot register a 8.* Octopus Tentacle with a 2.* Octopus Server."),
        ("8.1.2", "0.0.0-local", None),
        ("0.1.0", "2.6.1", None),
        ("8.1.2", "3.0.0", None),
    ],
)
async def test_versions(own: str, theirs: str, message: str | None, octopus: Any, connect: Any) -> None:
    server = await octopus(version=theirs)
    async with connect(server, version=own) as client:
        if message is None:
            assert (await register(client, REQUEST)).machine_id
            return
        with pytest.raises(RegistrationError) as caught:
            await register(client, REQUEST)
    assert str(caught.value) == message


@pytest.mark.parametrize("thumbprint", ["", "x" * 40, "AB" * 32, "AB" * 19])
async def test_a_server_thumbprint_that_is_none(thumbprint: str, octopus: Any, connect: Any) -> None:
    server = await octopus(thumbprint=thumbprint)
    async with connect(server) as client:
        with pytest.raises(UnexpectedAnswer, match="humbprint"):
            await register(client, REQUEST)
    assert not server.writes


async def test_an_existing_worker_of_another_space_is_left_alone(octopus: Any, connect: Any) -> None:
    server = await octopus(collections={"workers": [worker(SpaceId="Spaces-2")]})
    async with connect(server) as client:
        with pytest.raises(RegistrationError, match="Spaces-2"):
            await register(client, RegistrationRequest("w", POLLING, WorkerRole(("Linux",)), force=True))
    assert not server.writes


# Answers that get lost.


async def test_a_worker_is_not_created_twice_when_the_answer_is_lost(octopus: Any, connect: Any) -> None:
    server = await octopus(lose_answers=1)
    async with connect(server) as client:
        result = await register(client, REQUEST)
    assert result.created
    assert result.machine_id == "Workers-1"
    assert len(server.collections["workers"]) == 1
    assert len(server.writes) == 1


def failing(times: int, answer: Callable[[web.Request], web.Response | None], method: str = "POST") -> Any:
    left = times

    async def intercept(request: web.Request) -> web.Response | None:
        nonlocal left
        if request.method != method or left == 0:
            return None
        left -= 1
        return answer(request)

    return intercept


def cut(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def test_a_post_that_never_arrived_is_repeated(octopus: Any, connect: Any) -> None:
    server = await octopus(intercept=failing(2, cut))
    notices: list[str] = []
    async with connect(server, on_notice=notices.append) as client:
        result = await register(client, REQUEST)
    assert result.machine_id == "Workers-1"
    assert len(server.writes) == 3
    assert sum("workers?name=w" in get for get in server.gets) == 3, "looked for it before each repetition"
    assert len(notices) == 2


async def test_patience_with_a_server_that_always_cuts_ends(octopus: Any, connect: Any) -> None:
    server = await octopus(intercept=failing(-1, cut))
    async with connect(server, retry_for=5.0) as client:
        with pytest.raises(ConnectionFailed, match="closed without an answer"):
            await register(client, REQUEST)
    assert 2 <= len(server.writes) <= 5


async def test_a_name_taken_by_someone_else_is_an_error_and_not_ours(octopus: Any, connect: Any) -> None:
    server = await octopus()

    async def intercept(request: web.Request) -> web.Response | None:
        if request.method == "POST" and not server.collections["workers"]:
            server.collections["workers"].append(worker(thumbprint=OTHER_THUMBPRINT))
            return web.Response(status=503)
        return None

    server.intercept = intercept
    async with connect(server) as client:
        with pytest.raises(ValidationFailed, match=r"Taken\. - Name is in use\."):
            await register(client, REQUEST)


async def test_an_update_whose_answer_is_lost_is_repeated(octopus: Any, connect: Any) -> None:
    server = await octopus(lose_answers=1, collections={"workers": [worker()]})
    async with connect(server) as client:
        result = await register(client, RegistrationRequest("w", POLLING, WorkerRole(("Linux",)), force=True))
    assert not result.created
    assert len(server.writes) == 2
    assert server.collections["workers"][0]["Endpoint"]["CommunicationStyle"] == "TentacleActive"


async def test_a_deletion_whose_answer_is_lost_has_happened(octopus: Any, connect: Any) -> None:
    server = await octopus(lose_answers=1, collections={"workers": [worker()]})
    async with connect(server) as client:
        await deregister(client, MachineKind.WORKER, THUMBPRINT, None, False, lambda _: None)
    assert not server.collections["workers"]


async def test_a_deletion_that_finds_nothing_at_once_is_an_error(octopus: Any, connect: Any) -> None:
    server = await octopus(
        collections={"workers": [worker()]},
        intercept=failing(1, lambda _: web.json_response({"ErrorMessage": "hidden"}, status=404)),
    )
    async with connect(server) as client:
        with pytest.raises(NotFound, match="hidden"):
            await deregister(client, MachineKind.WORKER, THUMBPRINT, None, False, lambda _: None)


# Deregistering.


@pytest.mark.parametrize(
    ("kind", "none", "several"),
    [
        (
            MachineKind.WORKER,
            "No worker was found matching this Tentacle's thumbprint.",
            "The worker matches more than one machine on the server. "
            "To deregister all of these machines specify the --multiple flag.",
        ),
        (
            MachineKind.TARGET,
            "No machine was found matching this Tentacle's thumbprint.",
            "The Tentacle matches more than one machine on the server. "
            "To deregister all of these machines specify the --multiple flag.",
        ),
    ],
)
async def test_none_and_several(kind: MachineKind, none: str, several: str, octopus: Any, connect: Any) -> None:
    name = kind.link.lower()
    ours = [worker(f"w{n}", THUMBPRINT, n, Links={}) for n in (1, 2)]
    server = await octopus(thumbprint_filter=False, collections={name: [*ours, worker("theirs", OTHER_THUMBPRINT, 3)]})
    said: list[str] = []
    async with connect(server) as client:
        with pytest.raises(RegistrationError) as caught:
            await deregister(client, kind, THUMBPRINT, None, False, said.append)
        assert str(caught.value) == several
        result = await deregister(client, kind, THUMBPRINT, None, True, said.append)
        assert result.names == ("w1", "w2")
        with pytest.raises(RegistrationError) as caught:
            await deregister(client, kind, THUMBPRINT, None, True, said.append)
        assert str(caught.value) == none
    assert said == [f"Deleting {kind.value} 'w{n}' from the Octopus Server..." for n in (1, 2)]
    assert [item["Name"] for item in server.collections[name]] == ["theirs"]


async def test_what_is_deleted_stays_so_when_the_certificate_is_not_told(octopus: Any, connect: Any) -> None:
    server = await octopus(thumbprint="", collections={"workers": [worker()]})
    async with connect(server) as client:
        result = await deregister(client, MachineKind.WORKER, THUMBPRINT, None, False, lambda _: None)
    assert result.server_thumbprint is None
    assert result.names == ("w",)
