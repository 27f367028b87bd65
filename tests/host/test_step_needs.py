"""What deployment steps miss on a host is named, each with its consequence; what is there is not complained of."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tentacle.host.step_needs import PROGRAMS, missing_for_steps
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory with all programs that steps use."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in PROGRAMS:
        (directory / name).write_text("#!/bin/sh\n")
        (directory / name).chmod(0o755)
    return directory


@pytest.fixture
def fine(programs: Path, tmp_path: Path) -> dict[str, str]:
    """An environment that steps miss nothing in."""
    (tmp_path / "libicuuc.so.72").touch()
    return {"PATH": str(programs), "LANG": "de_DE.UTF-8", "LD_LIBRARY_PATH": str(tmp_path)}


def said(environ: dict[str, str]) -> list[str]:
    return [one.what for one in missing_for_steps(environ, temporary=ROOT)]


def test_nothing_is_missing(fine: dict[str, str]) -> None:
    assert said(fine) == []


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program(fine: dict[str, str], programs: Path, name: str) -> None:
    (programs / name).unlink()
    assert said(fine) == [f"Steps miss '{name}', which is not in {programs}: {PROGRAMS[name]}."]


def test_a_program_that_cannot_be_run(fine: dict[str, str], programs: Path) -> None:
    (programs / "openssl").chmod(0o644)
    assert "every Octopus variable empty" in said(fine)[0]


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({"LANG": ""}, "none is set"),
        ({"LANG": "C"}, "it is 'C'"),
        ({"LANG": "de_DE.UTF-8", "LC_ALL": "POSIX"}, "it is 'POSIX'"),
        ({"LC_CTYPE": "de_DE.ISO-8859-1"}, "it is 'de_DE.ISO-8859-1'"),
    ],
)
def test_a_locale(fine: dict[str, str], variables: dict[str, str], found: str) -> None:
    (only,) = said(fine | variables)
    assert only.startswith(f"Steps miss a locale with UTF-8 ({found})")
    assert said(fine | variables | {"LC_ALL": "C.utf8"}) == []


def test_a_library(fine: dict[str, str], tmp_path: Path) -> None:
    del fine["LD_LIBRARY_PATH"]
    (only,) = missing_for_steps(fine, ROOT, libraries=[str(tmp_path / "none")])
    assert only.what.startswith("Steps miss the library ICU")
    assert missing_for_steps(fine, ROOT, libraries=[f"{tmp_path.parent}/*"]) == []
    assert missing_for_steps(fine | {"DOTNET_SYSTEM_GLOBALIZATION_INVARIANT": "1"}, ROOT, libraries=[]) == []


def test_a_place_where_no_programs_may_be_run(tmp_path: Path) -> None:
    find = "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
    find += "from tentacle.host.step_needs import missing_for_steps as m\n"
    find += "for one in m({'LANG': 'C.utf8'}, Path(sys.argv[2])): print(one.what)"
    shell = f'mount -t tmpfs -o noexec tmpfs {tmp_path}; exec "$@"'
    user = () if os.geteuid() == 0 else ("--map-root-user",)
    command = ["unshare", "--mount", *user, "sh", "-euc", shell, "sh", sys.executable, "-c", find, str(ROOT), tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert f"Steps miss the right to run programs below '{tmp_path}'" in done.stdout
