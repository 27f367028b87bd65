"""One configuration file: killed, full, locked, damaged, moved; never lost."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tentacle.disk import DiskError, exists
from tentacle.settings import certificates
from tentacle.settings.errors import ConfigurationError, SettingsError
from tentacle.settings.key_places import key_path_of
from tentacle.settings.model import CommunicationStyle, ProxySettings, Settings, TrustedServer
from tentacle.settings.store import SettingsFile
from tests.other_user import as_nobody, of_nobody, only_root, second_name
from tests.patience import PATIENCE
from tests.recorded import VECTORS
from tests.small_files import small_files

ADDS = """
import sys
from dataclasses import replace
from pathlib import Path
from tentacle.settings.key_places import key_path_of
from tentacle.settings.store import SettingsFile
from tentacle.settings.trust import trust
file = SettingsFile(Path(sys.argv[1]))
for number in range(int(sys.argv[3])):
    file.update(lambda s: replace(s, servers=trust(s.servers, f"{sys.argv[2]}{number}")))
"""
COUNTS = """
import sys
from dataclasses import replace
from pathlib import Path
from tentacle.settings.key_places import key_path_of
from tentacle.settings.store import SettingsFile
file = SettingsFile(Path(sys.argv[1]))
while True:
    file.update(lambda s: replace(s, port=s.port + 1, polling_connection_count=s.port + 1))
    print("x", flush=True)
"""

FILLS = """
import subprocess, sys
from pathlib import Path
from tentacle.errors import TentacleError
from tentacle.settings.model import ProxySettings, Settings
from tentacle.settings.store import SettingsFile
print("mounted")
folder = Path(sys.argv[1])
file = SettingsFile(folder / "T.config")
file.save(Settings(proxy=ProxySettings(password="hunter2")))
def attempt():
    try:
        file.save(Settings(port=1))
    except TentacleError as error:
        print(str(error).split(". ")[1].rstrip("."))
    print(file.load().proxy.password)
try:
    with (folder / "filler").open("wb", buffering=0) as filler:
        while filler.write(b"x" * 4096):
            pass
except OSError:
    attempt()
subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
attempt()
"""


@pytest.fixture
def file(tmp_path: Path) -> SettingsFile:
    made = SettingsFile(tmp_path / "T.config")
    made.create()
    return made


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def with_secret(file: SettingsFile) -> None:
    file.update(lambda s: replace(s, proxy=ProxySettings(password="hunter2")))


def test_a_new_file_is_private_and_alone_with_its_key(tmp_path: Path) -> None:
    old_mask = os.umask(0)
    try:
        file = SettingsFile(tmp_path / "a" / "b" / "T.config")
        assert file.create()
    finally:
        os.umask(old_mask)
    assert not file.create()
    assert file.load() == Settings()
    assert names(tmp_path / "a" / "b") == {"T.config", "T.config.key"}
    assert mode(tmp_path / "a" / "b") == 0o700
    assert mode(file.path) == mode(tmp_path / "a" / "b" / "T.config.key") == 0o600


def test_a_file_that_others_may_read_is_private_after_a_change(file: SettingsFile) -> None:
    file.path.chmod(0o644)
    file.save(Settings(port=1))
    assert mode(file.path) == 0o600


def test_everything_survives_a_change_of_something_else(file: SettingsFile) -> None:
    certificate = certificates.generate()
    server = TrustedServer("ABC", CommunicationStyle.TENTACLE_ACTIVE, "https://h:1", "poll://s/")
    secret = ProxySettings(False, "h", 3128, "u", "hunter2")
    before = file.update(lambda s: replace(s, certificate=certificate, servers=(server,), polling_proxy=secret))
    after = file.update(lambda s: replace(s, port=1))
    assert after == file.load() == replace(before, port=1)
    text = file.path.read_text(encoding="utf-8")
    assert "hunter2" not in text
    assert "PRIVATE" not in text


def test_settings_are_made_once_while_the_text_stays_the_same(file: SettingsFile) -> None:
    found = file.load()
    assert file.load() is found
    SettingsFile(file.path).update(lambda s: replace(s, port=7))
    assert file.load().port == 7
    file.path.write_text("port: [")
    with pytest.raises(ConfigurationError, match="line 1 is not valid YAML"):
        file.load()


def test_unknown_keys_survive_a_change(file: SettingsFile) -> None:
    file.path.write_text("site: Brno\nport: 5\n")
    file.update(lambda s: replace(s, port=s.port + 1))
    assert "site: Brno\n" in file.path.read_text(encoding="utf-8")
    assert file.load().port == 6


def test_a_change_that_fails_changes_nothing(file: SettingsFile) -> None:
    before = file.path.read_bytes()

    def refuse(_: Settings) -> Settings:
        raise SettingsError("no")

    with pytest.raises(SettingsError, match="no"):
        file.update(refuse)
    assert file.path.read_bytes() == before
    file.update(lambda s: replace(s, port=1))


def test_two_processes_at_once_lose_nothing(file: SettingsFile) -> None:
    each = 15
    running = [subprocess.Popen([sys.executable, "-c", ADDS, str(file.path), who, str(each)]) for who in "AB"]
    for process in running:
        assert process.wait(timeout=PATIENCE) == 0
    found = {server.thumbprint for server in file.load().servers}
    assert found == {f"{who}{number}" for who in "AB" for number in range(each)}
    assert names(file.path.parent) == {"T.config", "T.config.key"}


def test_the_first_change_of_two_processes_makes_one_key(tmp_path: Path) -> None:
    path = tmp_path / "T.config"
    path.touch()
    running = [subprocess.Popen([sys.executable, "-c", ADDS, str(path), who, "1"]) for who in "ABC"]
    for process in running:
        assert process.wait(timeout=PATIENCE) == 0
    assert {server.thumbprint for server in SettingsFile(path).load().servers} == {"A0", "B0", "C0"}


@pytest.mark.parametrize("after", [1, 7, 20])
def test_killed_at_any_time_the_file_is_whole_and_unlocked(file: SettingsFile, after: int) -> None:
    with_secret(file)
    with subprocess.Popen([sys.executable, "-c", COUNTS, str(file.path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(after):
            assert process.stdout.readline() == b"x\n"
        process.send_signal(signal.SIGKILL)
    killed = file.load()
    assert killed.port >= 10933 + after
    assert killed.polling_connection_count == killed.port
    assert killed.proxy.password == "hunter2"
    file.update(lambda s: replace(s, port=1))
    assert names(file.path.parent) == {"T.config", "T.config.key"}


def test_what_a_killed_writer_left_is_removed_by_the_next(file: SettingsFile) -> None:
    (file.path.parent / ".T.config.0123abcd.tmp").write_text("half")
    (file.path.parent / "other.tmp").touch()
    file.save(Settings())
    assert names(file.path.parent) == {"T.config", "T.config.key", "other.tmp"}


def test_a_full_disk_leaves_the_old_settings(file: SettingsFile) -> None:
    with_secret(file)
    with small_files(100), pytest.raises(DiskError, match="Unable to write file"):
        file.save(Settings(port=1))
    assert file.load().proxy.password == "hunter2"
    assert names(file.path.parent) == {"T.config", "T.config.key"}


def test_a_disk_that_is_full_before_the_key_is_written(tmp_path: Path) -> None:
    file = SettingsFile(tmp_path / "T.config")
    with small_files(0), pytest.raises(DiskError, match="Unable to write file"):
        file.create()
    assert not file.exists()
    assert file.create()
    with_secret(file)
    assert file.load().proxy.password == "hunter2"


def test_a_real_full_disk_and_a_real_read_only_one(tmp_path: Path) -> None:
    """In a mount namespace of its own, which ends with the process."""
    command = f"mount -t tmpfs -o size=16k tmpfs {tmp_path} && exec {sys.executable} -c '{FILLS}' {tmp_path}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    if not done.stdout.startswith("mounted"):
        pytest.skip("mounting is not allowed here")
    assert done.stdout.splitlines()[1:] == ["No space left on device", "hunter2", "Read-only file system", "hunter2"]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    file = SettingsFile(tmp_path / "no" / "T.config")
    assert not file.exists()
    message = f"The configuration file at {file.path} could not be located at the specified location."
    for attempt in (file.load, lambda: file.update(lambda s: s)):
        with pytest.raises(ConfigurationError) as caught:
            attempt()
        assert str(caught.value) == message
    assert not exists(tmp_path / "no")
    with pytest.raises(DiskError, match="No such file or directory"):
        file.save(Settings())


@pytest.mark.parametrize("damage", [b"port: [", b"port: ten\n", b"\xff\xfe", b"a: 1\na: 2\n", b"format: 9\n"])
def test_a_damaged_file_is_never_written_to(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "T.config"
    path.write_bytes(damage)
    file = SettingsFile(path)
    for attempt in (file.load, lambda: file.update(lambda s: replace(s, port=1))):
        with pytest.raises(ConfigurationError, match=r"The configuration file '.*/T\.config'"):
            attempt()
    assert path.read_bytes() == damage


def test_not_even_by_saving_over_it(file: SettingsFile) -> None:
    file.path.write_bytes(b"port: [")
    for attempt in (file.create, lambda: file.save(Settings())):
        with pytest.raises(ConfigurationError, match="is not valid YAML"):
            attempt()
    assert file.path.read_bytes() == b"port: ["


@pytest.mark.parametrize(
    "text", [b"<?xml version='1.0' encoding='UTF-8' ?><octopus-settings></octopus-settings>", None]
)
def test_a_file_of_the_original_is_named_as_such_and_left_alone(tmp_path: Path, text: bytes | None) -> None:
    content = text or (VECTORS / "dotnet-instance" / "tentacle-Legacy.config").read_bytes()
    path = tmp_path / "T.config"
    path.write_bytes(content)
    file = SettingsFile(path)
    for attempt in (file.create, file.load, lambda: file.save(Settings()), lambda: file.update(lambda s: s)):
        with pytest.raises(ConfigurationError, match="belongs to an original Octopus Tentacle") as caught:
            attempt()
        assert caught.value.exit_code == 1
    assert path.read_bytes() == content
    assert names(tmp_path) == {"T.config"}


def test_a_configuration_moved_with_its_key_works_and_without_it_says_so(file: SettingsFile, tmp_path: Path) -> None:
    with_secret(file)
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(file.path, other / "New.config")
    moved = SettingsFile(other / "New.config")
    for attempt in (moved.load, lambda: moved.save(Settings()), lambda: moved.update(lambda s: s)):
        with pytest.raises(ConfigurationError, match=r"The key file '.*/New\.config\.key' is missing") as caught:
            attempt()
        assert "Restore it" in str(caught.value.hint)
    assert names(other) == {"New.config"}
    shutil.copy(f"{file.path}.key", other / "New.config.key")
    assert moved.load().proxy.password == "hunter2"


def test_a_configuration_that_another_process_is_changing(file: SettingsFile) -> None:
    told: list[str] = []

    def change(settings: Settings) -> Settings:
        SettingsFile(file.path, lock_wait=1.1, waiting=lambda: told.append("waiting")).save(settings)
        return settings

    with pytest.raises(
        ConfigurationError, match=r"is being changed by another process, which holds '.*/T\.config\.key'"
    ):
        file.update(change)
    assert told == ["waiting"]


def test_the_key_of_a_linked_configuration_is_beside_its_target(file: SettingsFile, tmp_path: Path) -> None:
    (tmp_path / "L.config").symlink_to(file.path)
    assert key_path_of(tmp_path / "L.config") == key_path_of(file.path) == Path(f"{file.path}.key")


def test_the_key_of_another_configuration(file: SettingsFile, tmp_path: Path) -> None:
    with_secret(file)
    before = file.path.read_bytes()
    other = SettingsFile(tmp_path / "Other.config")
    other.create()
    shutil.copy(f"{other.path}.key", f"{file.path}.key")
    for attempt in (file.load, lambda: file.update(lambda s: s)):
        with pytest.raises(ConfigurationError, match=r"proxy\.password cannot be unsealed with the key in '.*\.key'"):
            attempt()
    assert file.path.read_bytes() == before


def test_a_lost_key_of_a_configuration_without_secrets_is_made_anew(file: SettingsFile) -> None:
    Path(f"{file.path}.key").unlink()
    assert file.load() == Settings()
    with_secret(file)
    assert file.load().proxy.password == "hunter2"


def test_a_link_stays_a_link(file: SettingsFile, tmp_path: Path) -> None:
    link = tmp_path / "links" / "L.config"
    link.parent.mkdir()
    link.symlink_to(file.path)
    SettingsFile(link).save(Settings(port=7))
    assert link.is_symlink()
    assert file.load().port == 7
    assert names(link.parent) == {"L.config"}


def test_a_link_to_itself(tmp_path: Path) -> None:
    link = tmp_path / "L.config"
    link.symlink_to(link)
    with pytest.raises(DiskError):
        SettingsFile(link).load()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_leaves_the_file_to_its_owner(file: SettingsFile) -> None:
    key = Path(f"{file.path}.key")
    key.unlink()
    os.chown(file.path, 12345, 12346)
    with_secret(file)
    assert (file.path.stat().st_uid, key.stat().st_uid) == (12345, 12345)
    assert mode(file.path) == mode(key) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_is_told_that_it_is_not_his(open_way: Path) -> None:
    closed = open_way / "closed"
    closed.mkdir(mode=0o700)
    SettingsFile(closed / "T.config").save(Settings())
    code = "import sys\nfrom pathlib import Path\nfrom tentacle.settings.store import SettingsFile\n"
    code += "import os\nos.setgroups([])\nos.setuid(65534)\n"
    code += "from tentacle.errors import TentacleError\n"
    code += "try: SettingsFile(Path('T.config')).load()\n"
    code += "except TentacleError as error: print(error, error.hint, sep='\\n')\n"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=closed, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    said, hint = done.stdout.splitlines()
    assert said.startswith("Unable to read file '"), done.stderr
    assert said.endswith("Please check file permissions.")
    assert hint is not None
    assert hint.startswith(f"The directory '{closed}' is closed to that user: do it as its owner, ")
    assert hint.endswith(", or chmod o+x it.")


def test_a_configuration_that_is_turned_by_links_is_read_where_they_lead_now(tmp_path: Path) -> None:
    """As Kubernetes mounts a secret: `..data` leads to a directory that is replaced as a whole, and then removed."""
    for name, port in (("..1", 1), ("..2", 2)):
        SettingsFile(tmp_path / name / "T.config").create()
        SettingsFile(tmp_path / name / "T.config").save(Settings(port=port))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "T.config").symlink_to("..data/T.config")
    file = SettingsFile(tmp_path / "T.config")
    assert file.load().port == 1
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    shutil.rmtree(tmp_path / "..1")
    assert file.load().port == 2


@only_root
def test_root_neither_reads_nor_changes_what_the_owner_of_the_directory_linked_to(open_way: Path) -> None:
    foreign = SettingsFile(open_way / "of-root" / "T.config")
    foreign.create(directory_mode=0o755)
    with_secret(foreign)
    before = foreign.path.read_bytes()
    home = of_nobody(open_way / "home")
    for symbolic in (True, False):
        if symbolic:
            as_nobody(home, "ln", "-s", str(foreign.path), "T.config")
        else:
            second_name(home, "T.config", foreign.path)
        linked = SettingsFile(home / "T.config")
        with pytest.raises(DiskError, match="is not followed"):
            linked.load()
        with pytest.raises(DiskError, match="is not followed"):
            linked.save(Settings(port=7))
        (home / "T.config").unlink()
    assert foreign.path.read_bytes() == before
    assert names(foreign.path.parent) == {"T.config", "T.config.key"}
