"""Programs of other makes that stand between an agent and its server: squid as HTTP proxy, nginx as SNI router.

Each runs in the foreground on loopback, with nothing but its own small configuration, in a directory of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tests.e2e.stage import StepFailed, free_port, kill_everything_below
from tests.patience import PATIENCE

NCSA = Path("/usr/lib/squid/basic_ncsa_auth")
STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


@dataclass(frozen=True)
class Neighbour:
    """`port` on loopback, and what it has written about its connections."""

    port: int
    log: Path

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def wait_for(self, text: str) -> str:
        """The first line of the log with `text` in it."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for line in self.lines():
                if text in line:
                    return line
            time.sleep(0.02)
        raise StepFailed(f"{self.log} has no line with {text!r}: {self.lines()}")


@contextmanager
def squid(
    user: str | None = None,
    password: str = "",
    *,
    refuse: int | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    knows: str = "localhost",
) -> Iterator[Neighbour]:
    """A proxy; with `user` it wants basic authentication, and it does not tunnel to the port `refuse`.

    It `knows` a name for this machine that nobody else does.
    """
    port = port or free_port()
    with _directory("proxy") as directory:
        rules = ["http_access allow all"]
        if user is not None:
            _write_passwords(directory / "users", user, password)
            rules = [
                f"auth_param basic program {NCSA} {directory / 'users'}",
                "acl known proxy_auth REQUIRED",
                "http_access allow known",
                "http_access deny all",
            ]
        if refuse is not None:
            rules.insert(0, f"acl forbidden port {refuse}\nhttp_access deny forbidden")
        settings = [
            f"http_port [{host}]:{port}" if ":" in host else f"http_port {host}:{port}",
            f"access_log stdio:{directory / 'access.log'}",
            f"cache_log {directory / 'cache.log'}",
            f"coredump_dir {directory}",
            f"hosts_file {directory / 'hosts'}",
            "pid_filename none",
            "visible_hostname squid",
            "cache deny all",
            "shutdown_lifetime 0 seconds",
            "netdb_filename none",
            "pinger_enable off",
            *rules,
        ]
        (directory / "hosts").write_text(f"127.0.0.1 {knows}\n")
        (directory / "squid.conf").write_text("\n".join(settings) + "\n")
        command = [_need("squid"), "-N", "-f", str(directory / "squid.conf"), "-n", f"s{port}"]
        with _running(_as("proxy", command), directory, port, host):
            yield Neighbour(port, directory / "access.log")


@contextmanager
def sni_router(name: str, backend: int) -> Iterator[Neighbour]:
    """Passes TLS connections that ask for `name` on to the port `backend`, unopened, and drops all others."""
    port = free_port()
    if not STREAM_MODULE.exists():
        raise StepFailed(f"{STREAM_MODULE} is missing; install libnginx-mod-stream")
    with _directory("www-data") as directory:
        (directory / "nginx.conf").write_text(
            f"""
            load_module {STREAM_MODULE};
            daemon off;
            master_process off;
            pid {directory / "nginx.pid"};
            error_log {directory / "error.log"};
            events {{ worker_connections 64; }}
            stream {{
                map $ssl_preread_server_name $chosen {{ {name} 127.0.0.1:{backend}; default 127.0.0.1:1; }}
                log_format names "name=$ssl_preread_server_name to=$chosen status=$status";
                access_log {directory / "access.log"} names;
                server {{ listen 127.0.0.1:{port}; ssl_preread on; proxy_pass $chosen; }}
            }}
            """
        )
        command = [_need("nginx"), "-c", str(directory / "nginx.conf"), "-p", str(directory)]
        command += ["-e", str(directory / "error.log")]
        with _running(_as("www-data", command), directory, port):
            yield Neighbour(port, directory / "access.log")


