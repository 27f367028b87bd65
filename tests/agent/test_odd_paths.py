"""The table "Answers for odd paths" of docs/spec/services.md, line by line, over real connections to a real agent."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tentacle.settings.scripts import ScriptSettings
from tests.agent.process import AgentHome, Server
from tests.agent.transfer_calls import Caller

SPEC = Path(__file__).parents[2] / "docs" / "spec" / "services.md"
NO_FORM = "The path '{}' is not in a form that can be used."
NO_FILE = "'{p}' is neither a file nor a directory."
IS_DIRECTORY = "{p} is a directory not a file"
LONG = "y" * 300
DATA = b"uploaded"


@dataclass(frozen=True)
class Row:
    """A path below the directory `{d}`, what is there before, and the answers: a message, or bytes, or None for null.

    In a message `{p}` is the path and `{h}` the agent's home.  `upload` of True: the file is made at `{d}/` + `made`.
    """

    path: str
    upload: str | bool | None
    download: str | bytes | None
    made: str = ""
    before: Callable[[Path], object] = lambda _: None
    data: bytes = DATA


def a_file(name: str) -> Callable[[Path], object]:
    return lambda d: (d / name).write_bytes(b"there")


def a_link(name: str, to: str) -> Callable[[Path], object]:
    return lambda d: (d / name).symlink_to(to)


def in_a_workspace(d: Path) -> None:
    """A workspace, as a script may leave it, with links that lead out of it and back into it."""
    workspace, outside = d / "instance" / "Work" / "T", d / "outside"
    for directory in (workspace / "inner", outside):
        directory.mkdir(parents=True, exist_ok=True)
    (outside / "file").write_bytes(b"secret")
    (workspace / "real").write_bytes(b"real")
    links: dict[str, Path | str] = {
        "out": outside / "file",
        "out-d": outside,
        "back": workspace / "real",
        "up": "../../../outside/file",
        "around": "inner/../../T/real",
    }
    for name, target in links.items():
        if not (workspace / name).is_symlink():
            (workspace / name).symlink_to(target)


def two_names(d: Path) -> None:
    (d / "one").write_bytes(b"there")
    (d / "two").hardlink_to(d / "one")


def a_socket(d: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        # The path of a socket may not be longer than 107 bytes.
        here = os.open(d, os.O_PATH)
        made.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)


OUT = "Access to the path '{p}' is denied. The link '{l}' is not followed: it leads out of the directory of its script."

OUT_BY_DIRECTORY = OUT.replace("{l}", "{d}/instance/Work/T/out-d")
NO_ROOM = (
    "The drive '{d}/small' containing the directory '{d}/small' on machine '" + platform.node() + "' does not have "
    "enough free disk space available for this operation to proceed. "
    "The disk only has 1 MB available; please free up at least 3.2 MB."
)

MOUNTS = """
mount -t tmpfs -o size=1m tmpfs "$1/small" && mount --bind "$1/mounted" "$1/mounted" &&
mount --bind "$1/read-only" "$1/read-only" && mount -o remount,bind,ro "$1/read-only" && shift && exec "$@"
"""

ROWS: dict[str, list[Row]] = {
    "empty, blanks only, or with NUL": [
        Row("", NO_FORM.format(""), NO_FORM.format("")),
        Row(" \t", NO_FORM.format(" \\t"), NO_FORM.format(" \\t")),
        Row("a\0b", NO_FORM.format("a\\x00b"), NO_FORM.format("a\\x00b")),
    ],
    "relative": [Row("relative/f", True, DATA, made="instance/relative/f")],
    r"`a\b`, `//x//./f`, `/x/../f`": [
        Row("{d}\\b", True, DATA, made="b"),
        Row("//{d}//./b2", True, DATA, made="b2"),
        Row("{d}/x/../b3", True, DATA, made="b3"),
    ],
    "`~/f`, `$HOME/f`, `a*`": [
        Row("~/f", True, DATA, made="instance/~/f"),
        Row("{d}/$HOME/a*", True, DATA, made="$HOME/a*"),
    ],
    "blanks around a name, line feeds, quotes": [
        Row("{d}/ a ", True, DATA, made=" a "),
        Row("{d}/a\nb'\"", True, DATA, made="a\nb'\""),
    ],
    "not there": [Row("{d}/missing", None, None), Row("{d}/new/f", True, DATA, made="new/f")],
    "a slash at the end, nothing there": [Row("{d}/newdir/", IS_DIRECTORY, None), Row("{d}/a/newdir/.", None, None)],
    "a slash at the end, a file there": [
        Row(
            "{d}/plain/",
            "'{p}' names a directory, but '{d}/plain' is a file.",
            "'{p}' names a directory, but '{d}/plain' is a file.",
            before=a_file("plain"),
        )
    ],
    "a directory, a link to one, or a path that ends at the root": [
        Row("{d}", IS_DIRECTORY, None),
        Row("{d}/", "{d} is a directory not a file", None),
        Row("/", IS_DIRECTORY, None),
        Row("{d}/link-d", IS_DIRECTORY, None, before=a_link("link-d", ".")),
        Row("/proc", IS_DIRECTORY, None),
    ],
    "a link to a file": [
        Row("{d}/link-f", None, b"there", before=lambda d: (a_file("t")(d), a_link("link-f", "t")(d)))
    ],
    "a link to nothing, or to itself": [
        Row("{d}/dangling", True, DATA, made="dangling", before=a_link("dangling", "nowhere")),
        Row("{d}/loop", True, DATA, made="loop", before=a_link("loop", "loop")),
        Row("{d}/loop2", None, None, before=a_link("loop2", "loop2")),
    ],
    "in a workspace, by a link that stays in it": [
        Row("{d}/instance/Work/T/back", None, b"real", before=in_a_workspace),
        Row("{d}/instance/Work/T/around", None, b"real"),
        Row("{d}/instance/Work/T/real", None, b"real"),
    ],
    "in a workspace, by a link that leads out of it (`private`, `user`)": [
        Row("{d}/instance/Work/T/out", None, OUT.replace("{l}", "{p}"), before=in_a_workspace),
        Row("{d}/instance/Work/T/up", None, OUT.replace("{l}", "{p}")),
        Row("{d}/instance/Work/T/out-d/file", OUT_BY_DIRECTORY, OUT_BY_DIRECTORY),
        Row("{d}/instance/Work/T/out-d/new/file", OUT_BY_DIRECTORY, OUT_BY_DIRECTORY),
        Row("{d}/instance/Work/T/out", True, DATA, made="instance/Work/T/out"),
    ],
    "a pipe, a device, a socket": [
        Row("{d}/pipe", NO_FILE, NO_FILE, before=lambda d: os.mkfifo(d / "pipe")),
        Row("{d}/socket", NO_FILE, NO_FILE, before=a_socket),
        Row("{d}/link-n", NO_FILE, NO_FILE, before=a_link("link-n", "/dev/null")),
        Row("/dev/zero", NO_FILE, NO_FILE),
    ],
    "a file with other names (hard links)": [
        Row(
            "{d}/one",
            True,
            DATA,
            made="one",
            before=two_names,
        ),
        Row("{d}/two", None, b"there"),
    ],
    "a name longer than the file system allows, a path of 4096 bytes": [
        Row("{d}/" + LONG, "Could not write the file '{p}': File name too long", None),
        Row("{d}/" + "x/" * 3000 + "f", "Could not write the file '{p}': File name too long", None),
        Row("{d}/" + "長" * 85, True, DATA, made="長" * 85),
    ],
    "a file where the path needs a directory": [
        Row("{d}/way/f", "The file '{d}/way' already exists.", None, before=a_file("way")),
        Row("{d}/way/f/deeper", "Could not write the file '{p}': Not a directory", None),
    ],
    "below `/proc/nope`": [Row("/proc/nope/x", "Could not find file '/proc/nope'.", None)],
    "a file of `/proc` or `/sys`": [
        Row("/proc/sys/kernel/ostype", None, b"Linux\n"),
        Row("/sys/class/net/lo/address", None, b"00:00:00:00:00:00\n"),
        Row("/sys/class/net/lo/mtu", None, b"65536\n"),
        Row("/proc/self/root/proc/sys/kernel/ostype", None, b"Linux\n"),
        Row("/sys/class/net/lo/speed", None, "Could not read the file '{p}': Invalid argument"),
    ],
    "a file without an end": [
        Row("/proc/self/pagemap", None, "The file '{p}' has no length and does not end."),
    ],
    "no room": [Row("{d}/small/f", NO_ROOM, None, data=bytes(2 * 1024 * 1024))],
    "a read-only file system": [
        Row("{d}/read-only/new", "Could not write the file '{p}': Read-only file system", None),
        Row("{d}/read-only/there", "Could not write the file '{p}': Read-only file system", b"there"),
    ],
    "a file that is a mount of its own": [
        Row("{d}/mounted", "Could not write the file '{p}': Device or resource busy", b"there")
    ],
    "not permitted to the agent's user": [],
}
"""The last line is held by tests/services/test_file_transfer.py: everything is permitted to root."""


def documented() -> list[str]:
    section = SPEC.read_text(encoding="utf-8").partition("### Answers for odd paths\n")[2].partition("\n### ")[0]
    return [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")][1:]


def test_every_line_of_the_table_is_tried() -> None:
    assert documented() == list(ROWS)


async def test_the_table(agent: AgentHome, server: Server) -> None:
    """All lines in one agent: what one call does must not hinder the next."""
    d = agent.directory
    agent.set(scripts=ScriptSettings(sandbox="private"))
    for name in ("small", "read-only"):
        (d / name).mkdir()
    for name in ("mounted", "read-only/there"):
        a_file(name)(d)
    namespace = ("unshare", "--mount") if os.geteuid() == 0 else ("unshare", "--mount", "--map-root-user")
    running = await agent.start(wrapper=(*namespace, "sh", "-c", MOUNTS, "sh", str(d)))
    caller = Caller(server, await running.port())
    for name, rows in ROWS.items():
        for row in rows:
            path = row.path.replace("{d}", str(d))

            def said(text: str, path: str = path) -> str:
                return text.replace("{p}", path).replace("{d}", str(d))

            row.before(d)
            if row.upload is not True:
                await check_download(caller, name, path, row, said)
            if isinstance(row.upload, str):
                before = names(d)
                assert await caller.call("UploadFile", path, row.data) == (said(row.upload), None), (name, path)
                assert names(d) == before, (name, path)
            elif row.upload:
                result, _ = await caller.call("UploadFile", path, DATA)
                made = d / row.made
                assert isinstance(result, dict), (name, path, result)
                assert result["FullPath"] == str(made), (name, path)
                assert result["Hash"] == hashlib.sha1(DATA, usedforsecurity=False).hexdigest()
                assert (result["Length"], made.read_bytes(), made.is_symlink()) == (len(DATA), DATA, False)
                await check_download(caller, name, path, row, said)
    assert (d / "outside" / "file").read_bytes() == b"secret"
    assert [path.name for path in (d / "outside").iterdir()] == ["file"]
    await running.stop()
    assert [line for line in running.said if "Traceback" in line] == []


def names(d: Path) -> list[str]:
    """Everything below `d`, without what the agent keeps for itself."""
    return sorted(str(path) for path in d.rglob("*") if "/instance/" not in str(path) or "/Work/T/" in str(path))


async def check_download(caller: Caller, name: str, path: str, row: Row, said: Callable[[str], str]) -> None:
    result, body = await caller.call("DownloadFile", path)
    if isinstance(row.download, bytes):
        assert isinstance(result, dict), (name, path, result)
        assert (body, result["length"]) == (row.download, len(row.download)), (name, path)
    else:
        expected = None if row.download is None else said(row.download)
        assert (result, body) == (expected, None), (name, path)


async def test_the_environment_of_the_agent_is_sent_as_it_is(agent: AgentHome, server: Server) -> None:
    """Its length says 0."""
    running = await agent.start()
    caller = Caller(server, await running.port())
    _, body = await caller.call("DownloadFile", "/proc/self/environ")
    assert body == Path(f"/proc/{running.process.pid}/environ").read_bytes()
    assert re.search(rb"(^|\0)TENTACLE_TEST=", body)
    await running.stop()
