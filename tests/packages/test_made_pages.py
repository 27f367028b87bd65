"""The parts of `docs/` that are made from the code say what the code says now, and every variable that it reads."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from builder import pages
from builder.exit_codes import EXIT_CODES
from builder.variables import VARIABLES

from tentacle.cli.frame.command_table import ENTRIES
from tentacle.settings.keys import KEYS
from tests.e2e.machine import ROOT

PROGRAM = sorted((ROOT / "tentacle").rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in PROGRAM}
ENVIRONMENT = re.compile(r"(^|[._])environ(ment|_file)?$")
OURS = re.compile(r"(TENTACLE|OCTOPUS)_[A-Z_]+")
READ_BY_THE_LIBRARY = {"HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"}
"""Python's `urllib.request.getproxies_environment`."""
GIVEN_TO_SCRIPTS = {"TENTACLE_RUN", "TRACEPARENT"}


def test_every_page_is_as_the_code_is_now() -> None:
    found = []
    for path in sorted(pages.DOCS.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        assert pages.made(text) == text, f"{path.name} is stale: make pages"
        found += pages.names(text)
    assert sorted(found) == sorted(pages.PARTS), "each part stands in one page"


def test_a_page_that_is_stale_is_made_anew() -> None:
    page = "Before.\n<!-- make pages: exit codes -->\nnonsense\n<!-- end -->\nAfter.\n"
    made = pages.made(page)
    assert made.startswith("Before.\n<!-- make pages: exit codes -->\n\n| code | meaning |\n")
    assert made.endswith("\n<!-- end -->\nAfter.\n")
    assert "nonsense" not in made
    assert pages.made(made) == made
    with pytest.raises(KeyError):
        pages.made(page.replace("exit codes", "nobody knows"))


def test_every_command_setting_and_option_is_there() -> None:
    commands = (pages.DOCS / "commands.md").read_text(encoding="utf-8")
    assert all(f"### {entry.name}\n" in commands or f"| `{entry.name}` |" in commands for entry in ENTRIES)
    settings = (pages.DOCS / "configuration.md").read_text(encoding="utf-8")
    for key in KEYS.values():
        assert f"| `{key.name}` |" in settings
        assert key.variable is None or f"| `{key.variable}` |" in settings


def test_every_exit_code_is_told() -> None:
    codes = {
        node.value.value
        for tree in TREES.values()
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name) and target.id.startswith("EXIT_")
    }
    assert codes == {code for code, _ in EXIT_CODES}


def constants() -> dict[str, set[str]]:
    """The texts that a name means at the top of any module: `NAME = "X"`, `A, B = "X", "Y"`, `NAMES = ("X", "Y")`."""
    found: dict[str, set[str]] = {}
    for tree in TREES.values():
        for node in tree.body:
            if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
                continue
            texts = [one.value for one in ast.walk(node.value) if isinstance(one, ast.Constant)]
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                names = [one.id for one in ast.walk(target) if isinstance(one, ast.Name)]
                paired = (
                    zip(names, texts, strict=True)
                    if len(names) == len(texts)
                    else ((n, t) for n in names for t in texts)
                )
                for name, text in paired:
                    if isinstance(text, str):
                        found.setdefault(name, set()).add(text)
    return found


def looked_up(tree: ast.Module) -> Iterator[ast.expr]:
    """What is looked up in an environment: the argument of `.get(...)`, `[...]`, `in`, `..._from(environment, ...)`."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=where, attr="get"), args=[name, *_]):
                pass
            case ast.Subscript(value=where, slice=name, ctx=ast.Load()):
                pass
            case ast.Compare(left=name, ops=[ast.In() | ast.NotIn()], comparators=[where]):
                pass
            case ast.Call(func=ast.Name(), args=[where, ast.Name() | ast.Constant() as name, *_]):
                pass
            case _:
                continue
        if ENVIRONMENT.search(ast.unparse(where)):
            yield name


def read_by_the_code() -> set[str]:
    known, found = constants(), set[str]()
    for path, tree in TREES.items():
        if path.is_relative_to(ROOT / "tentacle/devserver"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and OURS.fullmatch(node.value):
                found.add(node.value)
        for name in looked_up(tree):
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                found.add(name.value)
            elif isinstance(name, ast.Name | ast.Attribute):
                # A local name stands for one of those that its module loops over, or was handed in.
                word = name.id if isinstance(name, ast.Name) else name.attr
                found |= known.get(word, set())
    return found


def test_every_variable_that_the_code_reads_is_told_and_no_other() -> None:
    told = {one.name for one in VARIABLES}
    assert len(told) == len(VARIABLES)
    read = read_by_the_code() | READ_BY_THE_LIBRARY
    settings = {key.variable for key in KEYS.values() if key.variable}
    assert sorted(read - told - settings - GIVEN_TO_SCRIPTS) == [], "add them to packaging/builder/variables.py"
    texts = {node.value for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert sorted(told - texts) == [], "nothing reads them any more"


def test_a_new_variable_is_found_however_it_is_read() -> None:
    for line in (
        'environ.get("NEW")',
        'session.environ["NEW"]',
        'if "NEW" in os.environ: ...',
        'duration_from(environment, "NEW", default)',
    ):
        assert [ast.unparse(name) for name in looked_up(ast.parse(line))] == ["'NEW'"], line
