"""Connections are accepted whatever happens to one of them, also when no file can be opened any more."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tentacle.transport.doorway import Doorway
from tentacle.transport.listener import bind
from tests.patience import PATIENCE


@pytest.fixture
def door() -> Iterator[socket.socket]:
    with bind("127.0.0.1", 0) as sock:
        yield sock


class House:
    """Keeps whom the doorway lets in."""

    def __init__(self) -> None:
        self.guests: list[socket.socket] = []
        self.addresses: list[object] = []
        self.full = 0
        self._changed = asyncio.Event()

    def accepted(self, sock: socket.socket, address: object) -> None:
        self.guests.append(sock)
        self.addresses.append(address)
        self._changed.set()

    def make_room(self) -> bool:
        """Ends the first connection, if there is one."""
        self.full += 1
        self._changed.set()
        if not self.guests:
            return False
        self.guests.pop(0).close()
        return True

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def close(self) -> None:
        for guest in self.guests:
            guest.close()


@contextmanager
def opened(door: socket.socket, at_once: int = 32) -> Iterator[House]:
    house = House()
    doorway = Doorway(door, house.accepted, house.make_room, at_once)
    doorway.open()
    try:
        yield house
    finally:
        doorway.close()
        doorway.close()
        house.close()


@contextmanager
def no_file_left() -> Iterator[None]:
    """Nothing can be opened any more in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as undo:
        undo.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        # The lowest number that is free, so that only what gets a lower one later can be opened.
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        yield


async def test_many_are_accepted_with_their_addresses(door: socket.socket) -> None:
    with opened(door, at_once=4) as house, ExitStack() as ours:
        callers = [ours.enter_context(socket.create_connection(door.getsockname())) for _ in range(50)]
        await house.until(lambda: len(house.guests) == 50)
        assert house.addresses == [caller.getsockname() for caller in callers]
        assert not any(guest.getblocking() for guest in house.guests)


async def test_others_get_a_turn_while_many_knock(door: socket.socket) -> None:
    with opened(door, at_once=4) as house, ExitStack() as ours:
        for _ in range(40):
            ours.enter_context(socket.create_connection(door.getsockname()))
        turns = 0
        async with asyncio.timeout(PATIENCE):
            while len(house.guests) < 40:
                await asyncio.sleep(0)
                turns += 1
        assert turns >= 10


async def test_room_is_made_when_no_file_is_left(door: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    with opened(door) as house, ExitStack() as ours:
        first = ours.enter_context(socket.create_connection(door.getsockname()))
        await house.until(lambda: len(house.guests) == 1)
        callers = [ours.enter_context(socket.socket()) for _ in range(3)]
        with no_file_left():
            for caller in callers:
                caller.setblocking(False)
                await asyncio.get_running_loop().sock_connect(caller, door.getsockname())
            await house.until(lambda: len(house.addresses) == 4)
        assert first.recv(1) == b""
        assert len(house.guests) == 1
    assert "A connection cannot be accepted: Too many open files" in caplog.text


async def test_without_anybody_to_spare_callers_wait_until_there_is_room(door: socket.socket) -> None:
    with opened(door) as house, socket.socket() as caller:
        caller.setblocking(False)
        with no_file_left():
            await asyncio.get_running_loop().sock_connect(caller, door.getsockname())
            await house.until(lambda: house.full > 0)
            assert not house.guests
        await house.until(lambda: len(house.guests) == 1)


async def test_a_closed_door_is_closed(door: socket.socket) -> None:
    with opened(door):
        address = door.getsockname()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


async def test_it_may_be_closed_while_nobody_can_come_in(door: socket.socket) -> None:
    with opened(door) as house, socket.socket() as caller:
        caller.setblocking(False)
        with no_file_left():
            await asyncio.get_running_loop().sock_connect(caller, door.getsockname())
            await house.until(lambda: house.full > 0)
