"""`make demo` itself: it works, and whatever happens to it, it leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stage import ServerApi, processes_below
from tests.patience import PATIENCE

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def demo(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.demo", *getattr(request, "param", ())],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def output_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return line
    pytest.fail(f"the demo never said {text!r}")


def test_the_demo_works_and_leaves_nothing_behind(demo: subprocess.Popen[str], tmp_path: Path) -> None:
    output, _ = demo.communicate(timeout=PATIENCE)
    assert demo.returncode == 0, output
    for command in (
        "create-instance", "new-certificate", "configure", "register-worker", "agent", "deregister-worker",
    ):  # fmt: skip
        assert output.count(f"$ tentacle {command} ") == (3 if command == "configure" else 2)
    assert "a script started and its log followed with curl" in output
    assert "Nothing was left behind" in output
    assert "API-" not in "".join(line for line in output.splitlines() if line.startswith("$"))
    assert not list(tmp_path.glob("tentacle-*"))
    assert not processes_below(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_behind(
    demo: subprocess.Popen[str], tmp_path: Path, number: signal.Signals
) -> None:
    """In the middle of a script, whose process would otherwise outlive its agent on purpose."""
    output_until(demo, "step 1 of 3")
    demo.send_signal(number)
    output, _ = demo.communicate(timeout=PATIENCE)
    assert demo.returncode == 130
    assert "Interrupted in the step" in output
    assert not list(tmp_path.glob("tentacle-*"))
    assert not processes_below(tmp_path)


@pytest.mark.parametrize("demo", [("--keep",)], indirect=True)
def test_a_demo_that_is_kept_is_there_until_it_is_interrupted(demo: subprocess.Popen[str], tmp_path: Path) -> None:
    told = re.search(r"Open (\S+) and sign in with the API key (\S+)", output_until(demo, "Open http"))
    assert told is not None
    output_until(demo, "Ctrl-C ends it.")
    server = ServerApi(told[1], 0, "", told[2])
    names = {"listening-worker", "polling-worker"}
    assert {worker["Name"] for worker in server.get("api/Spaces-1/workers/all")} == names
    task = server.run_script(server.worker("polling-worker")["Id"], "echo still here")
    assert server.finished(task)["State"] == "Success"
    demo.send_signal(signal.SIGINT)
    output, _ = demo.communicate(timeout=PATIENCE)
    assert (demo.returncode, "Nothing was left behind" in output) == (0, True), output
    assert not list(tmp_path.glob("tentacle-*"))
    assert not processes_below(tmp_path)
