"""What a result, a failure and a surprise look like to the person, to a tool and in the log."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from tentacle import __version__
from tentacle.cli.frame.result import CommandResult
from tests.cli.streams import Deaf


def test_at_a_terminal_the_prompt_is_not_glued_to_the_version(tentacle: Any) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for arguments, end in ((["version"], f"{__version__}\n"), (["help"], "for more details.\n")):
        out = Terminal()
        assert tentacle(*arguments, stdout=out).code == 0
        assert out.getvalue().endswith(end)
        assert not out.getvalue().endswith("\n\n")


def test_an_unexpected_error_is_one_line_and_its_traceback_is_in_the_log(tentacle: Any, instance: Path) -> None:
    ended = tentacle("show-configuration", "--instance=I", stdout=Deaf())
    log = instance / "Logs" / "OctopusTentacle.txt"
    assert ended.code == 100
    [line] = ended.err.splitlines()
    assert line == rf"Unexpected error: RuntimeError: the key is ********\nERROR  forged (details in {log})"
    text = tentacle.log(instance)
    assert "    Traceback (most recent call last):" in text
    assert "API-ABCDEFGHIJKLMNOP" not in text
    assert "\nERROR" not in text


def test_a_log_that_cannot_be_written_is_said(tentacle: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = tentacle("version", stdout=Deaf(), environ={"DefaultLogDirectory": f"{tmp_path}/file"})
    assert ended.code == 100
    assert ended.err.rstrip().endswith(f"(its details are lost: {tmp_path}/file/OctopusTentacle.txt cannot be written)")


def test_steps_are_shown_one_by_one_and_their_result_last(tentacle: Any) -> None:
    from tentacle.cli.frame.render import render
    from tentacle.cli.frame.session import CommandSession, ProcessContext

    out = io.StringIO()
    session = CommandSession(ProcessContext(environ={}, cwd=tentacle.cwd, stdout=out, stderr=out))
    seen: list[str] = []

    def steps() -> Any:
        yield "one"
        seen.append(out.getvalue())
        yield "two"
        return CommandResult(lines=("three",), data="four", restart=True, exit_code=7)

    with session.logging():
        assert render(steps(), session) == 7
    assert seen == ["one\n"]
    assert out.getvalue() == "one\ntwo\nthree\nfourThese changes require a restart of the service.\n"
