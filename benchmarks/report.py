"""What was measured, for people and programs: a table, a chart, and the raw numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from statistics import median

from benchmarks.measure import Figure

RESULTS = Path(__file__).parent / "results"
_LINE, _LEFT, _WIDTH, _TOP = 18, 420, 480, 46
_LOWEST, _HIGHEST = 0.01, 100.0
"""Ratios at the ends of the chart."""


@dataclass(frozen=True)
class Measured:
    """A figure on a machine that does nothing else, and while scripts take all cores, where that was measured."""

    row: str
    quiet: Figure
    busy: Figure | None = None


def write(measured: Sequence[Measured], machine: Mapping[str, str], directory: Path) -> None:
    """Writes `table.md`, `chart.svg` and `raw.json`."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "table.md").write_text(table(measured, machine))
    (directory / "chart.svg").write_text(chart(measured, machine))
    raw = [
        {"row": one.row, "quiet": one.quiet.document(), "busy": one.busy and one.busy.document()} for one in measured
    ]
    (directory / "raw.json").write_text(json.dumps({"machine": dict(machine), "figures": raw}, indent=1) + "\n")


def table(measured: Iterable[Measured], machine: Mapping[str, str]) -> str:
    """Markdown."""
    lines = [
        f"On {'; '.join(f'{name}: {value}' for name, value in machine.items())}.",
        "",
        "Each figure is the median of the rounds, with the lowest and the highest; the ratio is that of the same rounds"
        " to the reference, which ran in turns with it. *Cores taken*: the ratio, and the figure, while scripts of the"
        " agent take all cores. *The original*: as it was measured once, with the server's own client code, on another"
        " machine with two cores; it does not run here.",
        "",
        "| figure | this agent | reference | ratio | cores taken | aim | the original |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in measured:
        quiet, busy = one.quiet, one.busy
        theirs = (
            f"{quiet.reference}: {_spread(quiet.theirs, quiet.unit)}" if quiet.theirs else f"{quiet.reference or '-'}"
        )
        taken = f"{_ratio(busy)} ({_spread(busy.ours, busy.unit)})" if busy else "-"
        shown = (quiet.what, _spread(quiet.ours, quiet.unit), theirs, _ratio(quiet), taken, quiet.aim, quiet.original)
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def chart(measured: Sequence[Measured], machine: Mapping[str, str]) -> str:
    """An SVG: the ratio of each figure on a logarithmic line, its spread as a bar."""
    shown = [one for one in measured if one.quiet.ratio is not None]
    height = _TOP + _LINE * len(shown) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 80}" height="{height}"'
        ' font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="8" y="16" font-size="13">Ratio to the reference of the same run ({escape(machine["cores"])} cores,'
        f" {escape(machine['file system'])})</text>",
        '<text x="8" y="32" fill="#555">dark: nothing else runs; light: scripts take all cores; bars: spread;'
        " ◂ less is better, ▸ more</text>",
    ]
    for at in (0.01, 0.1, 1, 10, 100):
        parts.append(f'<line x1="{_x(at)}" x2="{_x(at)}" y1="{_TOP - 6}" y2="{height - 24}" stroke="#ccc"/>')
        parts.append(f'<text x="{_x(at)}" y="{height - 10}" text-anchor="middle">{at:g} x</text>')
    for number, one in enumerate(shown):
        y = _TOP + _LINE * number + 10
        better = "▸" if one.quiet.aim.startswith("at least") else "◂"
        what = escape(one.quiet.what.replace("`", ""))
        parts.append(f'<text x="{_LEFT - 10}" y="{y}" text-anchor="end">{what} {better}</text>')
        for figure, colour, offset in ((one.busy, "#9db8d9", 0), (one.quiet, "#1f4e8c", -4)):
            if figure is not None and figure.ratio is not None:
                middle, low, high = map(_x, figure.ratio)
                parts.append(f'<line x1="{low}" x2="{high}" y1="{y + offset}" y2="{y + offset}" stroke="{colour}"/>')
                parts.append(f'<circle cx="{middle}" cy="{y + offset}" r="3.5" fill="{colour}"/>')
        parts.append(f'<text x="{_LEFT + _WIDTH + 8}" y="{y}">{_ratio(one.quiet).split(" (")[0]}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _x(ratio: float) -> float:
    within = math.log(min(max(ratio, _LOWEST), _HIGHEST) / _LOWEST) / math.log(_HIGHEST / _LOWEST)
    return round(_LEFT + _WIDTH * within, 1)


def _ratio(figure: Figure) -> str:
    if figure.ratio is None:
        return "-"
    middle, low, high = map(number, figure.ratio)
    return f"{middle} x" if low == high else f"{middle} x ({low} to {high})"


def _spread(values: Sequence[float], unit: str) -> str:
    middle, low, high = map(number, (median(values), min(values), max(values)))
    return f"{middle} {unit}".strip() + ("" if low == high else f" ({low} to {high})")


def number(value: float) -> str:
    """With three digits that mean something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
