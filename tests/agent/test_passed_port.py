"""A listening socket that was there before the agent."""

from __future__ import annotations

import os
import socket
import tempfile

import pytest

from tentacle.agent.passed_port import stored_name, take_port
from tentacle.host.passed_files import PassedFile


def listening(
    name: str = "port.socket", family: int = socket.AF_INET, *, listens: bool = True
) -> tuple[PassedFile, int]:
    """A socket as systemd passes it, and its port."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
    if listens:
        sock.listen()
    port = int(sock.getsockname()[1])
    return PassedFile(sock.detach(), name), port


def is_open(file: PassedFile) -> bool:
    try:
        os.fstat(file.descriptor)
    except OSError:
        return False
    return True


@pytest.fixture
def forgotten() -> list[str]:
    return []


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_socket_of_a_unit_is_used_when_it_has_the_port(family: int, forgotten: list[str]) -> None:
    file, port = listening(family=family)
    found = take_port([file], None, port, forgotten.append)
    assert found is not None
    with found:
        assert (found.getsockname()[1], forgotten) == (port, [])


def test_what_an_agent_with_the_same_settings_has_left_is_used_also_where_the_system_chose_the_port(
    forgotten: list[str],
) -> None:
    file, port = listening(stored_name("127.0.0.1", 0))
    found = take_port([file], "127.0.0.1", 0, forgotten.append)
    assert found is not None
    with found:
        assert found.getsockname()[1] == port
    assert forgotten == []


@pytest.mark.parametrize(("host", "port"), [(None, None), (None, 1), ("127.0.0.1", 1), ("::1", 2)])
def test_what_was_left_for_other_settings_is_closed_here_and_there(
    forgotten: list[str], host: str | None, port: int | None
) -> None:
    name = stored_name(None, 2)
    file, _ = listening(name)
    assert take_port([file], host, port, forgotten.append) is None
    assert (is_open(file), forgotten) == (False, [name])


def test_what_is_no_listening_socket_of_tcp_is_closed(forgotten: list[str], caplog: pytest.LogCaptureFixture) -> None:
    deaf, port = listening(listens=False)
    other, _ = listening()
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with tempfile.TemporaryFile() as plain:
        files = [deaf, other, PassedFile(datagrams.detach(), ""), PassedFile(os.dup(plain.fileno()), "")]
    assert take_port(files, None, port, forgotten.append) is None
    assert [is_open(file) for file in files] == [False] * 4
    assert "A socket unit listens at 127.0.0.1:" in caplog.text


def test_one_of_several_is_used(forgotten: list[str]) -> None:
    stale, (file, port) = listening(stored_name(None, 1))[0], listening()
    found = take_port([stale, file], None, port, forgotten.append)
    assert found is not None
    found.close()
    assert (is_open(stale), forgotten) == (False, [stored_name(None, 1)])


def test_a_name_holds_nothing_that_the_protocol_reserves() -> None:
    assert ":" not in stored_name("fe80::1%eth0", 10933)
    assert stored_name("::1", 1) != stored_name(None, 1) != stored_name(None, 2)
