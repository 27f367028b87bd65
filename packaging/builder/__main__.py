"""`python -m builder`: the wheel, the sdist, debs, rpms and images, each with its bill of materials, into `dist/`."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from builder import bom, documents, hosts, image, runtime
from builder.debian import HostError
from builder.elf import ElfError
from builder.parts import Part, installed
from tentacle import __version__


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m builder", description=__doc__)
    parser.add_argument("what", choices=("wheel", "packages", "image", "all"))
    parser.add_argument("--arch", action="append", choices=sorted(runtime.TRIPLETS), help="default: this machine's")
    parser.add_argument("--dist", type=Path, default=runtime.ROOT / "dist")
    options = parser.parse_args()
    options.dist.mkdir(parents=True, exist_ok=True)
    os.umask(0o022)
    with tempfile.TemporaryDirectory(prefix="tentacle-build-") as work:
        try:
            architectures = [] if options.what == "wheel" else options.arch or [_own_architecture()]
            for architecture in architectures:
                runtime.require(architecture)
            wheel, parts = _python(options.dist, Path(work))
            for architecture in architectures:
                directory = Path(work) / architecture
                own = _stage(architecture, wheel, parts, directory)
                if options.what in ("packages", "all"):
                    _packages(architecture, own, options.dist, directory)
                if options.what in ("image", "all"):
                    _image(architecture, own, options.dist, directory)
        except (HostError, ElfError) as error:
            sys.exit(str(error))
        except subprocess.CalledProcessError as error:
            sys.exit(f"'{error.cmd[0]}' ended with {error.returncode}.")


def _python(dist: Path, work: Path) -> tuple[Path, list[Part]]:
    """Builds the wheel and the sdist; returns the wheel, and the distributions that it needs."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--directory", work / "python"],
        cwd=runtime.ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    parts = installed(runtime.install_dependencies(runtime.own_platform(), work / "dependencies"))
    made = sorted((work / "python").iterdir())
    for path in made:
        shutil.copyfile(path, dist / path.name)
        _say(dist / path.name, bom.write(dist / path.name, __version__, parts))
    return next(dist / path.name for path in made if path.suffix == ".whl"), parts


def _stage(architecture: str, wheel: Path, python_parts: list[Part], work: Path) -> list[Part]:
    """Fills `work/stage` with all that comes onto a host; returns its parts."""
    stage = work / "stage"
    debs = runtime.build(architecture, wheel, work, stage)
    parts = sorted([*debs, *(part for part in python_parts if part.name not in runtime.NOT_SHIPPED)])
    documents.write(stage, __version__, parts)
    hosts.complete(stage)
    size = sum(path.lstat().st_size for path in stage.rglob("*") if not path.is_dir())
    print(f"{size / 1e6:6.1f} MB  on the disk ({architecture})")
    return parts


def _packages(architecture: str, parts: list[Part], dist: Path, work: Path) -> None:
    for made in hosts.make(architecture, __version__, work / "stage", work, dist):
        _say(made, bom.write(made, __version__, parts))


def _image(architecture: str, parts: list[Part], dist: Path, work: Path) -> None:
    made, of_the_system = image.make(architecture, __version__, work / "stage", work, dist)
    _say(made, bom.write(made, __version__, {part.purl: part for part in (*of_the_system, *parts)}.values()))


def _own_architecture() -> str:
    done = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _say(*paths: Path) -> None:
    for path in paths:
        print(f"{path.stat().st_size / 1e6:6.1f} MB  {path}")


if __name__ == "__main__":
    main()
