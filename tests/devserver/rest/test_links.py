"""No link in any document leads to nothing, and what a link says that it filters by, it filters by."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tentacle.devserver.rest.paging import EVENT_FILTERS, RESOURCE_FILTERS, TASK_FILTERS
from tentacle.octopus.link_templates import expand
from tests.devserver.running_server import RunningServer

NOT_FILTERS = {
    *("skip", "take", "verbose", "tail", "follow", "plain", "host", "port", "type", "userid"),
    *("machinepartialname", "hideemptyworkerpools", "hideemptyenvironments"),
    # Of packages and the feed.
    *("nugetpackageid", "packageid", "latest", "replace", "overwritemode", "feedtype"),
}
ONLY_POSTED = {
    "SignIn",
    "SignOut",
    "Cancel",
    "Prioritize",
    "Rerun",
    "State",
    "RevokeSessions",
    "PackageUpload",
    "PackagesBulk",
}


async def one_of_everything(server: RunningServer) -> None:
    space = "/api/Spaces-1"
    await server.worker("w")
    for kind, body in {
        "environments": {"Name": "E"},
        "tenants": {"Name": "T"},
        "tagsets": {"Name": "G", "Tags": [{"Name": "a"}]},
        "proxies": {"Name": "P", "Host": "proxy.example"},
        "accounts": {"Name": "A", "AccountType": "Token", "Token": {"HasValue": True, "NewValue": "s"}},
        "lifecycles": {"Name": "L"},
        "machines": {
            "Name": "M",
            "EnvironmentIds": ["dev"],
            "Roles": ["r"],
            "Endpoint": {"CommunicationStyle": "OfflineDrop"},
        },
    }.items():
        await server.post(f"{space}/{kind}", body)
    await server.post("/api/users/me/apikeys", {"Purpose": "ci"})
    named = {"Content-Disposition": 'attachment; filename="Acme.1.0.zip"'}
    assert (await server.send("POST", f"{space}/packages/raw", data=b"x", headers=named)).status == 201
    await server.ended(await server.health("Workers-1"))


def links(document: Any) -> Iterator[tuple[str, str]]:
    if isinstance(document, list):
        for inner in document:
            yield from links(inner)
    elif isinstance(document, dict):
        for name, inner in document.items():
            yield from inner.items() if name == "Links" else links(inner)


async def test_no_link_in_any_document_leads_to_nothing(server: RunningServer) -> None:
    await one_of_everything(server)
    (key,) = (k for k in (await server.get("/api/users/me/apikeys"))["Items"] if k["Purpose"] == "ci")
    ahead = [("/api", ""), ("/api/Spaces-1", ""), ("/api/serverstatus", ""), (key["Links"]["Self"], "")]
    seen: dict[str, int] = {}
    named: dict[str, set[int]] = {}
    while ahead:
        path, name = ahead.pop()
        if path not in seen:
            answer = await server.send("GET", path)
            seen[path] = answer.status
            shown = await answer.json() if answer.content_type == "application/json" else {}
            # What is on another port has tests of its own.
            templates = [(name, link) for name, link in links(shown) if name != "TentaclePolling"]
            given = {"spaceId": "Spaces-1", "host": "127.0.0.1", "port": "1", "type": "TentaclePassive"}
            ahead += [(expand(link, **given), name) for name, link in templates]
        assert seen[path] < 500, (name, path)
        assert seen[path] != 404, (name, path)
        if name:
            named.setdefault(name, set()).add(seen[path])
    assert len(seen) > 100
    # Nothing is known to listen at port 1, and that is said.
    refused = {name: codes for name, codes in named.items() if codes != {200}}
    assert refused == {**{name: {405} for name in ONLY_POSTED}, "DiscoverWorker": {400}, "DiscoverMachine": {400}}


async def test_a_link_names_only_filters_that_filter(server: RunningServer) -> None:
    await one_of_everything(server)
    templates = dict(links([await server.get(path) for path in ("/api", "/api/Spaces-1")]))
    templates |= dict(
        links([await server.get(f"/api/{k}/all") for k in ("workerpools", "machinepolicies", "environments")])
    )
    checked = 0
    for name, template in templates.items():
        filters = {"Tasks": TASK_FILTERS, "Events": EVENT_FILTERS, "Artifacts": {"regarding"}}.get(
            name, RESOURCE_FILTERS
        )
        for query in re.findall(r"\{[?&]([^}]*)\}", template):
            unknown = {each.lower() for each in query.split(",")} - set(filters) - NOT_FILTERS
            assert not unknown, (name, unknown)
            checked += 1
    assert checked > 20
