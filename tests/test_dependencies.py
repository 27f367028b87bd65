"""Every package that is imported is declared in `pyproject.toml`, and every declared one is imported."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DECLARED = PROJECT["project"]["dependencies"]
OF_THE_SERVER = PROJECT["project"]["optional-dependencies"]["devserver"]
DEVELOPING = PROJECT["dependency-groups"]["dev"]
PACKAGING = PROJECT["dependency-groups"]["packages"]
OURS = {"tentacle", "tests", "benchmarks", "builder", *(path.stem for path in (ROOT / "packaging/tests").glob("*.py"))}


def names(requirements: Iterable[str]) -> set[str]:
    return {normal(re.split(r"[<>=!~; \[]", requirement)[0]) for requirement in requirements}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(folder: Path) -> set[str]:
    """The distributions whose modules are imported by a file below `folder`, also inside functions."""
    modules: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules.add(node.module or "")
    known = packages_distributions()
    top = {module.partition(".")[0] for module in modules} - OURS - set(sys.stdlib_module_names)
    return {normal(known[name][0]) if name in known else name for name in top}


def test_the_package_declares_what_it_imports_and_nothing_else() -> None:
    assert imported(ROOT / "tentacle") == names([*DECLARED, *OF_THE_SERVER])


def test_only_the_embedded_server_imports_what_its_extra_holds() -> None:
    for room in (ROOT / "tentacle").iterdir():
        if room.is_dir() and room.name != "devserver":
            assert not imported(room) & names(OF_THE_SERVER), room.name


def test_tests_and_benchmarks_import_nothing_that_is_not_declared() -> None:
    for folder in ("tests", "benchmarks"):
        assert imported(ROOT / folder) <= names([*DECLARED, *OF_THE_SERVER, *DEVELOPING])


def test_what_makes_packages_imports_nothing_that_is_not_declared() -> None:
    declared = names([*DECLARED, *DEVELOPING, *PACKAGING])
    # The tools of that group are there only where packages are made, and a module is then known by its own name.
    modules = {"cyclonedx"}
    assert imported(ROOT / "packaging") <= declared | modules
