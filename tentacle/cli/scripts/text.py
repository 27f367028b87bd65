"""How scripts and their logs are shown: a table for people, documents for programs.

Pure: values in, text out.  Text from outside is made visible.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tentacle.cli.frame.style import Style, counted, iso, moment, size, span
from tentacle.observe.text import visible
from tentacle.scripts.inventory import ENDED, LOST, RUNNING, WAITING, KnownScript

_HEAD: Final = ("STATE", "SINCE (UTC)", "TOOK", "EXIT", "CPU", "MEMORY", "PROCESSES", "TASK", "TICKET")
_SOURCES: Final = {"STD_OUT": "StdOut", "STD_ERR": "StdErr", "DEBUG": "Debug"}


def shown_scripts(scripts: Sequence[KnownScript], last: int) -> list[KnownScript]:
    """Those that have not ended, and the `last` ones that have."""
    ended = [one for one in scripts if one.state in (ENDED, LOST)]
    kept = {id(one) for one in ended[len(ended) - last if last < len(ended) else 0 :]} if last else set()
    return [one for one in scripts if one.state in (RUNNING, WAITING) or id(one) in kept]


def scripts_text(scripts: Sequence[KnownScript], shown: Sequence[KnownScript], style: Style, now: float) -> str:
    """The table of `shown`, the newest last, under what there is of all `scripts`.  Ends with a newline."""
    count = {state: sum(one.state == state for one in scripts) for state in (RUNNING, WAITING)}
    waits = f", {counted(count[WAITING], 'script')} waiting" if count[WAITING] else ""
    title = f"{counted(count[RUNNING], 'script')} running{waits}"
    if not shown:
        return f"{title}\n"
    rows = [_HEAD, *(_row(one, now) for one in shown)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    hidden = len(scripts) - len(shown)
    more = [f"and {counted(hidden, 'script')} that ended before: --last={len(scripts)}"] if hidden else []
    return "\n".join([title, "", style.title(table[0]), *table[1:], *more]) + "\n"


def _row(one: KnownScript, now: float) -> tuple[str, ...]:
    took = span((now if one.ended is None else one.ended) - one.since) if one.state != LOST else ""
    return (
        one.state,
        moment(one.since).removesuffix(" UTC"),
        took,
        "" if one.exit_code is None else str(one.exit_code),
        "" if one.cpu is None else f"{one.cpu:.1f} s",
        "" if one.memory is None else size(one.memory),
        str(len(one.processes)) if one.state == RUNNING else "",
        visible(one.task if one.task != one.ticket else ""),
        visible(one.ticket),
    )


def script_document(one: KnownScript) -> dict[str, Any]:
    """One script for programs; CPU in seconds, memory in bytes."""
    return {
        "Ticket": one.ticket,
        "TaskId": one.task,
        "State": one.state.capitalize(),
        "Since": iso(one.since),
        "Ended": None if one.ended is None else iso(one.ended),
        "ExitCode": one.exit_code,
        "CpuSeconds": one.cpu,
        "MemoryBytes": one.memory,
        "ProcessId": one.shim,
        "Processes": [{"ProcessId": process.pid, "Name": process.name} for process in one.processes],
    }


def entry_document(entry: Sequence[Any]) -> dict[str, Any]:
    """One entry of a log for programs: its source, its time to the millisecond, its text."""
    source, occurred, text = entry
    stamp = iso(occurred / 1000)
    shown = stamp and f"{stamp[:-1]}.{occurred % 1000:03d}Z"
    return {"Source": _SOURCES.get(source, source), "Occurred": shown, "Text": text}
