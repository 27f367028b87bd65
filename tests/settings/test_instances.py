"""The registry of instances, and which one a command means."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.disk import DiskError
from tentacle.settings.errors import InstanceError
from tentacle.settings.instances import (
    Instance,
    InstanceRegistry,
    clean_name,
    instance_directories,
    new_instance_paths,
    registry_file_name,
)
from tests.patience import PATIENCE
from tests.recorded import VECTORS


@pytest.fixture
def registry() -> InstanceRegistry:
    return InstanceRegistry(*instance_directories(os.environ))


def make(registry: InstanceRegistry, folder: Path, *names: str) -> None:
    for name in names:
        config = folder / f"{name}.cfg"
        config.touch()
        registry.create(name, config)


def put(registry: InstanceRegistry, file: str, content: bytes | str) -> Path:
    registry.folder.mkdir(parents=True, exist_ok=True)
    path = registry.folder / file
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_where_instances_are_looked_up(tmp_path: Path) -> None:
    own = tmp_path / "home" / ".local" / "share" / "Octopus"
    assert instance_directories({}) == (Path("/etc/octopus"), own)
    assert instance_directories({"TentacleMachineConfigurationHomeDirectory": " "}) == (Path("/etc/octopus"), own)
    chosen = instance_directories({"TentacleMachineConfigurationHomeDirectory": str(tmp_path)})
    assert chosen == (tmp_path,)
    assert InstanceRegistry(*chosen).folder == tmp_path / "Tentacle" / "Instances"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives directories away")
def test_root_with_the_home_of_somebody_else_has_no_part_in_that_user_s_instances(tmp_path: Path) -> None:
    own = tmp_path / "home" / ".local" / "share" / "Octopus"
    own.mkdir(parents=True)
    assert own in instance_directories({})
    os.chown(own, 65534, 65534)
    assert instance_directories({}) == (Path("/etc/octopus"),)


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A directory that even root cannot make."""
    (tmp_path / "file").touch()
    return tmp_path / "file" / "octopus"


def test_instances_are_made_in_the_first_directory_that_can_be_written(tmp_path: Path, closed: Path) -> None:
    for first, folder in ((tmp_path / "first", "first"), (closed, "own")):
        registry = InstanceRegistry(first, tmp_path / "own")
        registry.create("A", tmp_path / "x")
        assert (tmp_path / folder / "Tentacle" / "Instances" / "a.config").is_file()
        assert registry.find("a") == Instance("A", tmp_path / "x")
        assert registry.directory_mode_for(tmp_path / folder / "Tentacle" / "x") == 0o755
        assert registry.directory_mode_for(tmp_path / folder / "A" / "x") == 0o700
        registry.delete("a")
        assert registry.list_all() == ()


