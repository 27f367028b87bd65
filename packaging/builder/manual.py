"""Manual pages, made from the table of commands and the commands' own help.  Knows man(7)."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

from builder.exit_codes import EXIT_CODES
from tentacle.cli.frame.command import TentacleCommand
from tentacle.cli.frame.command_table import ENTRIES, GROUPS, entry_of
from tentacle.cli.frame.help_text import HELP_OPTION, OptionHelp
from tentacle.cli.main import load


def write(directory: Path, version: str) -> None:
    """Writes `tentacle.1.gz`, and a page for each command, into `directory`."""
    directory.mkdir(parents=True)
    pages = {"tentacle": general(version)} | {f"tentacle-{e.name}": page(load(e), version) for e in ENTRIES}
    for name, text in pages.items():
        (directory / f"{name}.1.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    (directory / "Tentacle.1.gz").symlink_to("tentacle.1.gz")


def general(version: str) -> str:
    """The page of the whole program."""
    lines = [
        *_beginning("tentacle", "Octopus-compatible worker agent", version),
        r".B tentacle",
        r".I command",
        r"[\fIoptions\fR]",
        ".SH DESCRIPTION",
        "Octopus Server hands the steps of a deployment to workers; this is the agent that runs on a worker, and its",
        "command line.",
        ".PP",
        "\\fBtentacle init\\fR sets a worker up from beginning to end; \\fBtentacle status\\fR shows how it is, and",
        "\\fBtentacle doctor\\fR looks for whatever keeps it from working.",
        ".PP",
        "Options are written \\fB\\-\\-name=value\\fR or \\fB\\-\\-name value\\fR; their case does not matter.",
    ]
    for title, names in GROUPS:
        lines.append(f".SH {escaped(title.upper())}")
        for name in names:
            lines += [".TP", f"\\fBtentacle\\-{escaped(name)}\\fR(1)", *_text(entry_of(name).description)]
    lines += [".SH EXIT STATUS", *_exit_codes(), ".SH FILES", *_files()]
    return "\n".join(lines) + "\n"


def page(command: TentacleCommand, version: str) -> str:
    """The page of one command."""
    entry = command.entry
    lines = [*_beginning(f"tentacle-{entry.name}", entry.description, version)]
    lines += [f".B tentacle {escaped(entry.name)}", r"[\fIoptions\fR]"]
    if command.notes:
        lines += [".SH DESCRIPTION", ".nf", *(escaped(line) for line in command.notes.splitlines()), ".fi"]
    lines.append(".SH OPTIONS")
    for one in (*command.described_options, HELP_OPTION):
        lines += [".TP", _names(one), *_text(one.description)]
    lines += [".SH SEE ALSO", "\\fBtentacle\\fR(1)"]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """`text` as it stands in a page: no word of it is taken for a request or for an escape."""
    text = text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq")
    return rf"\&{text}" if text.startswith(".") else text


def _beginning(name: str, summary: str, version: str) -> Iterator[str]:
    yield f'.TH "{escaped(name.upper())}" 1 "" "Tentacle {version}" "Tentacle"'
    yield from (".SH NAME", rf"{escaped(name)} \- {escaped(summary.rstrip('.'))}", ".SH SYNOPSIS")


def _names(one: OptionHelp) -> str:
    value = r"=\fIVALUE\fR" if one.takes_value else ""
    dashed = [f"-{name}" if len(name) == 1 else f"--{name}" for name in one.names]
    return ", ".join(rf"\fB{escaped(name)}\fR" for name in dashed) + value


def _text(text: str) -> Iterator[str]:
    yield escaped(" ".join(text.split())) or "."


def _exit_codes() -> Iterator[str]:
    for code, meaning in EXIT_CODES:
        yield from (".TP", str(code), *_text(meaning))


def _files() -> Iterator[str]:
    for path, meaning in (
        ("/etc/octopus", "The names of the machine's instances, and usually their configurations, keys and logs."),
        ("/etc/systemd/system", "The unit of each instance, written by \\fBtentacle service\\fR."),
        ("/var/lib/tentacle", "The home of the user that services run as."),
    ):
        yield from (".TP", rf"\fI{escaped(path)}\fR", meaning)
