"""A command's end of the control channel: one connection to the agent of a home directory.

Blocks, with a limit for every step.  Must not know what a method does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tentacle.agent.control.place import connect, process_of_peer, user_of_peer
from tentacle.agent.control.protocol import LONGEST_ANSWER, ControlError, ControlRequest, decode_reply
from tentacle.agent.control.silence import await_answer
from tentacle.disk import user_name
from tentacle.home_layout import CONTROL_SOCKET, LOCK_FILE

ANSWER_SECONDS: Final = 5.0
"""How long is waited for an agent that does not answer: it hangs, or the machine does."""
EVENT_SECONDS: Final = 30.0
"""How long is waited for one that has answered before: it tells every two seconds that it is there."""


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
            try:
                _require_agent(home, user_of_peer(self._socket))
                self._pid = process_of_peer(self._socket)
            except (OSError, ControlError):
                self._socket.close()
                raise
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
        # An agent that refuses to listen says so before it hangs up.
        with self._errors(), suppress(BrokenPipeError):
            self._socket.sendall(ControlRequest(method, params).encode())
            await_answer(self._socket, self._pid, self._seconds)
        while not (reply := decode_reply(self._line())).last:
            # From its first event on it is known that the agent is there.
            self._socket.settimeout(EVENT_SECONDS)
            if reply.values:
                tell(reply.values)
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
            waited = f"{self._socket.gettimeout():g} seconds"
            text = f"The agent has not answered within {waited}: it hangs, or this machine is very busy."
            hint = "It may still do it when it goes on.  If it does not, restart it: scripts that run go on meanwhile."
            raise ControlError("silent", text, hint=hint) from None
        except OSError as error:
            raise NoAgent(self._path, error) from None


def _require_agent(home: Path, user: int) -> None:
    """Raises `ControlError` unless the one who answers belongs to the user that has locked `home`, or to root.

    In a directory where others may make files, another program could wait for root there.
    """
    owner = (home / LOCK_FILE).lstat().st_uid
    if user not in (0, owner):
        path, who = home / CONTROL_SOCKET, user_name(user)
        raise ControlError(
            "stranger", f"{path} belongs to {who}, and the agent to {user_name(owner)}: nothing was asked."
        )