def test_names_of_the_machine_count_over_those_of_the_user(tmp_path: Path) -> None:
    InstanceRegistry(tmp_path / "own").create("tentacle", tmp_path / "theirs")
    InstanceRegistry(tmp_path / "own").create("Own", tmp_path / "own.config")
    machine = InstanceRegistry(tmp_path / "machine", tmp_path / "own")
    assert [one.name for one in machine.list_all()] == ["Own", "tentacle"]
    assert machine.create("Tentacle", tmp_path / "moved").name == "tentacle", "one that is there is changed in place"
    InstanceRegistry(tmp_path / "machine").create("Tentacle", tmp_path / "ours")
    assert machine.find("tentacle") == Instance("Tentacle", tmp_path / "ours")
    assert [one.name for one in machine.list_all()] == ["Own", "Tentacle"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_a_machine_whose_names_a_user_may_not_read_or_change(tmp_path: Path) -> None:
    for name in ("open", "shut"):
        InstanceRegistry(tmp_path / name).create("Tentacle", tmp_path / "machine.config")
    (tmp_path / "shut" / "Tentacle").chmod(0o700)
    (tmp_path / "own").mkdir()
    tmp_path.chmod(0o711)
    os.chown(tmp_path / "own", 65534, 65534)
    said = as_nobody(
        tmp_path,
        """
        print(InstanceRegistry(Path("open"), Path("own")).find("Tentacle").config_path.name)
        refused(lambda: InstanceRegistry(Path("open"), Path("own")).create("Tentacle", Path("x")))
        shut = InstanceRegistry(Path("shut"), Path("own"))
        refused(shut.list_all)
        refused(lambda: shut.find("Tentacle"))
        shut.create("Mine", Path("mine.config"))
        print([one.name for one in shut.list_all()])
        refused(lambda: shut.find("Tentacle"))
        print(shut.find("mine").name)
        """,
    )
    unreadable = "Unable to read file 'shut/Tentacle/Instances' as user 'nobody'. Please check file permissions."
    assert said == [
        "machine.config",
        "There is an instance called Tentacle already, in 'open/Tentacle/Instances', "
        "where this user may not change it.",
        unreadable,
        unreadable,
        "['Mine']",
        unreadable,
        "Mine",
    ]


def as_nobody(folder: Path, code: str) -> list[str]:
    """What the code prints when a user without rights runs it in `folder`."""
    begin = """
        import os, sys
        from pathlib import Path
        from tentacle.errors import TentacleError
        from tentacle.settings.instances import InstanceRegistry
        os.chdir(sys.argv[1])
        b"x".decode("utf-8-sig")  # while the library can be read
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        def refused(attempt):
            try:
                attempt()
            except TentacleError as error:
                print(error)
        """
    program = textwrap.dedent(begin) + textwrap.dedent(code)
    command = [sys.executable, "-c", program, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_an_entry_is_written_as_the_original_writes_it(registry: InstanceRegistry) -> None:
    registry.create("Legacy", Path("/etc/octopus/Legacy/tentacle-Legacy.config"))
    written = registry.folder / "legacy.config"
    assert written.read_bytes() == (VECTORS / "dotnet-instance" / "registry-legacy.config").read_bytes()
    assert stat.S_IMODE(written.stat().st_mode) == 0o644
    assert [entry.name for entry in registry.folder.iterdir()] == ["legacy.config"]


def test_an_entry_of_the_original_is_read(registry: InstanceRegistry) -> None:
    put(registry, "any.name", b"\xef\xbb\xbf" + (VECTORS / "dotnet-instance" / "registry-legacy.config").read_bytes())
    assert registry.list_all() == (Instance("Legacy", Path("/etc/octopus/Legacy/tentacle-Legacy.config")),)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("Tentacle", "tentacle.config"),
        ("instance 1", "instance-1.config"),
        (" My  Worker ", "my--worker.config"),
        ("Ünïcode", "ünïcode.config"),
        ("..", "...config"),
        ("a.b:c", "a.b:c.config"),
    ],
)
def test_the_file_of_a_name(name: str, file: str) -> None:
    assert registry_file_name(name) == file


@pytest.mark.parametrize(
    "name", ["", "  ", "../x", "a/b", "/etc/passwd", "a\\b", "a\0b", "a\nb", "\x1b[31m", "\udcff", "x" * 300]
)
def test_a_name_that_no_file_can_have(registry: InstanceRegistry, name: str) -> None:
    with pytest.raises(InstanceError) as caught:
        registry.create(name, Path("/x"))
    assert str(caught.value).isprintable()
    assert not registry.folder.exists()


@given(st.text())
def test_no_name_leads_out_of_the_registry(name: str) -> None:
    try:
        file = registry_file_name(name)
    except InstanceError:
        return
    path = Path("/r/Instances") / file
    assert Path(os.path.normpath(path)).parent == Path("/r/Instances")
    assert file.endswith(".config")
    assert len(file.encode()) <= 255
    assert (
        file == registry_file_name(clean_name(name)) == registry_file_name(name.replace(" ", "-").strip())
        or " " in name
    )


def test_creating_again_keeps_the_spelling_and_takes_the_new_path(registry: InstanceRegistry, tmp_path: Path) -> None:
    registry.create("My Worker", tmp_path / "a")
    assert registry.create("MY WORKER", tmp_path / "b") == Instance("My Worker", tmp_path / "b")
    assert registry.list_all() == (Instance("My Worker", tmp_path / "b"),)


