"""The house keeps its floors: a room uses rooms below it, none beside it, none above; imports stand at the top."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tentacle"

GROUND: tuple[tuple[str, ...], ...] = (
    ("errors", "records", "late_imports"),
    (
        "masking",
        "path_walk",
        "home_layout",
        "open_files",
        "pem",
        "thumbprints",
        "certificate_parsing",
        "trace_context",
        "counted_log",
        "write_back",
    ),
    ("disk",),
    ("sealing",),
)
"""Modules, not packages; they are laid in this order."""
FLOORS: tuple[tuple[str, ...], ...] = (
    tuple(name for layer in GROUND for name in layer),
    ("wire",),
    ("contracts",),
    ("transport", "scripts", "settings", "octopus", "host", "observe"),
    ("services", "calling"),
    ("agent", "devserver"),
    ("cli",),
)
FLOOR = {room: (number, 0) for number, rooms in enumerate(FLOORS) for room in rooms} | {
    room: (0, number) for number, rooms in enumerate(GROUND) for room in rooms
}

_WAITING = frozenset({"asyncio", "socket", "ssl", "OpenSSL", "aiohttp", "logging", "click"})
_FILES = frozenset(
    {"os", "io", "shutil", "tempfile", "fcntl", "pathlib", "tentacle.disk", "tentacle.path_walk", "tentacle.sealing"}
)

MUST_NOT_SEE: dict[str, frozenset[str]] = {
    "errors": _WAITING | _FILES,
    "masking": _WAITING | _FILES,
    "home_layout": _WAITING | _FILES,
    "pem": _WAITING | _FILES,
    "thumbprints": _WAITING | _FILES,
    "trace_context": _WAITING | _FILES,
    "path_walk": _WAITING,
    "certificate_parsing": _WAITING | _FILES,
    "open_files": _WAITING | _FILES,
    "late_imports": _WAITING | _FILES,
    "write_back": _WAITING | _FILES,
    "records": _WAITING | _FILES,
    "disk": _WAITING,
    "sealing": _WAITING,
    "wire": _WAITING | _FILES,
    "contracts": _WAITING | _FILES,
    "transport": frozenset({"tentacle.contracts", "click"}),
    "scripts": frozenset({"socket", "ssl", "OpenSSL", "aiohttp", "tentacle.wire", "click"}),
    "settings": frozenset({"aiohttp", "click"}),
    "octopus": frozenset({"click"}),
    "services": frozenset({"tentacle.transport", "click", "aiohttp"}),
    "calling": frozenset({"click", "aiohttp", "sqlite3"}),
    "agent": frozenset({"click"}),
    "devserver": frozenset({"tentacle.services", "tentacle.scripts", "click"}),
}
EXCEPTIONS: dict[str, frozenset[str]] = {
    # The processes that start scripts and watch over them talk to the agent over local sockets; no network is involved.
    "scripts/shim/fork_server.py": frozenset({"socket"}),
    "scripts/shim/launcher.py": frozenset({"socket"}),
    "scripts/launch/fork_servers.py": frozenset({"socket"}),
    "scripts/launch/fork_server_client.py": frozenset({"socket"}),
    "scripts/launch/shim_pool.py": frozenset({"socket"}),
}

INNER_FLOORS: dict[str, tuple[tuple[str, ...], ...]] = {
    "devserver": (("home", "storage"), ("worker",), ("tasks",), ("rest",), ("page",), ("main",)),
}
INNER_MUST_NOT_SEE: dict[str, frozenset[str]] = {
    "devserver/storage": frozenset({"aiohttp", "tentacle.transport", "tentacle.wire"}),
    "devserver/worker": frozenset({"aiohttp", "sqlite3", "tentacle.transport", "tentacle.wire"}),
    "devserver/tasks": frozenset({"aiohttp", "sqlite3", "tentacle.transport", "tentacle.wire"}),
    "devserver/rest": frozenset({"tentacle.transport", "tentacle.wire"}),
    "devserver/page": frozenset({"sqlite3", "tentacle.transport", "tentacle.wire"}),
}


SCRIPTS_FLOORS = {"shim": 0, "output": 1, "launch": 1, "workspace": 1, "sandbox": 2}
"""The folders of `scripts/`; its other modules stand above or, if they use none of them, below."""
SHIM = "scripts/shim/"
SHIM_MAY_SEE = ("tentacle.scripts.shim", "tentacle.contracts.exit_codes")
"""Besides the standard library: all of it outlives the agent, in a process that must stay small."""


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), path


def imports(tree: ast.AST) -> Iterator[tuple[ast.stmt, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module == "tentacle":
                yield from ((node, f"tentacle.{alias.name}") for alias in node.names)
            else:
                yield node, node.module or ""


def room_of(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if parts[0] == "tentacle" and len(parts) > 1 and parts[1] in FLOOR else None


@pytest.mark.parametrize(("relative", "path"), [pytest.param(r, p, id=r) for r, p in modules()])
def test_a_module_uses_only_what_lies_below_it(relative: str, path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = relative.split("/")[0].removesuffix(".py")
    forbidden = MUST_NOT_SEE.get(own, frozenset()) - EXCEPTIONS.get(relative, frozenset())
    for _, name in imports(tree):
        other = room_of(name)
        if own in FLOOR and other is not None and other != own:
            assert FLOOR[other] < FLOOR[own], f"{relative} imports {name}, which is not below it"
        seen = {name.split(".")[0], ".".join(name.split(".")[:2])}
        assert not seen & forbidden, f"{relative} must never see {name}"


def offered(door: Path) -> set[str]:
    """The modules behind a door that it names as a whole."""
    own = ".".join(("tentacle", *door.parent.relative_to(PACKAGE).parts))
    nodes = ast.walk(ast.parse(door.read_text(encoding="utf-8"))) if door.is_file() else ()
    return {a.name for n in nodes if isinstance(n, ast.ImportFrom) and n.module == own for a in n.names}


@pytest.mark.parametrize(
    ("relative", "path"), [pytest.param(r, p, id=r) for r, p in modules() if r.split("/")[0] in INNER_FLOORS]
)
def test_a_folder_of_a_room_uses_only_what_lies_below_it_and_by_its_door(relative: str, path: Path) -> None:
    room, own = relative.removesuffix(".py").split("/")[:2]
    floor = {inner: number for number, inners in enumerate(INNER_FLOORS[room]) for inner in inners}
    for node, name in imports(ast.parse(path.read_text(encoding="utf-8"))):
        seen = {name.split(".")[0], ".".join(name.split(".")[:2])}
        assert not seen & INNER_MUST_NOT_SEE.get(f"{room}/{own}", frozenset()), f"{relative} must never see {name}"
        assert not name.startswith("tentacle.calling."), f"{relative} imports {name}, which is not a door"
        parts = name.split(".")
        if parts[:2] != ["tentacle", room] or parts[2] == own:
            continue
        assert floor[parts[2]] < floor[own], f"{relative} imports {name}, which is not below it"
        folder = PACKAGE / room / parts[2]
        inside = {found.stem for found in folder.glob("*.py")} - offered(folder / "__init__.py")
        named = {alias.name for alias in node.names} if isinstance(node, ast.ImportFrom) else set()
        assert len(parts) == 3, f"{relative} imports {name}, which is not a door"
        assert not named & inside, f"{relative} imports modules behind the door of {name}"


@pytest.mark.parametrize(("relative", "path"), [pytest.param(r, p, id=r) for r, p in modules() if r.startswith(SHIM)])
def test_the_shim_is_made_of_the_standard_library_alone(relative: str, path: Path) -> None:
    for _, name in imports(ast.parse(path.read_text(encoding="utf-8"))):
        known = name.split(".")[0] in sys.stdlib_module_names
        assert known or name.startswith(SHIM_MAY_SEE), f"{relative} imports {name}, which the shim must not need"


@pytest.mark.parametrize("package", ["", "scripts", "scripts/shim", "contracts"])
def test_what_is_imported_on_the_way_to_the_shim_imports_nothing(package: str) -> None:
    tree = ast.parse((PACKAGE / package / "__init__.py").read_text(encoding="utf-8"))
    assert not [name for _, name in imports(tree) if name != "__future__"]


def test_the_folders_of_scripts_use_only_what_lies_below_them() -> None:
    for relative, path in modules():
        parts = relative.split("/")
        if parts[0] != "scripts" or parts[1] not in SCRIPTS_FLOORS:
            continue
        for _, name in imports(ast.parse(path.read_text(encoding="utf-8"))):
            other = name.split(".")[2] if name.startswith("tentacle.scripts.") else None
            if other in SCRIPTS_FLOORS and other != parts[1]:
                assert SCRIPTS_FLOORS[other] < SCRIPTS_FLOORS[parts[1]], f"{relative} imports {name}"


@pytest.mark.parametrize(("relative", "path"), [pytest.param(r, p, id=r) for r, p in modules()])
def test_imports_stand_at_the_top_except_in_the_command_line(relative: str, path: Path) -> None:
    if relative.startswith("cli/"):
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = [n for n in ast.walk(function) if isinstance(n, ast.Import | ast.ImportFrom)]
            assert not inner, f"{relative}:{function.name} imports inside a function"


def test_no_import_cycles() -> None:
    names = {r.removesuffix(".py").removesuffix("/__init__").replace("/", "."): p for r, p in modules()}
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        found = set()
        for node, imported in imports(ast.parse(path.read_text(encoding="utf-8"))):
            room = imported.removeprefix("tentacle.")
            parts = {f"{room}.{alias.name}" for alias in node.names} if isinstance(node, ast.ImportFrom) else {room}
            # A module that is taken out of its folder as a whole is what is used, and not the folder's door.
            found |= parts if parts <= names.keys() else {room}
        graph[name] = {n for n in found if n in names and n != name}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"import cycle: {' -> '.join((*trail, name))}"
        if name not in done:
            for other in graph[name]:
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize(("relative", "path"), [pytest.param(r, p, id=r) for r, p in modules()])
def test_modules_and_functions_stay_small(relative: str, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400, f"{relative} has outgrown one idea"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= 60, f"{relative}:{node.name} is {length} lines long"


LINES_OF_THE_EMBEDDED_SERVER = 8_000
LINES_OF_ITS_TEMPLATES_AND_SCHEMAS = 1_200


def test_the_embedded_server_stays_something_to_try_and_test_with() -> None:
    def lines(paths: Iterable[Path]) -> int:
        return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)

    files = [path for path in (PACKAGE / "devserver").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert lines(path for path in files if path.suffix == ".py") <= LINES_OF_THE_EMBEDDED_SERVER
    assert lines(path for path in files if path.suffix != ".py") <= LINES_OF_ITS_TEMPLATES_AND_SCHEMAS


BROAD_EXCEPT_ALLOWED = frozenset(
    {"services/dispatch.py", "agent/supervisor.py", "cli/main.py", "scripts/workspace/batch_sync.py"}
)
"""A request, a task, a command, and a start among others: whatever fails in one must not end what is around it."""


@pytest.mark.parametrize(("relative", "path"), [pytest.param(r, p, id=r) for r, p in modules()])
def test_broad_except_stands_where_one_failure_must_not_cost_others_only(relative: str, path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ExceptHandler):
            names = {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)} if node.type else {"bare"}
            if names & {"Exception", "BaseException", "bare"}:
                assert relative in BROAD_EXCEPT_ALLOWED, f"{relative}:{node.lineno} catches everything"


@pytest.mark.parametrize(("relative", "path"), [pytest.param(r, p, id=r) for r, p in modules()])
def test_a_frozen_dataclass_is_one_that_a_start_can_afford(relative: str, path: Path) -> None:
    if relative.startswith((SHIM, "devserver/")):
        return
    text = path.read_text(encoding="utf-8")
    known = {
        a.name
        for n in ast.walk(ast.parse(text))
        if isinstance(n, ast.ImportFrom) and n.module == "dataclasses"
        for a in n.names
    }
    assert "dataclass" not in known or "dataclass(frozen=True)" not in text, f"{relative}: see tentacle/records.py"


def test_a_class_has_a_name_of_its_own() -> None:
    """What stands for one thing only can be searched for, and needs no look at the import."""
    found: dict[str, list[str]] = {}
    for relative, path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(relative)
    assert {name: places for name, places in found.items() if len(places) > 1} == {}
