"""Where the key of an instance is.  The stores of root are tried out in `tests/e2e/test_credentials.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.settings.key_places import (
    CREDENTIAL,
    CREDENTIALS_VARIABLE,
    KeyAccess,
    key_access,
    key_of_service,
    key_place,
)

SEGMENTS = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=40)
PATHS = st.lists(SEGMENTS.filter(lambda name: name not in (".", "..")), min_size=1, max_size=8)


def test_it_is_beside_the_configuration_unless_root_keeps_it(tmp_path: Path) -> None:
    config = tmp_path / "tentacle.config"
    assert key_access(config) is KeyAccess.USER
    assert key_place(config, KeyAccess.USER) == tmp_path / "tentacle.config.key"
    for access, directory in ((KeyAccess.ROOT, "credstore"), (KeyAccess.ENCRYPTED, "credstore.encrypted")):
        place = key_place(Path("/nowhere/some worker/t.config"), access)
        assert place.parent == Path("/etc") / directory
        assert place.name.startswith("tentacle-nowhere-some-worker-t.config-")


def test_a_link_to_a_configuration_has_its_key(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "t.config")
    (tmp_path / "t.config").touch()
    for access in KeyAccess:
        assert key_place(tmp_path / "link", access) == key_place(tmp_path / "t.config", access)


@given(PATHS, PATHS)
def test_no_two_configurations_share_a_key_and_its_name_needs_no_quotes(one: list[str], other: list[str]) -> None:
    names = [key_place(Path("/nowhere", *parts), KeyAccess.ROOT).name for parts in (one, other)]
    assert (names[0] == names[1]) == (Path(*one) == Path(*other))
    for name in names:
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
        assert name.startswith("tentacle-"), "as docs/install.md has it"
        assert len(name) < 200


@pytest.mark.parametrize("environ", [{}, {CREDENTIALS_VARIABLE: ""}, {CREDENTIALS_VARIABLE: "/nowhere"}])
def test_a_process_that_was_handed_nothing(environ: dict[str, str]) -> None:
    assert key_of_service(environ) is None


def test_a_process_that_was_handed_the_key(tmp_path: Path) -> None:
    (tmp_path / CREDENTIAL).touch()
    assert key_of_service({CREDENTIALS_VARIABLE: str(tmp_path)}) == tmp_path / CREDENTIAL
