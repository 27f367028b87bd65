"""Splits the argument string of a script the way .NET does (docs/spec/services.md, "Script arguments",
`script-runs.json`).

Not a shell: only blanks and tabs separate arguments, and only double quotes group.  A backslash has a meaning only in
front of a double quote.  Nothing is expanded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_TOKEN = re.compile(r'(?P<slashes>\\+)(?P<quote>"?)|(?P<plain>[^\\" \t]+)|(?P<mark>")|(?P<blank>[ \t]+)')


def tokenise(text: str) -> tuple[str, ...]:
    """Returns the arguments in `text`.  An unbalanced quote reaches to the end."""
    found: list[str] = []
    current: list[str] | None = None
    quoted, position = False, 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        assert match is not None, "every character belongs to a token"
        position = match.end()
        if match["blank"] and not quoted:
            if current is not None:
                found.append("".join(current))
            current = None
            continue
        current = [] if current is None else current
        if match["mark"]:
            if quoted and text.startswith('"', position):
                # A doubled quote inside quotes stands for itself.
                current.append('"')
                position += 1
            else:
                quoted = not quoted
        elif match["slashes"] and match["quote"]:
            # Half of the backslashes remain.  With an odd number the quote is literal, else it is read next.
            half, odd = divmod(len(match["slashes"]), 2)
            current.append("\\" * half + '"' * odd)
            position -= 1 - odd
        else:
            current.append(match[0])
    return tuple(found) if current is None else (*found, "".join(current))


def argument_vector(arguments: Sequence[str]) -> tuple[str, ...]:
    """Returns what a script gets as `$1`, `$2`...: the arguments joined by blanks, unquoted, then split again."""
    return tokenise(" ".join(arguments))
