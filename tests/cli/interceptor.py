"""Somebody in between who inspects TLS, as firewalls of companies do: a real `openssl s_server`."""

from __future__ import annotations

import socket
import subprocess
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.e2e.stage import free_port
from tests.patience import PATIENCE


@dataclass
class Interceptor:
    """A TLS port whose certificate somebody else has issued, as inspecting firewalls have it: real `openssl`."""

    directory: Path
    port: int = field(default_factory=free_port)

    def __enter__(self) -> Interceptor:
        key, certificate, ca_key, ca = (str(self.directory / f"inspector.{n}") for n in ("key", "pem", "ca-key", "ca"))
        new = ["openssl", "req", "-newkey", "rsa:2048", "-noenc", "-days", "2"]
        run = partial(subprocess.run, check=True, capture_output=True)
        run([*new, "-x509", "-keyout", ca_key, "-out", ca, "-subj", "/O=Corporate/CN=Inspector"])
        signed = ["-x509", "-CA", ca, "-CAkey", ca_key, "-keyout", key, "-out", certificate]
        run([*new, *signed, "-subj", "/CN=octopus.example.com"])
        serve = ["openssl", "s_server", "-accept", f"127.0.0.1:{self.port}", "-quiet", "-cert", certificate]
        self._process = subprocess.Popen(
            [*serve, "-key", key], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            assert time.monotonic() < deadline, "openssl does not listen"
            time.sleep(0.02)
        return self

    def _answers(self) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
