"""The instances of this machine: a registry of names, each with the path of its configuration file.

One JSON file per instance, as the original writes them (docs/spec/command-line.md, "Registry of instances"), so that
both find each other's.  The registry of the machine is root's; a user who may not write there has one of his own
besides.  Knows which instance a command means (docs/spec/command-line.md, "Choosing the instance").  Must not know what
a configuration holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tentacle.disk import (
    ABANDONED_SECONDS,
    cannot,
    exists,
    flush_directory,
    is_directory,
    is_file,
    is_of_another_user,
    is_temporary,
    make_directories,
    may_write,
    read_bytes,
    remove_unfinished,
    write_atomic,
)
from tentacle.errors import TentacleError
from tentacle.late_imports import LateModule
from tentacle.records import dataclass
from tentacle.settings.errors import InstanceError

if TYPE_CHECKING:
    import platformdirs
else:  # shutil, tempfile
    platformdirs = LateModule("platformdirs")

MACHINE_DIRECTORY = Path("/etc/octopus")
HOME_VARIABLE = "TentacleMachineConfigurationHomeDirectory"
DEFAULT_NAME = "Tentacle"
DEFAULT_CONFIG = "Tentacle.config"
EVERY_INSTANCE = "*"
LONGEST_FILE_NAME = 255
LARGEST_ENTRY = 64 * 1024
_FIRST = "Set one up with 'Tentacle init', or make one with 'Tentacle create-instance'."
TEMPORARY_SUFFIX_LENGTH = len("..01234567.tmp")


@dataclass(frozen=True)
class Instance:
    """What a command works on; `name` is None for a configuration that was given by its path alone."""

    name: str | None
    config_path: Path


@dataclass(frozen=True)
class _Entry:
    name: str
    config_path: Path
    file: Path


@dataclass(frozen=True)
class _Entries:
    """What the registry holds: the entries that can be read, sorted by name, and why others cannot.

    `closed` says why a whole folder cannot be read.
    """

    good: list[_Entry]
    broken: list[TentacleError]
    closed: list[TentacleError]

    def problems(self) -> list[TentacleError]:
        """Returns why a list would not be complete; a folder that is not this user's is missed only by an empty one."""
        return self.broken or ([] if self.good else self.closed)


def user_directory() -> Path:
    """Returns the directory for what belongs to this user and not to the machine."""
    return platformdirs.user_data_path("Octopus", appauthor=False)


