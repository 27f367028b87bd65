"""The agent's side of every recorded conversation, by the real services: the server's bytes in, our bytes out."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from bson.datetime_ms import DatetimeMS

from tentacle.services.halibut import answer_request
from tentacle.wire.call_context import CallContext
from tentacle.wire.connection import Connection
from tentacle.wire.events import (
    End,
    Event,
    Identity,
    IdentityKind,
    Next,
    Nothing,
    Preface,
    Proceed,
    RequestEvent,
    ResponseEvent,
    StreamBegin,
    StreamChunk,
    StreamEnd,
)
from tentacle.wire.messages import Request, Response, announced_streams, guid, read_guid
from tentacle.wire.rules import Role
from tests.patience import PATIENCE
from tests.recorded import Recorded, conversations
from tests.services.bench import Bench

ALL = [pytest.param(c, id=c.name) for c in conversations()]
CANCEL_NOISE = re.compile(r"Swallowing \w+ (calling|while waiting for) .*")
DATE = DatetimeMS(0)


@pytest.fixture
def bench(halibut_bench: Bench) -> Bench:
    """What is tested here are Halibut's messages."""
    return halibut_bench


@dataclass
class Side:
    """One end of a connection: what arrives becomes events, with the bodies of streams put together."""

    connection: Connection
    bodies: dict[UUID, bytes] = field(default_factory=dict)
    _current: UUID | None = None

    def receive(self, data: bytes) -> list[Event]:
        self.connection.receive_data(data)
        events: list[Event] = []
        while (event := self.connection.next_event()) is not None:
            match event:
                case StreamBegin(identity, _):
                    self._current = identity
                    self.bodies[identity] = b""
                case StreamChunk(chunk):
                    assert self._current is not None
                    self.bodies[self._current] += chunk
                case StreamEnd():
                    pass
                case _:
                    events.append(event)
        return events


@dataclass
class Rename:
    """From what stood in the recording to what stands here: paths, and the tickets that V1 makes."""

    pairs: dict[str, str] = field(default_factory=dict)

    def __call__(self, value: Any) -> Any:
        if isinstance(value, str):
            for old, new in self.pairs.items():
                value = value.replace(old, new)
            return value
        if isinstance(value, dict):
            return {name: self(inner) for name, inner in value.items()}
        return [self(inner) for inner in value] if isinstance(value, list | tuple) else value


def roles(recorded: Recorded) -> tuple[Role, Role]:
    if recorded.dialled_by == "server":
        return Role.LISTENING_SERVICE, Role.LISTENING_CLIENT
    return Role.POLLING_SERVICE, Role.POLLING_CLIENT


def normal(value: Any) -> Any:
    """A result without what differs from run to run."""
    if isinstance(value, dict):
        if read_guid(value.get("id")) is not None:
            return {**value, "id": "a stream"}
        return {name: DATE if name == "Occurred" else normal(inner) for name, inner in value.items()}
    return [normal(inner) for inner in value] if isinstance(value, list) else value


def plain_log(entries: list[Any]) -> list[tuple[int, str]]:
    """Source and text: of the streams only what each said is certain, not which of them was read first."""
    said: list[tuple[int, str]] = []
    for source, text in ((e["Source"], e["Text"]) for e in entries):
        if said and said[-1][1] == "IV__" and source == 0:
            continue  # The encrypted file goes on: any of its random bytes may be a line's end.
        if not CANCEL_NOISE.fullmatch(text):
            said.append((source, "IV__" if text.startswith("IV__") else text))
    return [e for e in said if e[0] != 1] + [e for e in said if e[0] == 1]


