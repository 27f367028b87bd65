"""Every message that docs/troubleshooting.md quotes is one that the program says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
QUOTED = [
    line for block in re.findall(r"^```text\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL) for line in block.splitlines()
]
LEFT_OUT, VALUE = "…", "\0"


def texts_of(tree: ast.AST) -> list[str]:
    """Every text of a module, with `VALUE` where a value is put in."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [one.value if isinstance(one, ast.Constant) else VALUE for one in node.values]
            found.append("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(re.sub(r"%[sdgr.0-9]+", VALUE, node.value))
    return found


SAID = "\n".join(
    text for path in sorted((ROOT / "tentacle").rglob("*.py")) for text in texts_of(ast.parse(path.read_text("utf-8")))
)


def is_said(quoted: str, said: str = SAID) -> bool:
    """Whether a text of the program has the words of `quoted`, with values or more of the message between them."""
    words = [re.escape(part) for part in quoted.split(LEFT_OUT) if part.strip()]
    return bool(words) and re.search("[^\n]*".join(words), said) is not None


def test_messages_are_quoted() -> None:
    assert len(QUOTED) > 20


@pytest.mark.parametrize("quoted", QUOTED)
def test_a_message_that_is_quoted_is_one_of_the_program(quoted: str) -> None:
    assert is_said(quoted), "docs/troubleshooting.md quotes what the program does not say (any more)"


def test_what_the_program_does_not_say_is_found() -> None:
    said = "\n".join(texts_of(ast.parse("a = f'the disk {disk} is ' 'full'\nlog.info('%s of %d bytes', a, b)")))
    assert is_said("the disk … is full", said)
    assert is_said("… of … bytes", said)
    assert not is_said("the disk … is empty", said)
    assert not is_said("is full … bytes", said), "two messages are not one"
    assert not is_said("…", said)