def test_two_names_with_one_file(registry: InstanceRegistry, tmp_path: Path) -> None:
    registry.create("My Worker", tmp_path / "a")
    with pytest.raises(InstanceError, match="'my-worker' is too similar to that of the existing instance 'My Worker'"):
        registry.create("my-worker", tmp_path / "b")
    assert registry.find("My Worker").config_path == tmp_path / "a"


def test_creating_what_is_there_under_another_file_name(registry: InstanceRegistry, tmp_path: Path) -> None:
    put(registry, "foreign.json", json.dumps({"Name": "Alpha", "ConfigurationFilePath": "/a"}))
    registry.create("alpha", tmp_path / "b")
    assert registry.list_all() == (Instance("Alpha", tmp_path / "b"),)


def test_a_relative_path_is_made_absolute(registry: InstanceRegistry) -> None:
    assert registry.create("A", Path("x.config")).config_path == Path.cwd() / "x.config"


def test_listing_is_sorted_and_a_missing_folder_is_empty(registry: InstanceRegistry, tmp_path: Path) -> None:
    assert registry.list_all() == ()
    make(registry, tmp_path, "b", "C", "a")
    (registry.folder / "folder").mkdir()
    put(registry, ".a.config.01234567.tmp", "unfinished")
    assert [instance.name for instance in registry.list_all()] == ["C", "a", "b"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        "{}",
        '{"Name": "a"}',
        '{"Name": 1, "ConfigurationFilePath": "/x"}',
        b"\xff\xfe",
        "x" * 100_000,
        '{"Name": "a", "ConfigurationFilePath": "/x\\u0000"}',
    ],
)
def test_an_entry_that_cannot_be_read_is_named_and_does_not_stop_the_others(
    registry: InstanceRegistry, tmp_path: Path, content: str | bytes
) -> None:
    make(registry, tmp_path, "Good")
    bad = put(registry, "bad.config", content)
    with pytest.raises((InstanceError, DiskError), match=re.escape(str(bad))) as caught:
        registry.list_all()
    assert "\n" not in str(caught.value)
    assert registry.find("good").name == "Good"
    assert registry.select("good", None, tmp_path).name == "Good"
    with pytest.raises((InstanceError, DiskError), match=re.escape(str(bad))):
        registry.find("bad")
    with pytest.raises((InstanceError, DiskError), match=re.escape(str(bad))):
        registry.select(None, None, tmp_path)
    with pytest.raises((InstanceError, DiskError), match=re.escape(str(bad))):
        registry.create("bad", tmp_path / "x")


def test_finding_by_name(registry: InstanceRegistry, tmp_path: Path) -> None:
    put(registry, "1", json.dumps({"Name": "alpha", "ConfigurationFilePath": "/1"}))
    assert registry.find(" ALPHA ").config_path == Path("/1")
    put(registry, "2", json.dumps({"Name": "Alpha", "ConfigurationFilePath": "/2"}))
    assert registry.find("Alpha").config_path == Path("/2")
    with pytest.raises(InstanceError) as caught:
        registry.find("ALPHA")
    assert str(caught.value) == (
        "Instance ALPHA of Tentacle could not be matched to one of the existing instances: Alpha, alpha."
    )


def test_a_name_that_is_not_there(registry: InstanceRegistry, tmp_path: Path) -> None:
    with pytest.raises(InstanceError) as caught:
        registry.find("X")
    assert str(caught.value) == (
        "Instance X of Tentacle has not been configured on this machine. Available instances: ."
    )
    make(registry, tmp_path, "b", "A", "c")
    with pytest.raises(InstanceError) as caught:
        registry.find("../x\n")
    assert str(caught.value) == (
        "Instance ../x? of Tentacle has not been configured on this machine. Available instances: A, b, c."
    )
    assert caught.value.exit_code == 1