class Play:
    """The conversation: requests from the recording go to our services, answers are compared with the recorded."""

    def __init__(self, bench: Bench, recorded: Recorded) -> None:
        agent, server = roles(recorded)
        self.recorded = recorded
        self.bench = bench
        self.ours = Side(Connection(agent))
        self.theirs = Side(Connection(server))
        """Reads what we send, as the server would."""
        self.script = Side(Connection(agent))
        self.recorded_agent = Side(Connection(server))
        """Reads the recording from both sides, to know what was meant."""
        self.rename = Rename()
        self.logs: dict[str, tuple[list[Any], list[Any]]] = {}
        self.next_sequence: dict[str, int] = {}
        self.request: Request | None = None

    async def run(self) -> None:
        self.find_paths()
        for turn in self.recorded.turns:
            if turn.sender == "server":
                for event in self.meant(self.script, self.recorded_agent, turn.data):
                    await self.server_says(event)
            else:
                for event in self.meant(self.recorded_agent, self.script, turn.data):
                    await self.agent_says(event)

    def find_paths(self) -> None:
        text = " ".join(str(turn.parts) for turn in self.recorded.turns)
        found = re.search(r"'(/[^' ]+)/Work/", text)
        if found is not None:
            self.rename.pairs[found[1]] = str(self.bench.home)
            self.rename.pairs["running as 'root'"] = f"running as '{Path(self.bench.home).owner()}'"
        self.rename.pairs["/home/Octopus/Applications"] = str(self.bench.home / "Applications")

    def meant(self, side: Side, other: Side, data: bytes) -> Iterator[Event]:
        """The events of a turn of the recording; both its ends are kept in step."""
        events = side.receive(data)
        for event in events:
            for _ in other.connection.send(event):
                pass
            if isinstance(event, RequestEvent | ResponseEvent):
                message = event.request if isinstance(event, RequestEvent) else event.response
                for identity, length in announced_streams(message):
                    for piece in (StreamBegin(identity, length), StreamChunk(side.bodies[identity]), StreamEnd()):
                        other.connection.send(piece)
            yield event

    async def server_says(self, event: Event) -> None:
        """Sends what the server said, about our paths and tickets, and sees that we take it for the same."""
        files: Mapping[UUID, bytes] = {}
        if isinstance(event, RequestEvent):
            params = tuple(self.asked(self.rename(list(event.request.params))))
            event = RequestEvent(replace(event.request, params=params), event.streams)
            files = {i: self.script.bodies[i] for i, _ in announced_streams(event.request)}
            self.request = event.request
        got = self.ours.receive(self.sent(self.theirs.connection, event, files))
        assert got == [event]

    def asked(self, params: list[Any]) -> list[Any]:
        """Pages of the log follow what we said, not what the original had written by then."""
        for param in params:
            if isinstance(param, dict) and "LastLogSequence" in param:
                ticket = param["Ticket"]["TaskId"]
                param["LastLogSequence"] = type(param["LastLogSequence"])(self.next_sequence.get(ticket, 0))
        return params

    async def agent_says(self, recorded: Event) -> None:
        event = recorded
        files: dict[UUID, bytes] = {}
        if isinstance(recorded, ResponseEvent):
            response, files = await self.answer(recorded.response)
            event = ResponseEvent(response, len(files))
        got = self.theirs.receive(self.sent(self.ours.connection, event, files))
        assert got == [event]
        assert type(event) is type(recorded)

    def sent(self, connection: Connection, event: Event, files: Mapping[UUID, bytes]) -> bytes:
        data = b"".join(connection.send(event))
        for identity, body in files.items():
            for piece in (StreamBegin(identity, len(body)), StreamChunk(body), StreamEnd()):
                data += b"".join(connection.send(piece))
        return data

    async def answer(self, recorded: Response) -> tuple[Response, dict[UUID, bytes]]:
        """Our answer to the last request; of a status, when the script has come as far as the recorded one."""
        request = self.request
        assert request is not None
        spooled: dict[UUID, Path] = {}
        for identity, _ in announced_streams(request):
            spooled[identity] = self.bench.spool / uuid4().hex
            spooled[identity].write_bytes(self.ours.bodies[identity])
        if request.method == "CancelScript":
            await self.until_said(self.rename(recorded.result))
        while True:
            response, opened = await answer_request(self.bench.dispatcher.answer, request, spooled, CallContext())
            bodies = {identity: file.read() for identity, file in opened.items()}
            for file in opened.values():
                file.close()
            if self.is_it(recorded, response):
                return response, bodies
            assert request.method == "GetStatus"
            await asyncio.sleep(0.02)

    async def until_said(self, recorded: dict[str, Any]) -> None:
        """Waits until the script has said what it had said when it was cancelled."""
        wanted = {entry["Text"] for entry in recorded["Logs"]}
        while (status := await self.bench.engine.status(recorded["Ticket"]["TaskId"], 0)) is not None:
            if wanted <= {entry.text for entry in status.entries}:
                return
            await asyncio.sleep(0.02)
        assert not wanted

    def is_it(self, recorded: Response, ours: Response) -> bool:
        """Compares; false while a script that is asked about has not yet said all that the recorded one had."""
        assert ours.id == recorded.id
        if recorded.error is not None or is_empty_ticket(recorded):
            assert_same_error(recorded, ours)
            return True
        assert ours.error is None, ours.error
        if isinstance(recorded.result, dict) and "Logs" in recorded.result:
            return self.is_status(self.rename(recorded.result), ours.result)
        if isinstance(recorded.result, dict) and list(recorded.result) == ["$type", "TaskId"]:
            assert re.fullmatch(r"\d{14}-9-\d+", ours.result["TaskId"])
            self.rename.pairs[recorded.result["TaskId"]] = ours.result["TaskId"]
        assert normal(ours.result) == normal(self.rename(recorded.result))
        assert ours.result is None or list(ours.result) == list(recorded.result)
        for (identity, length), (mine, own_length) in zip(
            announced_streams(recorded), announced_streams(ours), strict=True
        ):
            assert (length, mine == identity) == (own_length, False)
        return True

    def is_status(self, recorded: dict[str, Any], ours: dict[str, Any]) -> bool:
        ticket = ours["Ticket"]["TaskId"]
        theirs_so_far, ours_so_far = self.logs.setdefault(ticket, ([], []))
        ours_so_far += ours["Logs"]
        self.next_sequence[ticket] = ours["NextLogSequence"]
        assert self.request is not None
        self.request = replace(self.request, params=tuple(self.asked(list(self.request.params))))
        assert len(ours_so_far) == ours["NextLogSequence"]
        if ours["State"] < recorded["State"] or not covers(ours_so_far, theirs_so_far + recorded["Logs"]):
            return False
        theirs_so_far += recorded["Logs"]
        if recorded["State"] == 2:
            assert plain_log(ours_so_far) == plain_log(theirs_so_far)
            without = {"Logs", "NextLogSequence"}
            assert [(k, v) for k, v in ours.items() if k not in without] == [
                (k, v) for k, v in recorded.items() if k not in without
            ]
        assert (list(ours), ours["$type"], ours["Ticket"]) == (list(recorded), recorded["$type"], recorded["Ticket"])
        return True


