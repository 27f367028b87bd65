"""Which files a service's user is given.  Needs root, as giving files away does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tentacle.cli.registration.ephemeral_note import noting
from tentacle.cli.service.files import hand_over
from tentacle.errors import TentacleError
from tentacle.home_layout import HEARTBEAT_FILE, LOCK_FILE, STATUS_FILE
from tentacle.host.account import Account
from tentacle.settings.model import Settings
from tentacle.settings.store import SettingsFile
from tests.other_user import as_nobody, of_nobody, second_name

SOMEBODY = Account("somebody", 54321, 54322, Path("/nonexistent"))


def test_the_user_gets_what_an_agent_writes_in_the_home_and_nothing_else(tmp_path: Path) -> None:
    home, registry = tmp_path / "I", tmp_path / "Instances"
    (home / "Work").mkdir(parents=True)
    SettingsFile(home / "I.config").save(Settings(application_directory=home / "apps"))
    with noting(home):
        pass
    for name in (LOCK_FILE, HEARTBEAT_FILE, STATUS_FILE, "mine"):
        (home / name).touch()
    lines = list(hand_over(home / "I.config", SettingsFile(home / "I.config").load(), SOMEBODY, registry))
    assert f"Gave the directory {home} to the user 'somebody'" in lines
    assert lines[-1] == f"Gave the file {home}/I.config to the user 'somebody'"
    kept = {path.name for path in home.iterdir() if path.stat().st_uid != SOMEBODY.uid}
    assert kept == {"mine"}


def test_a_configuration_of_root_that_the_user_gave_a_second_name_gives_nothing(open_way: Path) -> None:
    """It would speak for root, and name what the user wants to have."""
    home, precious = of_nobody(open_way / "I"), open_way / "precious"
    precious.mkdir()
    SettingsFile(open_way / "root.config").save(Settings(home=precious))
    second_name(home, "I.config", open_way / "root.config")
    with pytest.raises(TentacleError, match="several names"):
        list(hand_over(home / "I.config", Settings(home=precious), SOMEBODY, open_way / "Instances"))
    (home / "I.config").unlink()
    as_nobody(home, "ln", "-s", str(open_way / "root.config"), "I.config")
    with pytest.raises(TentacleError, match="it is not given to the user 'somebody'"):
        list(hand_over(home / "I.config", Settings(home=precious), SOMEBODY, open_way / "Instances"))
    assert precious.stat().st_uid == 0