def instance_directories(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Returns the directories in which instances are looked up, in order: the machine's, then the user's own.

    The environment may name another one, which is then the only one.
    """
    given = environ.get(HOME_VARIABLE, "").strip()
    if given:
        return (Path(given),)
    own = user_directory()
    # Root may have been given the HOME of somebody else, whose instances are not to be root's.
    return (MACHINE_DIRECTORY,) if is_of_another_user(own) else (MACHINE_DIRECTORY, own)


def clean_name(name: str) -> str:
    """Returns `name` without blanks around.  Raises `InstanceError` for one that no file can be named after."""
    trimmed = name.strip()
    if not trimmed:
        raise InstanceError("The name of an instance must not be blank.")
    if not trimmed.isprintable() or set(trimmed) & set("/\\"):
        raise InstanceError(f"The instance name {trimmed!r:.80} must not hold slashes or control characters.")
    if trimmed == EVERY_INSTANCE:
        raise InstanceError(f"The instance name '{trimmed}' stands for all instances.", hint="Choose another name.")
    if len(_file_name(trimmed).encode()) + TEMPORARY_SUFFIX_LENGTH > LONGEST_FILE_NAME:
        raise InstanceError(f"The instance name '{trimmed:.40}...' is too long.")
    return trimmed


def _file_name(name: str) -> str:
    return f"{name.replace(' ', '-').lower()}.config"


def registry_file_name(name: str) -> str:
    """Returns the name of an instance's file in the registry: lower case, dashes for blanks, and `.config`."""
    return _file_name(clean_name(name))


def new_instance_paths(config: str | None, home: str | None, cwd: Path) -> tuple[Path, Path]:
    """Returns home and configuration file for `create-instance`, both absolute (docs/spec/command-line.md,
    "create-instance").

    The original keeps a relative home as it is typed and later looks for it below itself; here it stays put.
    """
    given = Path(config) if config and config.strip() else Path(DEFAULT_CONFIG)
    folder, path = (cwd / home, cwd / home / given) if home and home.strip() else ((cwd / given).parent, cwd / given)
    _need_text(folder)
    _need_text(path)
    return folder, path


class InstanceRegistry:
    """The names below `directories`, see `instance_directories`; those of the first count over those of the next.

    Methods raise `InstanceError`, or `DiskError` when the file system refuses.
    """

    def __init__(self, *directories: Path) -> None:
        self._directories = directories

    @property
    def directory(self) -> Path:
        """Where new instances are made: in the first directory that this user may write, else in the last."""
        return next((one for one in self._directories if may_write(_folder(one))), self._directories[-1])

    def own_place(self, option: str) -> str:
        """Returns what to tell a user who may not write where an instance is to be made, `option` says where."""
        also = "" if may_write(self.folder) else f", and set {HOME_VARIABLE} to it"
        return f"Run this as root, or give a path in a directory of yours by {option}=PATH{also}."

    @property
    def folder(self) -> Path:
        """Where the names of new instances are kept."""
        return _folder(self.directory)

    def directory_mode_for(self, config_path: Path) -> int:
        """Returns the mode for a new directory of a configuration: private, unless a registry lies below it."""
        parent = config_path.absolute().parent
        return 0o755 if any(parent in _folder(one).absolute().parents for one in self._directories) else 0o700

    def create(self, name: str, config_path: Path) -> Instance:
        """Registers `name`, or gives it another path; the spelling of a name that is there already stays."""
        wanted = clean_name(name)
        _need_text(config_path)
        known = self._known(wanted)
        if known is not None and known.name.lower() != wanted.lower():
            raise InstanceError(
                f"The instance name '{wanted}' is too similar to that of the existing instance '{known.name}'.",
                hint="Choose another name.",
            )
        if known is not None and not may_write(known.file.parent):
            raise InstanceError(
                f"There is an instance called {known.name} already, in '{known.file.parent}', where this user may not "
                "change it.",
                hint="Choose another name, or run this as root.",
            )
        instance = Instance(known.name if known else wanted, config_path.absolute())
        file = known.file if known else self.folder / registry_file_name(wanted)
        make_directories(file.parent)
        remove_unfinished(file, older_than=ABANDONED_SECONDS)
        content = {"Name": instance.name, "ConfigurationFilePath": str(instance.config_path)}
        write_atomic(file, json.dumps(content, indent=2, ensure_ascii=False).encode("utf-8"), mode=0o644)
        return instance

    def _known(self, name: str) -> _Entry | None:
        """Returns the entry in the file for `name`, or one with this name in a file that is called otherwise."""
        for directory in self._directories:
            file = _folder(directory) / _file_name(name)
            if is_file(file):
                return _read_entry(file)
        return next((entry for entry in self._entries().good if entry.name.lower() == name.lower()), None)

    def list_all(self) -> tuple[Instance, ...]:
        """Returns all instances, sorted by name.  One that cannot be read is an error."""
        found = self._entries()
        if problems := found.problems():
            raise problems[0]
        return tuple(Instance(entry.name, entry.config_path) for entry in found.good)

    def find(self, name: str) -> Instance:
        """Returns the instance called `name`, in any case unless that is ambiguous.  Its configuration may be gone."""
        entry = self._find(name)
        return Instance(entry.name, entry.config_path)

    def delete(self, name: str) -> Instance:
        """Forgets an instance and returns it; its configuration stays."""
        entry = self._find(name)
        try:
            entry.file.unlink(missing_ok=True)  # another process was faster
            flush_directory(entry.file.parent)
        except OSError as error:
            raise cannot("delete", entry.file, error) from None
        remove_unfinished(entry.file)
        return Instance(entry.name, entry.config_path)

    def select(self, instance: str | None, config: str | None, cwd: Path) -> Instance:
        """Returns the instance that a command means; its configuration file exists (docs/spec/command-line.md,
        "Registry of instances" and "Choosing the instance").

        `instance` wins over `config`; then `Tentacle.config` in `cwd`; then the one called Tentacle; then the only one.
        """
        if instance and instance.strip():
            return _present(self.find(instance))
        if config and config.strip():
            path = cwd / config
            if not exists(path):
                problem = f"The configuration file at {config} could not be located at the specified location."
                raise InstanceError(problem)
            return Instance(None, path)
        if exists(cwd / DEFAULT_CONFIG):
            return Instance(None, cwd / DEFAULT_CONFIG)
        found = self._entries()
        chosen = next((entry for entry in found.good if entry.name == DEFAULT_NAME), None)
        if chosen is None:
            if problems := found.problems():
                raise problems[0]
            if len(found.good) > 1:
                raise InstanceError(
                    "There is more than one instance of Tentacle configured on this machine. Please pass "
                    "--instance=INSTANCENAME when invoking this command to target a specific instance. "
                    f"Available instances: {_names(found.good)}."
                )
            if not found.good:
                raise InstanceError(
                    f"Unable to find default instance of Tentacle. Available instances: {_names(found.good)}.",
                    hint=_FIRST,
                )
            chosen = found.good[0]
        return _present(Instance(chosen.name, chosen.config_path))

    def _find(self, name: str) -> _Entry:
        wanted = name.strip()
        found = self._entries()
        similar = [entry for entry in found.good if entry.name.lower() == wanted.lower()]
        chosen = next((entry for entry in similar if entry.name == wanted), similar[0] if len(similar) == 1 else None)
        if chosen is not None:
            return chosen
        if similar:
            raise InstanceError(
                f"Instance {_shown(name)} of Tentacle could not be matched to one of the existing instances: "
                f"{_names(similar)}."
            )
        if problems := (*found.broken, *found.closed):
            raise problems[0]
        raise InstanceError(
            f"Instance {_shown(name)} of Tentacle has not been configured on this machine. "
            f"Available instances: {_names(found.good)}.",
            hint=None if found.good else _FIRST,
        )

    def _entries(self) -> _Entries:
        """Reads all entries; one bad file, or a folder that this user may not read, does not hide the others."""
        found = _Entries([], [], [])
        for directory in self._directories:
            folder = _folder(directory)
            before = {entry.name.lower() for entry in found.good}
            try:
                files = sorted(file for file in folder.iterdir() if not is_temporary(file) and not is_directory(file))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                found.closed.append(cannot("read", folder, error))
                continue
            for file in files:
                try:
                    entry = _read_entry(file)
                except FileNotFoundError:
                    continue
                except TentacleError as error:
                    found.broken.append(error)
                else:
                    if entry.name.lower() not in before:
                        found.good.append(entry)
        found.good.sort(key=lambda entry: entry.name)
        return found


def _folder(directory: Path) -> Path:
    return directory / "Tentacle" / "Instances"


def _read_entry(file: Path) -> _Entry:
    content = read_bytes(file, limit=LARGEST_ENTRY)
    try:
        values: Any = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise _unreadable(file, "it is not valid JSON") from None
    named = {str(key).lower(): value for key, value in values.items()} if isinstance(values, dict) else {}
    name, path = named.get("name"), named.get("configurationfilepath")
    if not isinstance(name, str) or not isinstance(path, str) or not name.strip() or not path.strip() or "\0" in path:
        raise _unreadable(file, "it must hold the texts Name and ConfigurationFilePath")
    return _Entry(name, Path(path), file)


def _unreadable(file: Path, why: str) -> InstanceError:
    hint = "Correct or remove it; the configuration file that it points to is not affected."
    return InstanceError(f"The instance file '{file}' cannot be read: {why}.", hint=hint)


def _present(instance: Instance) -> Instance:
    if exists(instance.config_path):
        return instance
    raise InstanceError(
        f"The configuration file for instance {instance.name} could not be located at the specified location "
        f"{instance.config_path}. The file might have been manually removed without properly removing the instance "
        "and as such it is still listed as present.The instance must be created again before you can interact with it."
    )


def _shown(name: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in name)[:200]


def _need_text(path: Path) -> None:
    """Raises `InstanceError` for a path that cannot be written down: the system lets a file be named by any bytes."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise InstanceError(f"The path '{_shown(str(path))}' is not UTF-8 text.", hint="Choose another path.") from None


def _names(entries: list[_Entry]) -> str:
    return ", ".join(sorted((_shown(entry.name) for entry in entries), key=str.lower))
