"""Which program has a port."""

from __future__ import annotations

import socket

from tentacle.cli.doctor.listening import port_owner


def test_whose_port_it_is() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert port_owner(taken.getsockname()[1]) is None
        taken.listen()
        assert "(process " in (port_owner(taken.getsockname()[1]) or "")
