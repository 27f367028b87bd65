"""Queue a task, look at it, follow its log, cancel it (docs/spec/rest.md, "Tasks").

Knows how tasks are asked for; must not know how they run.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from tentacle.devserver.rest.answers import SAFE, Forbidden, ResourceNotFound, json_answer
from tentacle.devserver.rest.documents import collection_path, document
from tentacle.devserver.rest.paging import TASK_FILTERS, filtered, flag_parameter, number_parameter, paged
from tentacle.devserver.rest.routing import ApiRequest, Route
from tentacle.devserver.rest.server import Server
from tentacle.devserver.rest.task_documents import details_document, raw_head, raw_line, task_document, task_path
from tentacle.devserver.storage import (
    ARTIFACTS,
    Field,
    Invalid,
    LogElement,
    NewTask,
    Task,
    member,
    optional,
    read_fields,
    text,
    whole_number,
)
from tentacle.devserver.tasks import TASK_TYPES

DETAIL_LINES: Final = 2000
"""Lines per activity in the details unless a request states a number; the raw log has all of them."""

MOST_DETAIL_LINES: Final = 100_000
_SHAPE: Final = (Field("Name", text()), Field("Description", optional(text(2000, blank=True)), None))


@dataclass(frozen=True)
class TaskRoutes:
    server: Server

    def routes(self) -> list[Route]:
        return [
            Route("GET", "tasks", self.page),
            Route("POST", "tasks", self.create),
            Route("GET", "tasks/tasktypes", self.types),
            Route("GET", "tasks/{id}", self.one),
            Route("GET", "tasks/{id}/details", self.details),
            Route("GET", "tasks/{id}/raw", self.raw),
            Route("POST", "tasks/{id}/cancel", self.cancel),
            Route("POST", "tasks/{id}/state", self.set_state),
            Route("GET", "tasks/{id}/queued-behind", self.queued_behind),
            Route("POST", "tasks/rerun/{id}", self.rerun),
            Route("GET", "artifacts", self.artifacts),
            Route("GET", "artifacts/{id}", self.artifact),
            Route("GET", "artifacts/{id}/content", self.artifact_content),
        ]

    # --- asking ------------------------------------------------------------------------------------------------

    async def create(self, request: ApiRequest) -> web.Response:
        space, given = await self.server.space_of(request), await request.json()
        body = read_fields(_SHAPE, given)
        known = {task_type.name.lower(): task_type for task_type in TASK_TYPES}
        task_type = known.get(body["Name"].lower())
        if task_type is None:
            names = ", ".join(known_type.name for known_type in TASK_TYPES)
            raise Invalid(f"This server has no task '{body['Name']}'. It has: {names}.")
        arguments = member(given, "Arguments")
        if not isinstance(arguments, dict):
            raise Invalid("The task's Arguments must be a JSON document.")
        description = body["Description"] or task_type.description
        return await self._queue(NewTask(space, task_type.name, description, task_type.read_arguments(arguments)))

    async def rerun(self, request: ApiRequest) -> web.Response:
        task = await self._task(request)
        return await self._queue(NewTask(task.space, task.name, task.description, task.arguments))

    async def _queue(self, new: NewTask) -> web.Response:
        task = await self.server.queue.add(new)
        return json_answer(task_document(task), 201, {"Location": task_path(task)})

    async def cancel(self, request: ApiRequest) -> web.Response:
        task = await self._task(request)
        await self.server.queue.cancel(task.number)
        return json_answer(task_document(await self._task(request)))

    async def set_state(self, _: ApiRequest) -> web.Response:
        raise Forbidden("This server does not change the state of a task; cancel it or run it again.")

    # --- artifacts -----------------------------------------------------------------------------------------------

    async def artifacts(self, request: ApiRequest) -> web.Response:
        space, task = await self.server.space_of(request), request.query.get("regarding")
        found = await self.server.store.all(ARTIFACTS, space)
        wanted = [one for one in found if task is None or one.body["ServerTaskId"].lower() == task.lower()]
        path = collection_path(ARTIFACTS, space)
        return json_answer(paged(ARTIFACTS.item_type, path, request.query, wanted, document))

    async def artifact(self, request: ApiRequest) -> web.Response:
        space = await self.server.space_of(request)
        return json_answer(document(await self.server.resource(ARTIFACTS, space, request.path["id"])))

    async def artifact_content(self, request: ApiRequest) -> web.StreamResponse:
        found = await self.server.resource(ARTIFACTS, await self.server.space_of(request), request.path["id"])
        headers = {**SAFE, "Content-Type": "application/octet-stream"}
        return web.FileResponse(self.server.artifacts.content(found.id), headers=headers)

    # --- looking -----------------------------------------------------------------------------------------------

    async def types(self, _: ApiRequest) -> web.Response:
        return json_answer([{"Id": known.name, "Name": known.description} for known in TASK_TYPES])

    async def page(self, request: ApiRequest) -> web.Response:
        tasks = [task for task in await self.server.tasks.newest_first() if _in_space(task, request)]
        found = filtered(tasks, request.query, TASK_FILTERS)
        return json_answer(paged("Task", "/api/tasks", request.query, found, task_document))

    async def one(self, request: ApiRequest) -> web.Response:
        return json_answer(task_document(await self._task(request)))

    async def queued_behind(self, request: ApiRequest) -> web.Response:
        task = await self._task(request)
        ahead = [t for t in self.server.queue.unfinished() if t.number < task.number]
        return json_answer(paged("Task", f"{task_path(task)}/queued-behind", request.query, ahead, task_document))

    async def details(self, request: ApiRequest) -> web.Response:
        task, store = await self._task(request), self.server.tasks
        limit = min(number_parameter(request.query, "tail", DETAIL_LINES), MOST_DETAIL_LINES)
        verbose = flag_parameter(request.query, "verbose", otherwise=True)
        activities = await store.activities(task.number)
        lines = {
            activity.id: _shown(await store.last_lines(activity.id, task.number, limit), verbose=verbose)
            for activity in activities
        }
        size = sum(len(line.entry.text) for found in lines.values() for line in found)
        return json_answer(details_document(task, activities, lines, size))

    async def raw(self, request: ApiRequest) -> web.StreamResponse:
        """The log as text; with `follow` it goes on until the task has ended, `plain` is the bare lines."""
        task = await self._task(request)
        follow, plain = flag_parameter(request.query, "follow"), flag_parameter(request.query, "plain")
        verbose = flag_parameter(request.query, "verbose", otherwise=True)
        answer = web.StreamResponse(headers={**SAFE, "Content-Type": "text/plain; charset=utf-8"})
        await answer.prepare(request.http)
        if request.method == "HEAD":
            return answer
        with contextlib.suppress(ConnectionError):
            if not plain:
                await answer.write(raw_head(task).encode())
            async for page in self._pages(task.number, follow=follow):
                entries = [line.entry for line in _shown(page, verbose=verbose)]
                written = "".join(f"{entry.text}\n" if plain else raw_line(entry) for entry in entries)
                await answer.write(written.encode("utf-8", "replace"))
            await answer.write_eof()
        return answer

    async def _pages(self, number: int, *, follow: bool) -> AsyncIterator[list[LogElement]]:
        last = 0
        while True:
            # The order matters: looking for the end before the lines could miss the last ones.
            changed = self.server.tasks.changes.event(number)
            task = await self.server.tasks.get(number)
            while page := await self.server.tasks.lines(number, last):
                last = page[-1].number
                yield page
            if not follow or task is None or task.state.final:
                return
            await changed.wait()

    async def _task(self, request: ApiRequest) -> Task:
        prefix, _, written = request.path["id"].partition("-")
        number = whole_number(written, 10**17) if prefix.lower() == "servertasks" else None
        task = None if number is None else await self.server.tasks.get(number)
        if task is None or not _in_space(task, request):
            raise ResourceNotFound("task", request.path["id"])
        return task


def _in_space(task: Task, request: ApiRequest) -> bool:
    return request.space is None or task.space.lower() == request.space.lower()


def _shown(lines: list[LogElement], *, verbose: bool) -> list[LogElement]:
    return [line for line in lines if verbose or line.entry.category != "Verbose"]
