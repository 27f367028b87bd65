"""The documents that clients start from (docs/spec/rest.md, "Tasks")."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest

from tentacle.devserver.rest.routes_root import root_document, space_document
from tentacle.devserver.rest.server import ServerIdentity
from tentacle.devserver.storage.kinds import SCOPED
from tentacle.octopus.link_templates import expand
from tests.devserver.running_server import RunningServer

ROOT_MEMBERS = {"Application", "Version", "ApiVersion", "InstallationId", "Links"}
IDENTITY = ServerIdentity("installation", "A" * 40, "1.2.3")


@pytest.mark.parametrize("path", ["/api", "/api/", "/API", "/api/Spaces-1", "/api/spaces-1/"])
async def test_a_root_has_what_the_go_sdk_validates(server: RunningServer, path: str) -> None:
    root = await server.get(path)
    assert root.keys() >= ROOT_MEMBERS
    UUID(root["InstallationId"])
    assert all(root["Links"].values())


async def test_the_go_sdk_finds_the_default_space(server: RunningServer) -> None:
    page = await server.get("/api/spaces?skip=0&take=30")
    assert [s["Id"] for s in page["Items"] if s["IsDefault"]] == ["Spaces-1"]
    assert (page["NumberOfPages"], page["LastPageNumber"]) == (1, 0)
    assert [s["Name"] for s in await server.get("/api/spaces/all")] == ["Default"]
    assert (await server.get("/api/spaces/Spaces-1"))["Slug"] == "default"


async def test_octopus_server_nodes_and_status(server: RunningServer) -> None:
    (node,) = (await server.get("/api/octopusservernodes"))["Items"]
    assert node.keys() >= {"Name", "MaxConcurrentTasks", "IsInMaintenanceMode"}
    assert await server.get(node["Links"]["Self"]) == node
    status = await server.get("/api/serverstatus")
    assert (status["IsInMaintenanceMode"], status["Health"]) == (False, "Healthy")


async def test_the_certificate_is_found_where_it_says(server: RunningServer) -> None:
    (certificate,) = (await server.get("/api/configuration/certificates"))["Items"]
    assert (certificate["Thumbprint"], certificate["Id"]) == (server.up.thumbprint, "certificate-global")
    assert await server.get(certificate["Links"]["Self"]) == certificate


def test_the_root_has_the_links_of_the_default_space_only_where_there_is_one() -> None:
    with_space, without = root_document(IDENTITY, "Spaces-7"), root_document(IDENTITY, None)
    assert with_space["Links"]["Workers"].startswith("/api/Spaces-7/workers{/id}")
    assert "Workers" not in without["Links"]
    assert without["Links"].items() <= with_space["Links"].items()
    assert (with_space["InstallationId"], with_space["ServedBy"]) == ("installation", "tentacle devserver 1.2.3")


def test_a_space_has_all_its_kinds_below_itself() -> None:
    shown = space_document(IDENTITY, "Spaces-7")
    links = shown["Links"]
    below = {name: link for name, link in links.items() if name not in ("Self", "Tasks", "Web")}
    assert (shown["Id"], links["Self"]) == ("Spaces-7", "/api/Spaces-7")
    assert all(link.startswith("/api/Spaces-7/") for link in below.values())
    assert {re.sub(r"\{.*", "", link) for link in below.values()} >= {f"/api/Spaces-7/{kind.path}" for kind in SCOPED}


def test_every_link_is_a_template_that_our_own_client_reads() -> None:
    documents: list[dict[str, Any]] = [root_document(IDENTITY, "Spaces-1"), space_document(IDENTITY, "Spaces-1")]
    for links in (one["Links"] for one in documents):
        for link in links.values():
            assert re.fullmatch(r"/[\w/.#-]*", expand(link, spaceId="Spaces-1"))
    assert expand(documents[0]["Links"]["Workers"], id="all", thumbprint="AB") == (
        "/api/Spaces-1/workers/all?thumbprint=AB"
    )
