"""The pages in one table, and what each of them shows: documents of the API, put together.

Knows the API's documents; must not know HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from tentacle.devserver.page.actions import MACHINE, NEW_WORKER, POOLS, TASK, Action, make_key, run_script
from tentacle.devserver.page.asked import EVERYTHING, Asked
from tentacle.devserver.page.commands import KEY_FILE, START, port_of, registration_commands
from tentacle.devserver.rest import Problem

LINES: Final = 500
"""Lines of the log of each worker that a page has from the start; those that follow come as they are written."""

AT_ONCE: Final = 30
"""Tasks or events on a page."""

Shown = dict[str, Any]


@dataclass(frozen=True)
class SitePage:
    """`path` is what follows the space; `does` are the actions of its forms, by the value of their button `do`."""

    path: str
    template: str
    show: Callable[[Asked], Awaitable[Shown]]
    does: Mapping[str, Action] = field(default_factory=dict)

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", self.path))

    async def act(self, asked: Asked) -> str | Shown:
        """Does what a form says; returns the address to go to, or what the page shows in addition."""
        action = self.does.get(asked.form.get("do", [""])[0])
        if action is None:
            raise Problem("This page cannot do that.", 400)
        return await action(asked)


async def overview(asked: Asked) -> Shown:
    return {
        "summary": await asked.seen("workerpools/summary"),
        "targets": await asked.seen("machines/all"),
        "tasks": await asked.seen("tasks", take="8"),
        "identity": asked.api.server.identity,
    }


async def workers(asked: Asked) -> Shown:
    filters = {name: asked.given(name) for name in ("partialName", "healthStatuses", "workerPoolIds")}
    return {
        "filters": filters,
        "workers": await asked.seen("workers", **filters, **EVERYTHING),
        "pools": await asked.seen("workerpools/all") or [],
    }


async def new_worker(asked: Asked) -> Shown:
    numbers = {int(one["Id"].partition("-")[2]): one for one in await asked.seen("workers/all") or []}
    since = int(asked.given("since")) if re.fullmatch("[0-9]{1,9}", asked.given("since")) else max(numbers, default=0)
    arrived = [worker for number, worker in numbers.items() if number > since]
    return {
        "style": asked.given("style", START),
        "since": since,
        "arrived": arrived,
        "accounts": await asked.seen("accounts/all"),
        **await _choices(asked),
        **await commands(asked),
    }


async def machine(asked: Asked) -> Shown:
    path = f"{asked.path['kind']}/{asked.path['id']}"
    tasks = await asked.get(f"{path}/tasks", **EVERYTHING)
    return {
        "path": path,
        "machine": await asked.get(path),
        "connection": await asked.get(f"{path}/connection"),
        "tasks": [task for task in tasks["Items"] if task["Name"] == "Health"][:10],
        **await _choices(asked),
    }


async def pools(asked: Asked) -> Shown:
    return {"summary": await asked.seen("workerpools/summary")}


async def script(asked: Asked) -> Shown:
    again = asked.given("from")
    arguments = (await asked.get(f"tasks/{again}"))["Arguments"] if again else {}
    targets = [*(arguments.get("WorkerPoolIds") or ()), *(arguments.get("MachineIds") or ())]
    return {
        "targets": asked.form.get("target") or asked.http.query.getall("target", targets),
        "body": asked.given("body", arguments.get("ScriptBody", "")),
        "syntax": asked.given("syntax", arguments.get("Syntax", "Bash")),
        "workers": await asked.seen("workers/all") or [],
        "machines": await asked.seen("machines/all") or [],
        **await _choices(asked),
    }


def listing(path: str, *names: str) -> Callable[[Asked], Awaitable[Shown]]:
    """Returns what shows one page of a collection, with the filters of these names."""

    async def show(asked: Asked) -> Shown:
        filters = {name: asked.given(name) for name in names}
        found = await asked.seen(path, **filters, skip=asked.given("skip", "0"), take=str(AT_ONCE))
        return {"filters": filters, path: found}

    return show


async def task(asked: Asked) -> Shown:
    path = f"tasks/{asked.path['id']}"
    # The order matters: only a task that had ended before its log was read is shown with all of it.  Of another one,
    # lines may come between the activities: what is shown ends where the log ended before, and the rest follows.
    task = await asked.get(path)
    last = max((line["Number"] for one in await _activities(asked, path, 1) for line in one["LogElements"]), default=0)
    activities = await _activities(asked, path, LINES)
    for one in activities:
        one["LogElements"] = [line for line in one["LogElements"] if line["Number"] <= last]
    return {"path": path, "task": task, "activities": activities, "last": last, "lines": LINES}


async def _activities(asked: Asked, path: str, lines: int) -> list[Any]:
    """Returns the activities of a task in one list, each with its last lines."""

    def flat(activities: list[Any]) -> Iterator[Any]:
        for one in activities:
            yield one
            yield from flat(one["Children"])

    return list(flat((await asked.get(f"{path}/details", tail=str(lines)))["ActivityLogs"]))


async def commands(asked: Asked) -> Shown:
    server, space = asked.api.server, await asked.get(f"spaces/{asked.space}")
    pools = await asked.seen("workerpools/all") or []
    chosen = registration_commands(
        str(asked.http.url.origin()),
        port_of(server.comms.address),
        server.identity.thumbprint,
        "" if space["IsDefault"] else space["Name"],
        *(pool["Name"] for pool in pools if pool["IsDefault"]),
    )
    return {"commands": chosen, "identity": server.identity, "key_file": KEY_FILE}


async def _choices(asked: Asked) -> Shown:
    """Returns what a worker can belong to."""
    return {
        "pools": await asked.seen("workerpools/all") or [],
        "policies": await asked.seen("machinepolicies/all") or [],
    }


PAGES: Final = (
    SitePage("", "overview", overview),
    SitePage("workers", "workers", workers),
    SitePage("workers/new", "new_worker", new_worker, NEW_WORKER),
    SitePage("(?P<kind>workers|machines)/{id}", "machine", machine, MACHINE),
    SitePage("workerpools", "pools", pools, POOLS),
    SitePage("script", "script", script, {"run": run_script}),
    SitePage("tasks", "tasks", listing("tasks", "partialName", "states")),
    SitePage("tasks/{id}", "task", task, TASK),
    SitePage("events", "events", listing("events", "regarding", "user", "eventCategories")),
    SitePage("commands", "commands", commands, {"key": make_key}),
)
