"""Commands for Windows: refused in a line that says what to do instead (docs/spec/command-line.md,
"Commands for other kinds of hosts").
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.refusals import refusal


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("arguments", [("checkservices", "--instances=*"), ("watchdog",)])
def test_it_says_what_to_do_instead(tentacle: Any, arguments: tuple[str, ...], form: str) -> None:
    ended = tentacle(*arguments, f"--format={form}")
    assert ended.code == 1
    text, hint = refusal(ended, form)
    assert text == "This command is only supported on Windows."
    assert "'Tentacle " in hint


def test_checkservices_asks_for_its_instances_first(tentacle: Any) -> None:
    ended = tentacle("checkservices")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == (
        "Use --instances argument to specify which instances to check. Use --instances=* to check all instances.\n"
    )


def test_watchdog_repeats_what_it_was_asked_to_do_and_refuses(tentacle: Any) -> None:
    ended = tentacle("watchdog", "--interval=7", "--create", "--delete", "--instances=a")
    assert ended.code == 1
    assert ended.lines == [
        "Setting watchdog task interval to 7 minutes",
        "Creating watchdog task",
        "Removing watchdog task",
    ]
