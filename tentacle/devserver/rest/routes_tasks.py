"""Queue a task, look at it, follow its log, cancel it (tentacle-cli.md 6.2).

Knows how tasks are asked for; must not know how they run.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from tentacle.devserver.rest.answers import SAFE, json_answer
from tentacle.devserver.rest.fields import optional, text
from tentacle.devserver.rest.kinds import Field, read_fields
from tentacle.devserver.rest.paging import Query, paged, several
from tentacle.devserver.rest.problems import Forbidden, Invalid, NotFound, Problem
from tentacle.devserver.rest.routing import Call, Routes
from tentacle.devserver.rest.server import Server
from tentacle.devserver.rest.task_documents import details_document, raw_head, raw_line, task_document
from tentacle.devserver.storage.model import Json, LogElement, NewTask, Task, TaskState
from tentacle.devserver.tasks import adhoc, health
from tentacle.devserver.tasks.queue import TooManyTasks

TYPES: Final[Mapping[str, tuple[str, Callable[[Mapping[str, Any]], Json]]]] = {
    adhoc.NAME.lower(): (adhoc.NAME, adhoc.read_arguments),
    health.NAME.lower(): (health.NAME, health.read_arguments),
}
DESCRIPTIONS: Final = {adhoc.NAME: "Run ad-hoc script", health.NAME: "Manual health check"}
DETAIL_LINES: Final = 2000
"""Lines per activity in the details when nobody asks for a number; the raw log has all of them."""


@dataclass(frozen=True)
class TaskRoutes:
    server: Server

    def add_to(self, routes: Routes) -> None:
        routes.add("GET", "tasks", self.page)
        routes.add("POST", "tasks", self.create)
        routes.add("GET", "tasks/tasktypes", self.types)
        routes.add("GET", "tasks/{id}", self.one)
        routes.add("GET", "tasks/{id}/details", self.details)
        routes.add("GET", "tasks/{id}/raw", self.raw)
        routes.add("POST", "tasks/{id}/cancel", self.cancel)
        routes.add("POST", "tasks/{id}/state", self.set_state)
        routes.add("GET", "tasks/{id}/queued-behind", self.queued_behind)
        routes.add("POST", "tasks/rerun/{id}", self.rerun)

    # --- asking ------------------------------------------------------------------------------------------------

    async def create(self, call: Call) -> web.Response:
        space, given = await self.server.space_of(call), await call.json()
        if not isinstance(given, dict):
            raise Invalid("The request's body must be a JSON document.")
        return await self._queue(_read_task(space, given))

    async def rerun(self, call: Call) -> web.Response:
        task = await self._task(call)
        return await self._queue(NewTask(task.space, task.name, task.description, task.arguments))

    async def _queue(self, new: NewTask) -> web.Response:
        try:
            task = await self.server.queue.add(new)
        except TooManyTasks as error:
            raise Problem(f"{error.message} {error.hint}", status=503) from error
        return json_answer(task_document(task), 201, {"Location": f"/api/tasks/{task.id}"})

    async def cancel(self, call: Call) -> web.Response:
        task = await self._task(call)
        await self.server.queue.cancel(task.number)
        return json_answer(task_document(await self._task(call)))

    async def set_state(self, _: Call) -> web.Response:
        raise Forbidden("This server does not change the state of a task; cancel it or run it again.")

    # --- looking -----------------------------------------------------------------------------------------------

    async def types(self, _: Call) -> web.Response:
        return json_answer([{"Id": name, "Name": DESCRIPTIONS[name]} for name, _ in TYPES.values()])

    async def page(self, call: Call) -> web.Response:
        found = [task for task in await self.server.tasks.newest_first() if _wanted(task, call)]
        return json_answer(paged("Task", "/api/tasks", call.query, found, task_document))

    async def one(self, call: Call) -> web.Response:
        return json_answer(task_document(await self._task(call)))

    async def queued_behind(self, call: Call) -> web.Response:
        task = await self._task(call)
        ahead = [t for t in self.server.queue.unfinished() if t.number < task.number]
        return json_answer(paged("Task", f"/api/tasks/{task.id}/queued-behind", call.query, ahead, task_document))

    async def details(self, call: Call) -> web.Response:
        task = await self._task(call)
        tail = call.query.get("tail", "").strip() or str(DETAIL_LINES)
        if not (tail.isascii() and tail.isdecimal() and len(tail) < 10):
            raise Invalid("The parameter 'tail' must be a whole number.")
        limit = min(int(tail), 100_000)
        activities, store = await self.server.tasks.activities(task.number), self.server.tasks
        lines = {a.id: await store.last_lines(a.id, task.number, limit) for a in activities}
        if call.query.get("verbose", "").lower() == "false":
            lines = {name: [line for line in found if not _is_verbose(line)] for name, found in lines.items()}
        size = sum(len(line.entry.text) for found in lines.values() for line in found)
        return json_answer(details_document(task, activities, lines, size))

    async def raw(self, call: Call) -> web.StreamResponse:
        """The log as text; with `follow` it goes on until the task has ended, `plain` is the bare lines."""
        task = await self._task(call)
        follow, plain = _flag(call.query, "follow"), _flag(call.query, "plain")
        answer = web.StreamResponse(headers={**SAFE, "Content-Type": "text/plain; charset=utf-8"})
        await answer.prepare(call.http)
        if call.method == "HEAD":
            return answer
        with contextlib.suppress(ConnectionError):
            if not plain:
                await answer.write(raw_head(task).encode())
            async for page in self._pages(task.number, follow=follow):
                await answer.write(_text(page, plain=plain, verbose=_flag(call.query, "verbose", otherwise=True)))
            await answer.write_eof()
        return answer

    async def _pages(self, number: int, *, follow: bool) -> AsyncIterator[list[LogElement]]:
        last = 0
        while True:
            # The order matters: whoever looks for the end before the lines could miss the last ones.
            changed = self.server.tasks.changes.event(number)
            task = await self.server.tasks.get(number)
            while page := await self.server.tasks.lines(number, last):
                last = page[-1].number
                yield page
            if not follow or task is None or task.state.final:
                return
            await changed.wait()

    async def _task(self, call: Call) -> Task:
        prefix, _, number = call.path["id"].partition("-")
        known = prefix.lower() == "servertasks" and number.isascii() and number.isdecimal() and len(number) < 18
        task = await self.server.tasks.get(int(number)) if known else None
        if task is None or (call.space is not None and task.space.lower() != call.space.lower()):
            raise NotFound("task", call.path["id"])
        return task


def _read_task(space: str, given: Mapping[str, Any]) -> NewTask:
    shape = (Field("Name", text()), Field("Description", optional(text(2000, blank=True)), None))
    body, problems = read_fields(shape, given)
    if problems:
        raise Invalid("There was a problem with your request.", problems)
    if body["Name"].lower() not in TYPES:
        names = ", ".join(name for name, _ in TYPES.values())
        raise Invalid(f"This server has no task '{body['Name']}'. It has: {names}.")
    name, read = TYPES[body["Name"].lower()]
    arguments = {key.lower(): value for key, value in given.items()}.get("arguments")
    if not isinstance(arguments, dict):
        raise Invalid("The task's Arguments must be a JSON document.")
    return NewTask(space, name, body["Description"] or DESCRIPTIONS[name], read(arguments))


def _wanted(task: Task, call: Call) -> bool:
    query = call.query
    tests = {
        "ids": task.id,
        "name": task.name,
        "states": task.state.value,
        "spaces": task.space,
    }
    if call.space is not None and task.space.lower() != call.space.lower():
        return False
    if any(query.get(name) and value.lower() not in several(query[name]) for name, value in tests.items()):
        return False
    if _flag(query, "active") and task.state.final:
        return False
    return not _flag(query, "running") or task.state in (TaskState.EXECUTING, TaskState.CANCELLING)


def _flag(query: Query, name: str, *, otherwise: bool = False) -> bool:
    value = query.get(name, "").strip().lower()
    return value in ("true", "1", "yes") if value else otherwise


def _is_verbose(line: LogElement) -> bool:
    return line.entry.category == "Verbose"


def _text(page: list[LogElement], *, plain: bool, verbose: bool) -> bytes:
    shown = (line for line in page if verbose or not _is_verbose(line))
    text = "".join(f"{line.entry.text}\n" if plain else raw_line(line) for line in shown)
    return text.encode("utf-8", "replace")
