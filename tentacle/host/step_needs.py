"""What deployment steps need of a host and miss on this one: programs, libraries, places, a locale.

The agent itself works without them, and a step without one of them often ends with 0 and the wrong outcome: so they are
named before the first step comes.  What they need is read off Calamari, the program that runs most steps, and the shell
code that Octopus puts around a bash step (its Bootstrap.sh).  Must not know who tells.
"""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from tentacle.host.shortcomings import Shortcoming

PROGRAMS: Final = {
    "openssl": "a bash step then runs with every Octopus variable empty, and ends with 0",
    "uname": "the first lines of every bash step fail",
    "hostname": "steps and health checks do not name this machine",
    "setsid": "a cancelled step of Calamari leaves processes behind",
    "tar": "packages that are .tar.gz files cannot be unpacked",
    "unzip": "scripts that unpack .zip files fail",
}
"""What becomes of a step without the program.  bash is tried out elsewhere, since no script at all runs without it."""
USUAL_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TEMPORARY: Final = Path("/tmp")  # noqa: S108 - the name that steps use
LIBRARIES: Final = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/lib/*-linux-*",
    "/usr/lib/*-linux-*",
)
_ICU: Final = "libicuuc.so.*"
_INVARIANT: Final = "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT"
_UTF_8: Final = ("utf-8", "utf8")


def missing_for_steps(
    environ: Mapping[str, str], temporary: Path = TEMPORARY, libraries: Sequence[str] = LIBRARIES
) -> list[Shortcoming]:
    """Returns what is missing where `environ` is the environment that scripts get.  Raises nothing."""
    found = [*_missing_programs(environ), *_missing_icu(environ, libraries)]
    if _is_noexec(temporary):
        found.append(
            Shortcoming(
                f"Steps miss the right to run programs below '{temporary}', which is mounted with noexec: tools that "
                "unpack themselves there fail.",
                f"mount -o remount,exec {temporary}; or set TMPDIR for the agent to a directory where that is allowed.",
            )
        )
    locale = next((environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if environ.get(name)), "")
    if not locale.lower().endswith(_UTF_8):
        found.append(
            Shortcoming(
                f"Steps miss a locale with UTF-8 ({f'it is {locale!r}' if locale else 'none is set'}): "
                "some tools then spoil letters beyond ASCII.",
                "Set LANG=C.UTF-8 for the agent; of a service: systemctl edit, [Service] Environment=LANG=C.UTF-8",
            )
        )
    return found


def _missing_programs(environ: Mapping[str, str]) -> Iterator[Shortcoming]:
    path = environ.get("PATH") or USUAL_PATH
    for name, consequence in PROGRAMS.items():
        if shutil.which(name, path=path) is None:
            yield Shortcoming(f"Steps miss '{name}', which is not in {path}: {consequence}.", f"Install {name}.")


def _missing_icu(environ: Mapping[str, str], libraries: Sequence[str]) -> Iterator[Shortcoming]:
    """.NET programs end at their start without ICU, unless they are told to do without."""
    if environ.get(_INVARIANT, "").lower() in ("1", "true"):
        return
    places = (*libraries, *filter(None, environ.get("LD_LIBRARY_PATH", "").split(":")))
    if not any(glob.glob(os.path.join(place, _ICU)) for place in places):  # noqa: PTH118, PTH207
        yield Shortcoming(
            "Steps miss the library ICU (libicuuc): Calamari and other .NET programs may end at their start.",
            f"Install it: libicu72 or the like on Debian, libicu on Fedora, icu-libs on Alpine; or set {_INVARIANT}=1.",
        )


def _is_noexec(directory: Path) -> bool:
    try:
        return bool(os.statvfs(directory).f_flag & os.ST_NOEXEC)
    except OSError:
        return False
