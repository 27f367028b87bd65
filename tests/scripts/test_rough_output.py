"""Output that no terminal would show: rubbish, cut characters, progress bars, endless lines, late children."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tentacle.errors import TentacleError
from tentacle.masking import MASK, Mask
from tentacle.scripts.engine import EngineOptions, ScriptEngine
from tentacle.scripts.output.lines import cut_mark
from tentacle.scripts.output.reader import LogReader
from tentacle.scripts.shim.log_format import ERR, HEADER, OUT, VERSION, record
from tests.patience import PATIENCE
from tests.scripts.lab import QUICK, Lab, lines, until

MEBIBYTE = 1024 * 1024
SECRET = "s3cret-of-the-agent"


class MaskedLab(Lab):
    """Its agent knows a secret."""

    def __init__(self, work: Path, options: EngineOptions = QUICK) -> None:
        super().__init__(work, options)
        name, value = self.mark.split("=")
        self.engine = ScriptEngine(work, environment={name: value}, options=options, known=[SECRET])


@pytest.fixture(params=[Lab, MaskedLab], ids=["plain", "masked"])
async def any_lab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Lab]:
    lab: Lab = request.param(tmp_path / "home" / "Work")
    await lab.engine.start()
    yield lab
    await lab.close()


async def test_rubbish_comes_as_it_is(any_lab: Lab, tmp_path: Path) -> None:
    data = os.urandom(700_000) + b"\0" * 1000 + b"\xff\xfe\r\r\n\n\r" + os.urandom(300_000)
    (tmp_path / "rubbish").write_bytes(data)
    status = await any_lab.run(f"cat {tmp_path}/rubbish; exit 4")
    expected = [line.decode("utf-8", "replace") for line in re.split(rb"\r\n|\n|\r", data)]
    assert lines(status) == expected[: len(expected) - (expected[-1] == "")]
    assert status.exit_code == 4


async def test_characters_that_are_cut_by_the_reads(any_lab: Lab) -> None:
    status = await any_lab.run(
        r"printf '\xf0\x9f'; sleep 0.03; printf '\x98\x80\xc5'; sleep 0.03; printf '\n\xbe\n'; printf '\xe2\x82'"
    )
    assert lines(status) == ["😀�", "�", "�"]


async def test_a_progress_bar(any_lab: Lab) -> None:
    status = await any_lab.run(r"for i in {1..500}; do printf '\rstep %d' $i; printf 'e%d\r\n' $i >&2; done; echo")
    own = lines(status)
    assert [line for line in own if line.startswith("step")] == [f"step {n}" for n in range(1, 501)]
    assert [line for line in own if line.startswith("e")] == [f"e{n}" for n in range(1, 501)]


async def test_a_child_that_speaks_after_the_end_of_the_script(any_lab: Lab) -> None:
    """The pipe is the child's too: the run ends with it (docs/spec/services.md, "Waiting for the end"), in the original
    as here.
    """
    status = await any_lab.run(f"(sleep 0.3; echo late; echo {SECRET} >&2) & echo early; exit 3")
    said = SECRET if type(any_lab) is Lab else MASK
    assert (lines(status), status.exit_code) == (["early", "late", said], 3)


async def test_a_secret_written_byte_by_byte_on_both_streams(tmp_path: Path) -> None:
    lab = MaskedLab(tmp_path / "home" / "Work")
    await lab.engine.start()
    script = f"""
        s={SECRET}
        for ((i = 0; i < ${{#s}}; i++)); do printf %s "${{s:i:1}}"; printf '%s\\n' "${{s:i:1}}" >&2; done; echo .
    """
    own = lines(await lab.run(script))
    assert sorted(own) == sorted([f"{MASK}.", *[MASK] * len(SECRET)])
    await lab.close()


async def test_a_line_without_end_takes_no_memory_where_it_is_written_down(
    new_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    lab = new_lab()
    await lab.engine.start()
    await lab.start(
        "head -c 80000000 /dev/zero | tr '\\0' z; touch ../written; until [ -e ../go ]; do sleep 0.02; done"
    )
    await until((lab.work / "written").exists)
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{lab.shim()}/status").read_text())
    assert peak is not None
    assert int(peak[1]) < 40 * 1024
    (lab.work / "go").touch()
    assert await lab.engine.drain(TentacleError("no more"), PATIENCE) == ()


# --- a log of many gigabytes, scaled ---------------------------------------------------------------------------------


def bytes_read() -> int:
    """By this process, from whatever and however."""
    found = re.search(r"rchar: (\d+)", Path("/proc/self/io").read_text())
    assert found is not None
    return int(found[1])


def test_a_page_near_the_end_of_a_huge_log_costs_what_it_brings(tmp_path: Path) -> None:
    """Every record is a hole of 4 MiB: the file is huge and takes no room."""
    log = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT)
    try:
        size = 4 * MEBIBYTE
        os.write(log, VERSION)
        header = record(OUT, 1, b"\0" * size)[:HEADER]
        for number in range(8):
            os.pwrite(log, header, len(VERSION) + number * (len(header) + size))
        os.ftruncate(log, len(VERSION) + 8 * (len(header) + size))
        reader, after, more = LogReader(MEBIBYTE, Mask([SECRET])), 0, True
        while more:
            page = reader.read(log, after, 8 * MEBIBYTE, ended=None)
            after, more = page.next_sequence, page.more
        assert after == 8 * 4 - 1
        assert page.entries[-1].text == "\0" * MEBIBYTE + cut_mark(MEBIBYTE)
        before = bytes_read()
        for number in range(50):
            os.lseek(log, 0, os.SEEK_END)
            os.write(log, record(ERR, 2, b"line %d\n" % number))
            page = reader.read(log, after, 8 * MEBIBYTE, ended=None)
            assert [entry.text for entry in page.entries] == [f"line {number}"]
            after = page.next_sequence
        assert bytes_read() - before < 50 * 4096
    finally:
        os.close(log)
