"""Queue a task, look at it, follow its log, cancel it (docs/spec/rest.md, "Tasks").

Knows how tasks are asked for; must not know how they run.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from aiohttp import web

from tentacle.devserver.rest.access import SIGNED_IN, VIEW_TASKS, Needs, needs_of
from tentacle.devserver.rest.answers import SAFE, Problem, ResourceNotFound, answer, created
from tentacle.devserver.rest.documents import details_document, raw_head, raw_line, task_document, task_path
from tentacle.devserver.rest.paging import TASK_FILTERS, filtered, flag_parameter, number_parameter, paged
from tentacle.devserver.rest.routing import ApiRequest, Route
from tentacle.devserver.rest.server import Server
from tentacle.devserver.storage import UNSCOPED, Invalid, Json, LogElement, NewTask, Task, TaskState, fields, kinds
from tentacle.devserver.tasks import TASK_TYPES

DETAIL_LINES: Final = 2000
"""Lines per activity in the details unless a request states a number; the raw log has all of them."""

MOST_DETAIL_LINES: Final = 100_000
_SHAPE: Final = (fields.Field("Name", fields.text()), fields.note("Description", 2000), fields.note("SpaceId"))
_CREATE, _CANCEL, _EDIT = (Needs((f"Task{verb}",), anywhere=True) for verb in ("Create", "Cancel", "Edit"))
_STATE: Final = (fields.Field("State", fields.choice(*TaskState)), fields.note("Reason", 2000))


@dataclass(frozen=True)
class TaskRoutes:
    server: Server

    def routes(self) -> list[Route]:
        types = [{"Id": known.name, "Name": known.description} for known in TASK_TYPES]
        return [
            Route("GET", "tasks", self.page, VIEW_TASKS),
            Route("POST", "tasks", self.create, _CREATE),
            Route("GET", "tasks/tasktypes", partial(answer, types), SIGNED_IN),
            Route("GET", "tasks/{id}", self.one, VIEW_TASKS),
            Route("GET", "tasks/{id}/details", self.details, VIEW_TASKS),
            Route("GET", "tasks/{id}/raw", self.raw, VIEW_TASKS),
            Route("POST", "tasks/{id}/cancel", self.cancel, _CANCEL),
            Route("POST", "tasks/{id}/prioritize", self.prioritize, _EDIT),
            Route("POST", "tasks/{id}/state", self.set_state, _EDIT),
            Route("GET", "tasks/{id}/queued-behind", self.queued_behind, VIEW_TASKS),
            Route("POST", "tasks/rerun/{id}", self.rerun, _CREATE),
            Route("GET", "artifacts/{id}/content", self.artifact, needs_of(kinds.ARTIFACTS, "GET"), kinds.ARTIFACTS),
        ]

    async def create(self, request: ApiRequest) -> web.Response:
        given = await request.json()
        body = fields.read_fields(_SHAPE, given)
        # The .NET client names the space of a task in its document alone.
        space = await self.server.space_id(request.space or body["SpaceId"])
        request.rights.require(_CREATE, space)
        known = {task_type.name.lower(): task_type for task_type in TASK_TYPES}
        task_type = known.get(body["Name"].lower())
        if task_type is None:
            names = ", ".join(known_type.name for known_type in TASK_TYPES)
            raise Invalid(f"This server has no task '{body['Name']}'. It has: {names}.")
        arguments = fields.member(given, "Arguments")
        if not isinstance(arguments, dict):
            raise Invalid("The task's Arguments must be a JSON document.")
        description = body["Description"] or task_type.description
        new = NewTask(space, task_type.name, description, task_type.read_arguments(arguments))
        return await self._queue(new, request)

    async def rerun(self, request: ApiRequest) -> web.Response:
        task = await self._task(request, _CREATE)
        return await self._queue(NewTask(task.space, task.name, task.description, task.arguments), request)

    async def _queue(self, new: NewTask, request: ApiRequest) -> web.Response:
        if (await self.server.resource(kinds.SPACES, UNSCOPED, new.space)).body["TaskQueueStopped"]:
            raise Problem("The task queue of this space is stopped.", 400)
        task = await self.server.queue.add(new)
        await self.server.note(request.rights.user, "Created", f"task '{task.description}'", task.id, task.space)
        return created(task_document(task), task_path(task))

    async def cancel(self, request: ApiRequest) -> Json:
        task = await self._task(request, _CANCEL)
        await self.server.queue.cancel(task.number)
        await self.server.note(request.rights.user, "Canceled", f"task '{task.description}'", task.id, task.space)
        return task_document(await self._task(request))

    async def prioritize(self, request: ApiRequest) -> Json:
        task = await self._task(request, _EDIT)
        self.server.queue.prioritize(task.number)
        return task_document(task)

    async def set_state(self, request: ApiRequest) -> Json:
        """Says how a task that has ended, ended; one that has not is cancelled, and nothing else."""
        task, body = await self._task(request, _EDIT), fields.read_fields(_STATE, await request.json())
        state = TaskState(body["State"])
        if not state.final:
            raise Problem(f"A task cannot be made '{state}'. Run it again instead.", 400)
        if not task.state.final:
            raise Problem("This task has not ended yet. Cancel it first.", 400)
        await self.server.tasks.correct(task.number, state, body["Reason"] or "")
        await self.server.note(request.rights.user, "Modified", f"task '{task.description}'", task.id, task.space)
        return task_document(await self._task(request))

    async def artifact(self, request: ApiRequest) -> web.StreamResponse:
        headers = {**SAFE, "Content-Type": "application/octet-stream"}
        return web.FileResponse(self.server.artifacts.content(request.resource.id), headers=headers)

    async def page(self, request: ApiRequest) -> Json:
        seen = [task for task in await self.server.tasks.newest_first() if request.sees(VIEW_TASKS, task.space)]
        found = filtered(seen, request.query, TASK_FILTERS)
        page = paged("Task", "/api/tasks", request.query, found, task_document)
        counts = Counter(task.state.value for task in found)
        return {**page, "TotalCounts": {**dict.fromkeys(map(str, TaskState), 0), **counts}}

    async def one(self, request: ApiRequest) -> Json:
        return task_document(await self._task(request))

    async def queued_behind(self, request: ApiRequest) -> Json:
        task = await self._task(request)
        ahead = [t for t in self.server.queue.unfinished() if t.number < task.number]
        return paged("Task", f"{task_path(task)}/queued-behind", request.query, ahead, task_document)

    async def details(self, request: ApiRequest) -> Json:
        task, store = await self._task(request), self.server.tasks
        limit = min(number_parameter(request.query, "tail", DETAIL_LINES), MOST_DETAIL_LINES)
        verbose = flag_parameter(request.query, "verbose", otherwise=True)
        activities = await store.activities(task.number)
        lines = {
            activity.id: _shown(await store.last_lines(activity.id, task.number, limit), verbose=verbose)
            for activity in activities
        }
        size = sum(len(line.text) for found in lines.values() for line in found)
        return details_document(task, activities, lines, size)

    async def raw(self, request: ApiRequest) -> web.StreamResponse:
        """The log as text; with `follow` it goes on until the task has ended, `plain` is the bare lines.

        With `after` it begins behind the line of that number, without the head.
        """
        task, after = await self._task(request), number_parameter(request.query, "after", 0)
        follow, plain = flag_parameter(request.query, "follow"), flag_parameter(request.query, "plain")
        verbose = flag_parameter(request.query, "verbose", otherwise=True)
        written = web.StreamResponse(headers={**SAFE, "Content-Type": "text/plain; charset=utf-8"})
        await written.prepare(request.http)
        if request.method == "HEAD":
            return written
        names: dict[str, str] = {}
        activity = ""
        with contextlib.suppress(ConnectionError):
            await written.write(b"" if plain or after else raw_head(task).encode())
            async for page in self._pages(task.number, after, follow=follow):
                text = ""
                for line in _shown(page, verbose=verbose):
                    if not plain and line.activity != activity:
                        activity = line.activity
                        if activity not in names:
                            names = {a.id: a.name for a in await self.server.tasks.activities(task.number)}
                        # Whose lines follow, such as those of one worker.
                        text += f"{'':<21}|   == {names[activity]} ==\n"
                    text += f"{line.text}\n" if plain else raw_line(line)
                await written.write(text.encode("utf-8", "replace"))
            await written.write_eof()
        return written

    async def _pages(self, number: int, last: int, *, follow: bool) -> AsyncIterator[list[LogElement]]:
        while True:
            # The order matters: looking for the end before the lines could miss the last ones.
            changed = self.server.tasks.change(number)
            task = await self.server.tasks.get(number)
            while page := await self.server.tasks.lines(number, last):
                last = page[-1].number
                yield page
            if not follow or task is None or task.state.final:
                return
            await changed.wait()

    async def _task(self, request: ApiRequest, needs: Needs = VIEW_TASKS) -> Task:
        """Returns the task of a request.  Raises `ResourceNotFound` also for one in a space where it is not allowed."""
        prefix, _, written = request.path["id"].partition("-")
        number = fields.whole_number(written, 10**17) if prefix.lower() == "servertasks" else None
        task = None if number is None else await self.server.tasks.get(number)
        if task is None or not request.sees(needs, task.space):
            raise ResourceNotFound("task", request.path["id"])
        return task


def _shown(lines: list[LogElement], *, verbose: bool) -> list[LogElement]:
    return [line for line in lines if verbose or line.category != "Verbose"]
