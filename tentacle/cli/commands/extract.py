"""`extract`: the content of a NuGet package, put into a directory (tentacle-cli.md 3.17)."""

from __future__ import annotations

import os
from pathlib import Path

from tentacle.cli.extract.package import extract_package
from tentacle.cli.frame.command import command, option, order_given
from tentacle.cli.frame.options import facts_option
from tentacle.cli.frame.result import Result, Steps
from tentacle.cli.frame.session import Session
from tentacle.errors import TentacleError


@command("extract")
@option("--package", help="Package file")
@option("--destination", help="Destination directory")
@facts_option
def extract(session: Session, *, package: str | None, destination: str | None) -> Steps:
    """Says both paths in the order given; a failure is told at once, as waiting cures none of them."""
    paths = {"package": _path(session, package), "destination": _path(session, destination)}
    for name in (name for name in dict.fromkeys(order_given()) if name in paths):
        yield f"{name.capitalize()}: {paths[name]}"
        if name == "package" and paths[name].is_dir():
            raise TentacleError(f"The package '{paths[name]}' is a directory.", hint="Name the package's file.")
        if name == "package" and not paths[name].is_file():
            raise TentacleError(f"Package not found: {paths[name]}")
    if not package:
        raise TentacleError("Please specify the package to extract via the --package argument.")
    if not destination:
        raise TentacleError("Please specify the destination directory via the --destination argument.")
    count = extract_package(paths["package"], paths["destination"])
    yield f"{count:,} files extracted"
    return Result(facts={"Destination": str(paths["destination"]), "Files": count})


def _path(session: Session, given: str | None) -> Path:
    return Path(os.path.normpath(session.path(given or "")))
