"""Each name of a file in an instance's home is spelled once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tentacle import home_layout

PACKAGE = Path(__file__).parent.parent / "tentacle"
NAMES = {value for name, value in vars(home_layout).items() if name.isupper() and isinstance(value, str)}
A_HOME_OF_ITS_OWN = "devserver/"
A_KEY_OF_A_DOCUMENT = ("cli/status/state_text.py", "cli/commands/extract.py", "agent/oversight.py")


def spelled(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and node.value in NAMES:
            yield node.lineno, str(node.value)


def test_no_other_module_spells_a_name_of_the_home() -> None:
    assert {"Work", "Logs", "agent.lock", ".mask.key", ".origin"} <= NAMES
    found = {
        f"{path.relative_to(PACKAGE)}:{line}: {name}"
        for path in PACKAGE.rglob("*.py")
        if path.name != "home_layout.py"
        and not str(path.relative_to(PACKAGE)).startswith((A_HOME_OF_ITS_OWN, *A_KEY_OF_A_DOCUMENT))
        for line, name in spelled(path)
    }
    assert not found


def test_everything_that_an_agent_makes_in_its_home_is_handed_over() -> None:
    assert set(home_layout.OF_THE_AGENT) == {
        "Work", "Logs", "agent.lock", "livez.heartbeat", "status.json", "agent.sock", "draining.json",
        "ephemeral-worker.json",
    }  # fmt: skip
