"""The documents that clients start from (docs/spec/rest.md, "Tasks")."""

from __future__ import annotations

from uuid import UUID

import pytest

from tests.devserver.running_server import RunningServer

ROOT_MEMBERS = {"Application", "Version", "ApiVersion", "InstallationId", "Links"}


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
    assert (await server.get("/api/serverstatus"))["IsInMaintenanceMode"] is False
