"""What a run's log must not show: what the agent knows, and the passwords of the run's files, also after a restart."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tentacle.home_layout import MASK_KEY
from tentacle.masking import MASK, Mask
from tentacle.observe.redaction import Redactor
from tentacle.scripts.engine import RunStatus, ScriptEngine
from tentacle.scripts.errors import ScriptError
from tentacle.scripts.output.known_secrets import KnownSecrets
from tentacle.scripts.output.line_masking import WITHHELD
from tentacle.scripts.workspace.workspaces import WorkspaceFile
from tests.scripts.lab import QUICK, Lab, lines

PASSWORD = "Tr0ub4dor&3"
SCRIPT = f"echo 'say {PASSWORD}'; echo 'Tr0ub4' >&2; echo 'dor&3' >&2; echo bye"


def secret_file(tmp_path: Path, password: str | None = PASSWORD) -> tuple[WorkspaceFile, ...]:
    source = tmp_path / "source"
    source.write_text("content")
    return (WorkspaceFile("secret.txt", source, password),)


def masked(status: RunStatus | None) -> None:
    assert status is not None
    assert sorted(lines(status)) == sorted([f"say {MASK}", MASK, MASK, "bye"])


async def test_the_password_of_a_file_is_masked_also_by_the_next_agent(
    lab: Lab, tmp_path: Path, new_lab: Callable[..., Lab]
) -> None:
    masked(await lab.run(SCRIPT, files=secret_file(tmp_path)))
    assert lines(await lab.run(SCRIPT, "T-2"))[0] == f"say {PASSWORD}"
    await lab.engine.aclose()
    later = new_lab()
    await later.engine.start()
    masked(await later.engine.status("T-1", 0))


async def test_nothing_below_the_work_directory_holds_the_password(lab: Lab, tmp_path: Path) -> None:
    await lab.run("true", files=secret_file(tmp_path))
    key = lab.work / MASK_KEY
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    for path in lab.work.rglob("*"):
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes(), path
        assert not path.is_file() or path == key or key.read_bytes() not in path.read_bytes()
    assert [path.name for path in lab.work.iterdir() if path.name.startswith(".mask")] == [MASK_KEY]


async def test_a_key_that_is_lost_withholds_the_log_and_harms_nothing_else(
    lab: Lab, tmp_path: Path, new_lab: Callable[..., Lab], caplog: pytest.LogCaptureFixture
) -> None:
    await lab.run(f"{SCRIPT}; exit 3", files=secret_file(tmp_path))
    await lab.engine.aclose()
    (lab.work / MASK_KEY).unlink()
    later = new_lab()
    await later.engine.start()
    status = await later.engine.status("T-1", 0)
    assert status is not None
    assert (lines(status), status.exit_code) == ([WITHHELD] * 4, 3)
    assert "The output of script T-1 is withheld, because its passwords cannot be read" in caplog.text
    masked(await later.run(SCRIPT, "T-2", files=secret_file(tmp_path)))


@pytest.mark.parametrize("password", [None, "", "abc", "a\nb\n"])
async def test_what_is_too_short_to_be_masked_needs_no_key(lab: Lab, tmp_path: Path, password: str | None) -> None:
    await lab.run("true", files=secret_file(tmp_path, password))
    assert not (lab.work / MASK_KEY).exists()


async def test_what_the_agent_knows_is_masked_in_every_script(tmp_path: Path) -> None:
    redactor = Redactor()
    engine = ScriptEngine(tmp_path / "Work", options=QUICK, known=[PASSWORD, "abc"], watch=redactor.watch)
    assert redactor.redact(f"{PASSWORD} abc") == f"{MASK} abc"
    engine.secrets.learn(["another one"])
    mask = engine.secrets.mask("T-1", "")
    assert mask is not None
    assert mask.cover(f"{PASSWORD}, another one") == f"{PASSWORD}, {MASK}"


async def test_the_agent_s_own_log_masks_what_its_runs_know_for_as_long_as_they_are_there(tmp_path: Path) -> None:
    redactor = Redactor()
    sensitive = KnownSecrets([], tmp_path / MASK_KEY, redactor.watch)
    mask = sensitive.mask("T-1", sensitive.seal("T-1", [PASSWORD]))
    assert redactor.redact(f"x {PASSWORD}") == f"x {MASK}"
    assert mask
    del mask
    assert redactor.redact(f"x {PASSWORD}") == f"x {PASSWORD}"


def test_what_was_sealed_for_one_run_is_of_no_use_for_another(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    sensitive = KnownSecrets([], tmp_path / MASK_KEY)
    sealed = sensitive.seal("T-1", [PASSWORD, PASSWORD, None])
    mask = sensitive.mask("T-1", sealed)
    assert isinstance(mask, Mask)
    assert mask.cover(PASSWORD) == MASK
    for ticket, text in (("T-2", sealed), ("T-1", sealed[:-8]), ("T-1", "rubbish"), ("T-1", "AAAA")):
        assert sensitive.mask(ticket, text) is None
    assert PASSWORD not in caplog.text


def test_two_agents_make_one_key_and_a_damaged_one_is_replaced(tmp_path: Path) -> None:
    first, second = KnownSecrets([], tmp_path / MASK_KEY), KnownSecrets([], tmp_path / MASK_KEY)
    sealed = first.seal("T-1", [PASSWORD])
    assert second.seal("T-2", [PASSWORD])
    assert second.mask("T-1", sealed) is not None
    (tmp_path / MASK_KEY).write_bytes(b"short")
    third = KnownSecrets([], tmp_path / MASK_KEY)
    assert third.mask("T-1", sealed) is None
    assert third.mask("T-3", third.seal("T-3", [PASSWORD])) is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == [MASK_KEY]


def test_a_key_that_cannot_be_made_refuses_the_script(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match=r"The key for sensitive values cannot be used: .*No such file"):
        KnownSecrets([], tmp_path / "missing" / MASK_KEY).seal("T-1", [PASSWORD])


def test_a_key_that_is_a_pipe_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / MASK_KEY)
    secrets = KnownSecrets([], tmp_path / MASK_KEY)
    assert secrets.mask("T-1", "AAAA") is None
    assert secrets.mask("T-1", secrets.seal("T-1", [PASSWORD])) is not None
