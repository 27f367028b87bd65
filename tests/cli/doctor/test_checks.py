"""What `doctor` makes of clocks, rights, shells, ports and of a server that is not to be trusted with a terminal."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from tentacle.cli.doctor.bundle import Masking, last_lines, secrets_of
from tentacle.cli.doctor.finding import Level, aside
from tentacle.cli.doctor.instance import Patient, clone, rights
from tentacle.cli.doctor.machine import bash, environment_proxies, without_userinfo
from tentacle.cli.doctor.octopus import _clock
from tentacle.cli.doctor.ports import port_owner
from tentacle.observe.redaction import Redactor
from tentacle.octopus.exchange import Reply
from tentacle.settings import certificates
from tentacle.settings.model import ProxySettings, Settings
from tentacle.settings.store import SettingsFile
from tests.sockets import talking

KEY = "API-TESTKEY0123456789"
BAD = "\x1b]0;owned\x07\x1b[2J"


@pytest.mark.parametrize(
    ("ahead", "level"),
    [(0, Level.OK), (20, Level.OK), (-20, Level.OK), (60, Level.WARN), (-60, Level.WARN), (4000, Level.FAIL)],
)
def test_clocks(ahead: float, level: Level) -> None:
    now = 1_795_421_700.0
    reply = Reply(200, URL("http://o/api"), {"date": formatdate(now - ahead, usegmt=True)}, b"")
    [found] = _clock(reply, now)
    assert found.level is level


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Nov 99999 00:00:00 GMT"])
def test_a_server_without_a_clock_is_not_judged(date: str) -> None:
    assert _clock(Reply(200, URL("http://o/api"), {"date": date}, b""), 0.0) == []


def test_rights(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    config = tmp_path / "T.config"
    config.write_text("")
    config.chmod(0o600)
    assert [one.level for one in rights(config, tmp_path)] == [Level.OK]
    config.chmod(0o640)
    tmp_path.chmod(0o777)
    found = list(rights(config, tmp_path))
    assert [(one.level, one.advice) for one in found] == [
        (Level.FAIL, f"chmod 600 {config}; if others could see it: tentacle new-certificate"),
        (Level.FAIL, f"chmod go-w '{tmp_path}'"),
    ]
    assert [one.level for one in rights(config, tmp_path / "gone")] == [Level.FAIL, Level.FAIL]


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A link to the configuration of an instance with a certificate; the key stands beside the file."""
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "links").mkdir(mode=0o700)
    SettingsFile(tmp_path / "real" / "T.config").save(Settings(certificate=certificates.generate()))
    link = tmp_path / "links" / "L.config"
    link.symlink_to(tmp_path / "real" / "T.config")
    return link


def test_the_key_of_a_linked_configuration_must_be_private_too(linked: Path, tmp_path: Path) -> None:
    assert [one.level for one in rights(linked, tmp_path / "real")] == [Level.OK]
    for name in ("key", "origin"):
        path = tmp_path / "real" / f"T.config.{name}"
        path.chmod(0o644)
        [found] = rights(linked, tmp_path / "real")
        assert found.found == f"{path} can be read by others (mode 0644)"
        path.chmod(0o600)


def test_a_clone_is_found_behind_a_link(linked: Path, tmp_path: Path) -> None:
    settings = SettingsFile(linked).load()
    assert [one.level for one in clone(linked, settings)] == [Level.OK]
    path = tmp_path / "real" / "T.config.origin"
    path.write_text(json.dumps({**json.loads(path.read_text()), "host": "first"}))
    [found] = clone(linked, settings)
    assert found.level is Level.WARN
    assert f"rm {path}" in (found.advice or "")


def test_the_key_of_a_linked_configuration_is_a_secret(linked: Path, tmp_path: Path) -> None:
    key = (tmp_path / "real" / "T.config.key").read_text().strip()
    assert key in set(secrets_of(Patient(config=linked), {}))


def test_bash(tmp_path: Path) -> None:
    assert bash()[0].level is Level.OK
    assert bash(tmp_path / "bash")[0].level is Level.FAIL
    (tmp_path / "old").write_text("#!/bin/sh\necho 'GNU bash, version 3.2.57(1)-release'\n")
    (tmp_path / "old").chmod(0o755)
    assert bash(tmp_path / "old")[0].level is Level.WARN
    (tmp_path / "odd").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "odd").chmod(0o755)
    assert bash(tmp_path / "odd")[0].level is Level.FAIL


def test_whose_port_it_is() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert port_owner(taken.getsockname()[1]) is None
        taken.listen()
        assert "(process " in (port_owner(taken.getsockname()[1]) or "")


def test_proxy_variables_are_shown_without_their_passwords() -> None:
    [found] = environment_proxies({"https_proxy": "http://u:p@ss@proxy:3128", "NO_PROXY": "a,b", "PATH": "x"})
    assert found.found.endswith("NO_PROXY=a,b, https_proxy=http://********@proxy:3128")