def test_deleting_forgets_the_name_only(registry: InstanceRegistry, tmp_path: Path) -> None:
    make(registry, tmp_path, "A", "B")
    put(registry, ".a.config.01234567.tmp", "unfinished")
    assert registry.delete("a") == Instance("A", tmp_path / "A.cfg")
    assert [entry.name for entry in registry.folder.iterdir()] == ["b.config"]
    assert (tmp_path / "A.cfg").exists()
    with pytest.raises(InstanceError, match="Instance a of Tentacle has not been configured"):
        registry.delete("a")


def test_the_rules_of_selection(registry: InstanceRegistry, tmp_path: Path) -> None:
    elsewhere = tmp_path / "cwd"
    elsewhere.mkdir()
    with pytest.raises(InstanceError, match=r"^Unable to find default instance of Tentacle\. Available instances: \.$"):
        registry.select(None, None, elsewhere)
    make(registry, tmp_path, "One")
    assert registry.select(None, "", elsewhere).name == "One"
    make(registry, tmp_path, "two")
    with pytest.raises(InstanceError, match=r"^There is more than one instance .* Available instances: One, two\.$"):
        registry.select(" ", " ", elsewhere)
    make(registry, tmp_path, "Tentacle")
    assert registry.select(None, None, elsewhere).name == "Tentacle"
    (elsewhere / "Tentacle.config").touch()
    assert registry.select(None, None, elsewhere) == Instance(None, elsewhere / "Tentacle.config")
    (elsewhere / "own.config").touch()
    assert registry.select(None, "own.config", elsewhere) == Instance(None, elsewhere / "own.config")
    assert registry.select("two", "own.config", elsewhere) == Instance("two", tmp_path / "two.cfg")


def test_a_configuration_that_is_gone(registry: InstanceRegistry, tmp_path: Path) -> None:
    registry.create("Gone", tmp_path / "gone.cfg")
    for instance in ("gone", None):
        with pytest.raises(InstanceError) as caught:
            registry.select(instance, None, tmp_path)
        assert str(caught.value) == (
            f"The configuration file for instance Gone could not be located at the specified location "
            f"{tmp_path / 'gone.cfg'}. The file might have been manually removed without properly removing the "
            "instance and as such it is still listed as present.The instance must be created again before you can "
            "interact with it."
        )
    with pytest.raises(InstanceError) as caught:
        registry.select(None, "no.cfg", tmp_path)
    assert str(caught.value) == "The configuration file at no.cfg could not be located at the specified location."


def test_a_registry_that_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "Tentacle").touch()
    registry = InstanceRegistry(tmp_path)
    assert registry.list_all() == ()
    with pytest.raises(DiskError, match="Unable to create directory"):
        registry.create("A", tmp_path / "x")


@pytest.mark.parametrize(
    ("config", "home", "expected"),
    [
        ("/c/x.cfg", None, ("/c", "/c/x.cfg")),
        ("x.cfg", None, ("/cwd", "/cwd/x.cfg")),
        ("sub/x.cfg", "", ("/cwd/sub", "/cwd/sub/x.cfg")),
        (None, None, ("/cwd", "/cwd/Tentacle.config")),
        (None, "/h", ("/h", "/h/Tentacle.config")),
        ("x.cfg", "/h", ("/h", "/h/x.cfg")),
        ("x.cfg", "h", ("/cwd/h", "/cwd/h/x.cfg")),
        ("/c/x.cfg", "/h", ("/h", "/c/x.cfg")),
    ],
)
def test_where_a_new_instance_goes(config: str | None, home: str | None, expected: tuple[str, str]) -> None:
    assert new_instance_paths(config, home, Path("/cwd")) == tuple(Path(path) for path in expected)


def test_the_directory_of_a_configuration_is_private_unless_the_registry_is_in_it() -> None:
    registry = InstanceRegistry(Path("/etc/octopus"))
    assert registry.directory_mode_for(Path("/etc/octopus/W1/tentacle-W1.config")) == 0o700
    assert registry.directory_mode_for(Path("/etc/octopus/Tentacle/tentacle-Tentacle.config")) == 0o755
