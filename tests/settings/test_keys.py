"""The table of scalar settings: every row works everywhere, and a new row is all that a new setting needs."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tentacle.agent.plan import make_plan
from tentacle.agent.reload import change
from tentacle.agent.sensitive import known_values
from tentacle.sealing import Sealer
from tentacle.settings import certificates, document
from tentacle.settings.environment import apply_environment
from tentacle.settings.environment_switch import SWITCH
from tentacle.settings.import_original.instance import read_original
from tentacle.settings.keys import KEYS, Key, ValueKind, polling_count
from tentacle.settings.model import Settings
from tentacle.settings.show import configuration_document
from tests.patience import PATIENCE

SOURCE = Path("/c.config")
SEALER = Sealer(bytes(32))
PLAIN = {
    ValueKind.TEXT: "10.0.0.1",
    ValueKind.PATH: "/somewhere/else",
    ValueKind.PORT: "4711",
    ValueKind.COUNT: "17",
    ValueKind.SECRET: "hunter2",
}
SYNTAX = {
    "tls-ciphers": "legacy",
    "script-isolation": "private",
    "script-memory-limit": "512M",
    "script-cpu-limit": "1.5",
    "script-task-limit": "200",
    "script-uid-range": "30000-30099",
    "log-file-size": "20M",
    "log-files-kept": "30",
    "log-format": "json",
    "monitor": "127.0.0.1:9113",
    "reported-version": "8.3.1000",
}
CERTIFICATE = certificates.generate()
PLAN = make_plan(Settings(), {})
every_key = pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)


def sample(key: Key) -> str:
    """A text that means another value than the default."""
    if key.kind is ValueKind.FLAG:
        return str(not key.get(Settings()))
    return SYNTAX[key.name] if key.kind is ValueKind.SYNTAX else PLAIN[key.kind]


def changed(key: Key) -> Settings:
    values: dict[ValueKind, Any] = {
        ValueKind.PATH: Path,
        ValueKind.PORT: int,
        ValueKind.COUNT: int,
        ValueKind.FLAG: lambda text: text == "True",
        ValueKind.SYNTAX: key.parse,
    }
    settings = key.put(Settings(), values.get(key.kind, str)(sample(key)))
    assert not key.is_default(settings)
    return settings


def scalar_fields(kind: Any = Settings, prefix: str = "") -> Iterator[str]:
    for field in dataclasses.fields(kind):
        default = getattr(kind(), field.name)
        if dataclasses.is_dataclass(default):
            yield from scalar_fields(type(default), f"{prefix}{field.name}.")
        elif not field.name.endswith("certificate") and field.name != "servers":
            yield f"{prefix}{field.name}"


def test_every_scalar_field_of_the_model_has_one_row() -> None:
    assert sorted(key.field for key in KEYS.values()) == sorted(scalar_fields())


@every_key
def test_a_row_is_written_to_the_file_and_read_from_it(key: Key) -> None:
    text = document.render(changed(key), document.parse("", SOURCE), SEALER.seal)
    assert document.to_settings(document.parse(text, SOURCE), SEALER.unseal) == changed(key)
    assert key.kind is not ValueKind.SECRET or sample(key) not in text
    assert sample(key) not in document.render(Settings(), document.parse(text, SOURCE), SEALER.seal)


@every_key
def test_a_row_is_shown_where_it_says(key: Key) -> None:
    shown: Any = configuration_document(changed(key))
    for name in key.dotted.split("."):
        shown = shown.get(name, {})
    assert shown == (key.text(key.get(changed(key))) if key.shown else {})
    assert not (key.shown and key.kind is ValueKind.SECRET)


@every_key
def test_a_row_is_overridden_by_its_variable(key: Key) -> None:
    if key.variable is not None:
        assert apply_environment(Settings(), {SWITCH: "true", key.variable: sample(key)}) == changed(key)


@every_key
def test_a_row_is_taken_over_from_the_original_unless_it_is_ours(key: Key, tmp_path: Path) -> None:
    if key.kind is ValueKind.SECRET:
        return  # test_instance.py has a recorded one
    config = tmp_path / "original.config"
    entry = f'<set key="{key.dotted}">{sample(key)}</set>'
    config.write_text(f"<?xml version='1.0' encoding='UTF-8' ?><octopus-settings>{entry}</octopus-settings>")
    found = read_original(config, machine_id=tmp_path / "none", machine_key=tmp_path / "none")
    assert found.left_out == ((key.dotted,) if key.ours else ())
    if key.name == "home":
        assert found.home == Path(sample(key))
    else:
        assert found.settings == (Settings() if key.ours else changed(key))


@every_key
def test_a_running_agent_takes_a_row_up_or_says_that_it_does_not(key: Key) -> None:
    before = dataclasses.replace(Settings(), certificate=CERTIFICATE)
    after = dataclasses.replace(changed(key), certificate=CERTIFICATE)
    done = change(before, after, PLAN, {})
    assert done.settings == (after if key.at_once else before)
    assert bool(done.waiting) is not key.at_once


@every_key
def test_a_secret_is_masked(key: Key) -> None:
    assert (sample(key) in known_values(changed(key), {})) is (key.kind is ValueKind.SECRET)


@pytest.mark.parametrize(("text", "count"), [("1", 1), (" +7 ", 7), ("5\x1f", 5), ("999999999", 999999999)])
def test_a_count_may_have_a_sign_and_any_blank_around_it(text: str, count: int) -> None:
    assert polling_count(text) == count


NEW_SETTING = """
import sys
from tentacle import records
from tentacle.settings import model

@records.dataclass(frozen=True)
class Settings(model.Settings):
    greeting: str | None = None

model.Settings = Settings

from tentacle.settings import keys

keys.KEYS["greeting"] = keys.Key(
    "greeting",
    keys.ValueKind.TEXT,
    "Tentacle.Manners.Greeting",
    ours=True,
    variable="TENTACLE_GREETING",
    options=("--greeting",),
    help="What to say first",
    line="Greeting set to: {}".format,
    words="what to say first",
)

from tentacle.agent import reload
from tentacle.cli.main import main

assert reload.WORDS["greeting"] == "what to say first"
sys.exit(main())
"""


def test_a_new_setting_needs_one_row_and_a_field(tmp_path: Path) -> None:
    def tentacle(*arguments: str, **variables: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", NEW_SETTING, *arguments],
            cwd=tmp_path,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    config = tmp_path / "tentacle.config"
    tentacle("create-instance", "--instance=I", f"--config={config}")
    assert "Manners" not in tentacle("show-configuration", "--instance=I")
    assert "What to say first" in tentacle("configure", "--help")
    assert "Greeting set to: hello\n" in tentacle("configure", "--instance=I", "--greeting=hello")
    assert "\ngreeting: hello\n" in config.read_text()
    assert json.loads(tentacle("show-configuration", "--instance=I"))["Tentacle"]["Manners"] == {"Greeting": "hello"}
    overridden = tentacle("show-configuration", "--instance=I", TENTACLE_GREETING="moin", **{SWITCH: "true"})
    assert json.loads(overridden)["Tentacle"]["Manners"] == {"Greeting": "moin"}