def covers(ours: list[Any], recorded: list[Any]) -> bool:
    """Whether we have said everything that was said."""
    mine = plain_log(ours)
    return all(entry in mine for entry in plain_log(recorded))


def is_empty_ticket(recorded: Response) -> bool:
    """The one recorded success that must be a failure here (vectors/README.md)."""
    return isinstance(recorded.result, dict) and recorded.result.get("Ticket") == {"TaskId": ""}


def assert_same_error(recorded: Response, ours: Response) -> None:
    assert ours.result is None
    assert ours.error is not None
    if recorded.error is None:
        assert ours.error.message == "The script ticket '' cannot name a workspace: it is empty"
        return
    assert (ours.error.message, ours.error.error_type) == (recorded.error.message, recorded.error.error_type)
    theirs, mine = (str(e.details).split("\n") for e in (recorded.error, ours.error))
    assert mine[: 2 if theirs[0].startswith("System.Reflection") else 1] == theirs[: len(mine)]


@pytest.mark.parametrize("recorded", ALL)
async def test_the_agent_s_side_of_a_recorded_conversation(bench: Bench, recorded: Recorded) -> None:
    play = Play(bench, recorded)
    async with asyncio.timeout(PATIENCE):
        await play.run()
    assert await bench.left() == []
    for theirs, ours in play.logs.values():
        assert plain_log(ours) == plain_log(theirs)


def test_events_are_all_known_here() -> None:
    kinds = {type(e) for c in conversations() for e in all_events(c)}
    assert kinds <= {Preface, Identity, Next, Proceed, End, Nothing, RequestEvent, ResponseEvent}
    assert {e.kind for c in conversations() for e in all_events(c) if isinstance(e, Identity)} == set(IdentityKind)


def all_events(recorded: Recorded) -> Iterator[Event]:
    agent, server = roles(recorded)
    script, other = Side(Connection(agent)), Side(Connection(server))
    play = Play.__new__(Play)
    for turn in recorded.turns:
        sides = (script, other) if turn.sender == "server" else (other, script)
        yield from play.meant(*sides, turn.data)


def test_the_guid_of_a_stream_is_recognised() -> None:
    identity = uuid4()
    assert normal([{"id": guid(identity), "length": 1}]) == [{"id": "a stream", "length": 1}]
