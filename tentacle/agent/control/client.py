"""A command's end of the control channel: one connection to the agent of a home directory.

Blocks, with a limit for every step.  Must not know what a method does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tentacle.agent.control.place import connect
from tentacle.agent.control.protocol import LONGEST_ANSWER, ControlError, ControlRequest, decode_reply
from tentacle.home_layout import CONTROL_SOCKET

ANSWER_SECONDS: Final = 5.0
"""How long is waited for an agent that does not answer: it hangs, or the machine does."""


class NoAgent(ControlError):
    """There is nobody to ask: no agent has opened the channel, or this user may not use it."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__("no-agent", f"The agent cannot be asked: {path}: {error.strerror or type(error).__name__}")
        self.forbidden = isinstance(error, PermissionError)


class ControlClient:
    """An open connection, as a context manager.  Opening it raises `NoAgent`."""

    def __init__(self, home: Path, *, seconds: float = ANSWER_SECONDS) -> None:
        self._path = home / CONTROL_SOCKET
        self._seconds = seconds
        try:
            self._socket = connect(home, seconds)
        except OSError as error:
            raise NoAgent(self._path, error) from None
        self._lines = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._lines.close()
        self._socket.close()

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a method.  Raises `ControlError`."""
        return self.follow(lambda _: None, method, **params)

    def follow(self, tell: Callable[[dict[str, Any]], None], method: str, **params: Any) -> dict[str, Any]:
        """The result of a method that may take any time; `tell` gets its events.  Raises `ControlError`."""
        with self._errors():
            self._socket.sendall(ControlRequest(method, params).encode())
        while not (reply := decode_reply(self._line())).last:
            tell(reply.values)
            # From its first event on it is known that the agent is there.
            self._socket.settimeout(None)
        return reply.values

    def _line(self) -> bytes:
        with self._errors():
            line = self._lines.readline(LONGEST_ANSWER)
        if line.endswith(b"\n"):
            return line
        raise ControlError("gone", "The agent has closed the connection: it has been stopped, or was killed.")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            raise ControlError(
                "silent",
                f"The agent has not answered within {self._seconds:g} seconds: it hangs, or this machine is very busy.",
            ) from None
        except OSError as error:
            raise NoAgent(self._path, error) from None
