"""How the findings of `doctor` are shown: lines for people, a document for programs.

Pure: findings in, text out.  Text from outside is made visible.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tentacle import __version__
from tentacle.cli.doctor.finding import Finding, Level, ReportSection
from tentacle.cli.frame.render import in_short
from tentacle.cli.frame.style import Style, counted, wrapped
from tentacle.observe.text import visible

_LEVEL_WIDTH: Final = 6
_INDENT: Final = 2


def failed(sections: Sequence[ReportSection]) -> bool:
    """Whether anything keeps the agent from its work."""
    return bool(_count(sections, Level.FAIL))


def report_text(sections: Sequence[ReportSection], style: Style) -> str:
    """All findings, and a summary.  Ends with a newline."""
    width = max((len(f.check) for s in sections for f in s.findings), default=0) + 2
    lines: list[str] = []
    for each in sections:
        if each.findings:
            lines += [style.title(visible(each.title))]
            lines += [line for finding in each.findings for line in _finding_lines(finding, width, style)]
            lines += [""]
    failures, warnings = _count(sections, Level.FAIL), _count(sections, Level.WARN)
    counts = [style.bad(counted(failures, "failure"))] if failures else []
    counts += [style.warn(counted(warnings, "warning"))] if warnings else []
    summary = f"{' and '.join(counts)}; {_count(sections, Level.OK)} ok." if counts else style.good("All is well.")
    return "\n".join([*lines, summary]) + "\n"


def _finding_lines(finding: Finding, width: int, style: Style) -> list[str]:
    paint = {Level.OK: style.good, Level.WARN: style.warn, Level.FAIL: style.bad}[finding.level]
    column = _INDENT + _LEVEL_WIDTH + width
    first, *rest = wrapped(in_short(visible(finding.found)), style.width - column) or [""]
    word = paint(finding.level.value) + " " * (_LEVEL_WIDTH - len(finding.level.value))
    lines = [f"{' ' * _INDENT}{word}{visible(finding.check):<{width}}{first}"]
    lines += [f"{' ' * column}{line}" for line in rest]
    if finding.advice and finding.level is not Level.OK:
        arrow = "→ " if style.fancy else "-> "
        head, *tail = wrapped(in_short(visible(finding.advice)), style.width - column - len(arrow)) or [""]
        lines.append(f"{' ' * column}{arrow}{head}")
        lines += [f"{' ' * (column + len(arrow))}{line}" for line in tail]
    return lines


def _count(sections: Sequence[ReportSection], level: Level) -> int:
    return sum(finding.level is level for each in sections for finding in each.findings)


def report_document(sections: Sequence[ReportSection], instance: str | None = None) -> dict[str, Any]:
    """The same for programs."""
    return {
        "Version": __version__,
        "Instance": instance,
        "Ok": not failed(sections),
        "FailureCount": _count(sections, Level.FAIL),
        "WarningCount": _count(sections, Level.WARN),
        "Sections": [
            {
                "Title": each.title,
                "Findings": [
                    {"Check": f.check, "Level": f.level.value.lower(), "Found": f.found, "Advice": f.advice}
                    for f in each.findings
                ],
            }
            for each in sections
        ],
    }