@contextmanager
def https_front(
    backend: str, prefix: str, certificate: bytes, key: bytes, port: int | None = None
) -> Iterator[Neighbour]:
    """Ends TLS for the HTTP server at the URL `backend`, which does not know that it lives below `/prefix/`."""
    settings = f"location /{prefix}/ {{ proxy_pass {backend}; proxy_http_version 1.1; }}"
    with nginx(certificate, key, settings, port=port) as front:
        yield front


@contextmanager
def web_socket_front(
    backend: str, own: tuple[bytes, bytes], shown: tuple[bytes, bytes], port: int | None = None
) -> Iterator[Neighbour]:
    """Ends TLS for `/below`, with its `own` certificate, before a web socket at `backend`, to which it shows another.

    Certificates come with their keys.
    """
    # As in nginx's own description of a proxy for web sockets; it also ends what is idle for a minute.
    settings = f"""
        location = /below {{
            proxy_pass {backend};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
            proxy_ssl_certificate shown.crt;
            proxy_ssl_certificate_key shown.key;
        }}
    """
    with nginx(*own, settings, {"shown.crt": shown[0], "shown.key": shown[1]}, port) as front:
        yield front


@contextmanager
def nginx(
    certificate: bytes,
    key: bytes,
    settings: str,
    files: Mapping[str, bytes] = MappingProxyType({}),
    port: int | None = None,
) -> Iterator[Neighbour]:
    """An nginx that serves HTTPS with these `settings`, and has these `files` beside them."""
    port = port or free_port()
    with _directory("www-data") as directory:
        for name, content in {"server.crt": certificate, "server.key": key, **files}.items():
            (directory / name).write_bytes(content)
        temporary = "\n".join(
            f"{kind}_temp_path {directory / kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (directory / "nginx.conf").write_text(
            f"""
            daemon off;
            master_process off;
            pid {directory / "nginx.pid"};
            error_log {directory / "error.log"};
            events {{ worker_connections 64; }}
            http {{
                access_log {directory / "access.log"};
                {temporary}
                server {{
                    listen 127.0.0.1:{port} ssl;
                    ssl_certificate {directory / "server.crt"};
                    ssl_certificate_key {directory / "server.key"};
                    {settings}
                }}
            }}
            """
        )
        command = [_need("nginx"), "-c", str(directory / "nginx.conf"), "-p", str(directory)]
        command += ["-e", str(directory / "error.log")]
        with _running(_as("www-data", command), directory, port):
            yield Neighbour(port, directory / "access.log")


def _need(program: str) -> str:
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise StepFailed(f"{program} is missing; install Debian's package of that name")
    return found


def _as(user: str, command: list[str]) -> list[str]:
    """The command under an ordinary user: neither program likes to be root."""
    if os.geteuid() != 0:
        return command
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *command]


@contextmanager
def _directory(user: str) -> Iterator[Path]:
    """Below /tmp itself, as the directories of tests are closed to other users."""
    directory = Path(tempfile.mkdtemp(prefix="tentacle-", dir="/tmp"))
    try:
        if os.geteuid() == 0:
            shutil.chown(directory, user, user)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _running(command: list[str], directory: Path, port: int, host: str = "127.0.0.1") -> Iterator[None]:
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            command, cwd=directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        _wait_until_open(process, directory, host, port)
        yield
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait()
        kill_everything_below(directory)


def _wait_until_open(process: subprocess.Popen[bytes], directory: Path, host: str, port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
            return
        time.sleep(0.02)
    logs = [path.read_text(errors="replace")[-500:] for path in directory.iterdir() if path.suffix in {"", ".log"}]
    raise StepFailed(f"{process.args!r} does not listen: {' / '.join(logs)}")


def _write_passwords(path: Path, user: str, password: str) -> None:
    hashed = subprocess.run(
        ["openssl", "passwd", "-apr1", "-stdin"], input=password, capture_output=True, text=True, check=True
    ).stdout.strip()
    path.write_text(f"{user}:{hashed}\n")
    path.chmod(0o644)
