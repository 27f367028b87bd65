"""The documents that clients start from, without a server; that their links lead somewhere is in test_routes_root."""

from __future__ import annotations

import re
from typing import Any

from tentacle.devserver.rest.root_documents import (
    ServerIdentity,
    certificate_document,
    node_document,
    root_document,
    space_document,
    status_document,
)
from tentacle.devserver.storage import SCOPED
from tentacle.octopus.link_templates import expand

IDENTITY = ServerIdentity("installation", "A" * 40, "1.2.3")


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


def test_the_certificate_the_node_and_the_state() -> None:
    certificate = certificate_document(IDENTITY)
    assert (certificate["Thumbprint"], certificate["Id"]) == ("A" * 40, "certificate-global")
    for shown in (certificate, node_document(20)):
        assert shown["Links"]["Self"].endswith(f"/{shown['Id']}")
    assert status_document()["Health"] == "Healthy"
