"""The start-up block, whose names tools look up (docs/spec/command-line.md, "Start-up block of the log")."""

from __future__ import annotations

import os
import platform
import socket
from pathlib import Path

import pytest

from tentacle.observe.startup import describe_process, machine_name, processor_count, temp_directory


def test_all_names_are_there_in_the_originals_order() -> None:
    title, environment, *details = describe_process("1.2.3", None, {"TMPDIR": "/x/y"})
    assert title == "Tentacle version 1.2.3 (1.2.3) instance Default"
    assert environment == "Environment Information:"
    found = dict(line.strip().split(": ", 1) for line in details)
    assert list(found) == [
        "OperatingSystem",
        "OsBitVersion",
        "Is64BitProcess",
        "CurrentUser",
        "MachineName",
        "ProcessorCount",
        "CurrentDirectory",
        "TempDirectory",
        "HostProcessName",
        "PID",
    ]
    assert found["TempDirectory"] == "/x/y/"
    assert found["PID"] == str(os.getpid())
    assert found["CurrentDirectory"] == str(Path.cwd())
    assert found["OperatingSystem"] == platform.freedesktop_os_release()["PRETTY_NAME"]


def test_the_instance_is_named() -> None:
    assert describe_process("1", "I", {})[0].endswith("instance I")


@pytest.mark.parametrize(("value", "shown"), [("", "/tmp/"), ("/a", "/a/"), ("/a/", "/a/"), ("/", "/")])
def test_the_temporary_directory_ends_with_a_slash(value: str, shown: str) -> None:
    assert temp_directory({"TMPDIR": value}) == shown


def test_the_machine_s_name_ends_at_its_first_dot() -> None:
    assert socket.gethostname().startswith(machine_name())
    assert "." not in machine_name()


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "1000 100000\n"}, 1),
        ({"cpu.max": "rubbish"}, 8),
        ({"cpu.max": "100 0"}, 8),
        ({"cpu.max": "9900000 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
    ],
)
def test_processors_are_counted_as_the_container_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], count: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert processor_count(tmp_path) == count