@given(st.text(), st.text(alphabet="abc:@", min_size=1))
def test_no_password_stays_in_an_address(before: str, secret: str) -> None:
    assert f"://{secret}@" not in without_userinfo(f"{before} http://{secret}@host/")


async def test_what_blocks_is_left_alone_after_its_time() -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        await aside(lambda: time.sleep(3), 0.1)
    assert time.monotonic() - began < 2.5
    with pytest.raises(OSError, match="gone"):
        await aside(lambda: (_ for _ in ()).throw(OSError("gone")))


@pytest.mark.parametrize(
    "text",
    [
        "https://user:S3CRET@host/",
        "Authorization: Bearer S3CRETS3CRET",
        "authorization: basic S3CRETS3CRET",
        "-----BEGIN PRIVATE KEY-----\nS3CRET\n-----END PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----\nS3CRET cut off",
        "sealed:1:S3CRETS3CRET==",
        "eyJhbGciOiJSS3CRET.S3CRET.S3CRET",
        "password=S3CRET",
        "API-S3CRETS3CRETS3CRET",
        "known: S3CRET+/",
        "known as JSON: S3CRET\\u00e9",
    ],
)
def test_whatever_looks_like_a_secret_is_masked(text: str) -> None:
    masked = Masking(Redactor(), ["S3CRET+/", "S3CRETé"])(f"before {text} after")
    assert "S3CRET" not in masked
    assert masked.startswith("before ")


def test_every_secret_of_an_instance_and_of_the_environment_is_known() -> None:
    made = [certificates.generate() for _ in range(3)]
    settings = Settings(
        certificate=made[0],
        next_certificate=made[1],
        previous_certificate=made[2],
        proxy=ProxySettings(password="proxy-pw"),
        polling_proxy=ProxySettings(password="polling-pw"),
    )
    environ = {"DB_PASS": "pass-of-db", "TENTACLE_CERTIFICATE": "cGZ4", "MY_TOKEN": "abc", "LANG": "C.UTF-8"}
    found = set(secrets_of(Patient(settings=settings), environ))
    assert {"proxy-pw", "polling-pw", "pass-of-db", "cGZ4"} <= found
    assert not found & {"abc", "C.UTF-8"}, "what is too short would be found everywhere"
    for one in made:
        assert one.key_pem.decode().splitlines()[1] in found


def test_the_end_of_a_long_log_begins_with_a_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"first line\n" * 10 + b"last \x1b[2J\xff line\n")
    text = last_lines(path, 30)
    assert text == "first line\nlast \\x1b[2J\ufffd line\n"
    assert "cannot be read" in last_lines(tmp_path / "gone")
    (tmp_path / "link").symlink_to("/etc/shadow")
    assert "cannot be read" in last_lines(tmp_path / "link")


async def test_a_server_cannot_reach_the_terminal_or_show_the_key(tentacle: Any, instance: Path, octopus: Any) -> None:
    tentacle.ok("new-certificate", "--instance=I")
    tentacle.ok("configure", "--instance=I", "--noListen=True", f"--trust={'B' * 40}")
    own = tentacle.ok("show-thumbprint", "--instance=I").out
    endpoint = {"CommunicationStyle": "TentacleActive", "Thumbprint": own, "Uri": f"poll://{BAD}/"}
    octopus.workers += [{"Id": "Workers-1", "Name": f"{BAD}{KEY}", "Endpoint": endpoint, "Links": {}}] * 2
    ended = await tentacle.aside(
        *("doctor", "--instance=I", f"--server={octopus.url}", f"--apiKey={KEY}", "--server-comms-port=1", "--verbose")
    )
    assert ended.code == 1
    assert all(line.isprintable() for line in (ended.out + ended.err).splitlines())
    assert KEY not in ended.out + ended.err
    text = " ".join(ended.out.split())
    assert "2 machines on the server have our thumbprint" in text
    assert f"--oldThumbprint={'B' * 40} --newThumbprint=679DDD85" in text
    assert "FAIL poll tcp 127.0.0.1:1: connection refused" in text


async def test_a_server_that_refuses_the_key(tentacle: Any, instance: Path, octopus: Any) -> None:
    octopus.keys.clear()
    ended = await tentacle.aside(
        *("doctor", "--instance=I", f"--server={octopus.url}", f"--apiKey={KEY}", "--server-comms-port=1")
    )
    assert ended.code == 1
    assert "FAIL signed in" in " ".join(ended.out.split())
    assert KEY not in ended.out


async def test_something_that_is_no_octopus(tentacle: Any) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n\x1b[2Jhi")

    async with talking(answer) as port:
        ended = await tentacle.aside("doctor", f"--server=http://127.0.0.1:{port}", "--server-comms-port=1")
    assert ended.code == 1
    assert "not like an Octopus Server" in " ".join(ended.out.split())


def test_help_of_our_own_commands_fits_a_terminal(tentacle: Any) -> None:
    for name in ("status", "doctor", "init", "completion"):
        lines = tentacle.ok(name, "--help").out.splitlines()
        assert all(len(line.rstrip()) <= 80 for line in lines), name
