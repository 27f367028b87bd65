"""Users of the machine, and what they can run.  Needs root, as running a program as another user does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tentacle.host.account import find_account, require_account, require_usable
from tentacle.host.errors import HostError


def test_users_are_found_by_name_and_number() -> None:
    root = require_account("root")
    assert (root.uid, root.is_root) == (0, True)
    assert find_account("0") == root
    for name in ("no-such-user", "", "a\0b", "99999999999999999999", "-1", "../x"):
        assert find_account(name) is None
        with pytest.raises(HostError):
            require_account(name)


def test_a_user_who_cannot_do_it_is_told_apart_before_anything_is_installed(tmp_path: Path) -> None:
    nobody = require_account("nobody")
    require_usable(nobody, ["/bin/sh", "-c", 'test "$(id -un)" = nobody && test "$A" = b'], {"A": "b"})
    with pytest.raises(HostError, match="cannot use this instance: no way"):
        require_usable(nobody, ["/bin/sh", "-c", "echo no way >&2; exit 3"], {})
    private = tmp_path / "program"
    private.write_text("#!/bin/sh\n")
    private.chmod(0o700)
    with pytest.raises(HostError, match="cannot run"):
        require_usable(nobody, [str(private)], {})
