"""Resources and keys as documents: what the server adds, and what it keeps to itself."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.devserver.rest.documents import (
    collection_path,
    document,
    key_document,
    path_of,
    policy_template,
    status_of,
)
from tentacle.devserver.storage import ApiKey, Kind, Resource
from tentacle.devserver.storage.kinds import (
    ENVIRONMENTS,
    KINDS,
    POLICIES,
    POOLS,
    PROXIES,
    SPACES,
    TAG_SETS,
    USERS,
    WORKERS,
    read_body,
)
from tests.devserver.running_server import POLL, THUMBPRINT, URI, worker_body

ACCOUNT = {"AccountType": "UsernamePassword", "Username": "u", "Password": "hidden"}
MACHINE = {"EnvironmentIds": ["Environments-1"], "Roles": ["r"]}


def made(kind: Kind, body: dict[str, Any] | None = None, **observed: Any) -> Resource:
    needed = {"Name": "n", "Host": "h", "AccountType": "Token", "Username": "n", "DisplayName": "N"}
    granted = {"TeamId": "Teams-1", "UserRoleId": "UserRoles-1"}
    package = {"PackageId": "Acme", "Version": "1.0", "FileExtension": ".zip"}
    given_body = worker_body() | MACHINE if kind.path in ("workers", "machines") else {**needed, **granted, **package}
    read = read_body(kind, {**given_body, **(body or {})})
    space = "Spaces-2" if kind.scoped else ""
    return Resource(kind.path, f"{kind.prefix}-3", space, kind.name_of(read), read, observed)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.path)
def test_every_kind_has_its_id_first_its_links_last_and_its_own_path(kind: Kind) -> None:
    shown = document(made(kind))
    assert (next(iter(shown)), list(shown)[-1], shown["Id"]) == ("Id", "Links", f"{kind.prefix}-3")
    assert shown.get("SpaceId") == ("Spaces-2" if kind.scoped else None)
    space = "Spaces-2/" if kind.scoped else ""
    assert shown["Links"]["Self"] == path_of(made(kind)) == f"/api/{space}{kind.path}/{kind.prefix}-3"
    assert "/".join(str(shown[name]) for name in kind.naming) == made(kind).name
    own = {name: link for name, link in shown["Links"].items() if name not in ("SpaceHome", "Web", "Feed")}
    assert all(link.startswith(shown["Links"]["Self"]) for link in own.values())


def test_a_collection_belongs_to_a_space_or_to_none() -> None:
    assert collection_path(POOLS, "Spaces-2") == "/api/Spaces-2/workerpools"
    assert collection_path(USERS, "") == "/api/users"


@pytest.mark.parametrize(
    ("disabled", "health", "status"),
    [
        (False, "Healthy", "Online"),
        (False, "Unhealthy", "Online"),
        (False, "Unavailable", "Offline"),
        (False, "Unknown", "Unknown"),
        (False, None, "Unknown"),
        (True, "Healthy", "Disabled"),
        (True, "Unavailable", "Disabled"),
    ],
)
def test_health_in_the_older_word(disabled: bool, health: str | None, status: str) -> None:
    machine = made(WORKERS, {"IsDisabled": disabled}, **({"HealthStatus": health} if health else {}))
    assert status_of(machine) == document(machine)["Status"] == status


def test_a_machine_is_shown_with_what_was_observed_of_it() -> None:
    shown = document(made(WORKERS, ShellName="Bash", TentacleVersion="8.1.2", StatusSummary="Well."))
    assert (shown["ShellName"], shown["Architecture"], shown["StatusSummary"]) == ("Bash", "Unknown", "Well.")
    assert (shown["Uri"], shown["Thumbprint"]) == (URI, THUMBPRINT)
    assert shown["Endpoint"]["TentacleVersionDetails"]["Version"] == "8.1.2"
    assert shown["Links"]["Connection"] == "/api/Spaces-2/workers/Workers-3/connection"
    assert document(made(WORKERS))["StatusSummary"] == "This machine has not been checked yet."


def test_the_details_of_a_kubernetes_agent_are_inside_and_its_body_stays_as_it_is() -> None:
    inner = {"CommunicationMode": "Polling", "Thumbprint": THUMBPRINT, "Uri": POLL}
    body = {"Endpoint": {"CommunicationStyle": "KubernetesTentacle", "TentacleEndpointConfiguration": inner}}
    machine = made(WORKERS, body, TentacleVersion="8.1.2")
    before = repr(machine)
    shown = document(machine)
    configuration = shown["Endpoint"]["TentacleEndpointConfiguration"]
    assert configuration["TentacleVersionDetails"]["Version"] == "8.1.2"
    assert (configuration["Uri"], shown["Uri"], shown["Thumbprint"]) == (POLL, POLL, THUMBPRINT)
    assert "TentacleVersionDetails" not in shown["Endpoint"]
    assert repr(machine) == before


def test_tags_are_numbered_and_named_with_their_set() -> None:
    shown = document(made(TAG_SETS, {"Name": "Customer", "Tags": [{"Name": "VIP"}, {"Name": "b", "Color": "#fff"}]}))
    assert [(tag["Id"], tag["CanonicalTagName"], tag["SortOrder"], tag["Color"]) for tag in shown["Tags"]] == [
        ("TagSets-3/Tags-1", "Customer/VIP", 1, None),
        ("TagSets-3/Tags-2", "Customer/b", 2, "#fff"),
    ]


def test_what_else_the_server_adds() -> None:
    assert document(made(POOLS))["CanAddWorkers"] is True
    assert document(made(PROXIES))["Password"] == {"HasValue": False, "NewValue": None, "Hint": None}
    assert document(made(SPACES))["Links"] | {"Self": ""} == {
        "Self": "",
        "SpaceHome": "/api/Spaces-3",
        "Web": "/app#/Spaces-3",
    }
    user = document(made(USERS))
    assert (user["Username"], user["Links"]["Spaces"]) == ("n", "/api/users/Users-3/spaces")
    assert set(document(made(ENVIRONMENTS))["Links"]) == {"Self", "Machines"}


def test_the_template_of_a_policy_is_a_policy_with_every_default() -> None:
    template, real = policy_template("Spaces-2"), document(made(POLICIES))
    assert template.keys() == real.keys()
    assert template["MachineRpcCallRetryPolicy"] == real["MachineRpcCallRetryPolicy"]
    assert template["Links"] == {"Self": "/api/Spaces-2/machinepolicies/template"}


@given(st.text(min_size=20))
def test_a_key_is_shown_by_its_beginning_alone(hashed: str) -> None:
    shown = key_document(ApiKey(hashed, "apikeys-1", "Users-1", "ci", "API-ABC", "2026-11-23"))
    assert hashed not in map(str, shown.values())
    assert shown["ApiKey"] == {"HasValue": True, "NewValue": None, "Hint": "API-ABC"}
    assert shown["Links"] == {"Self": "/api/users/Users-1/apikeys/apikeys-1"}
