"""What `doctor` makes of shells and of proxy variables."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tentacle.cli.doctor.finding import Level
from tentacle.cli.doctor.machine import bash, environment_proxies, without_userinfo


def test_bash(tmp_path: Path) -> None:
    assert bash()[0].level is Level.OK
    assert bash(tmp_path / "bash")[0].level is Level.FAIL
    (tmp_path / "old").write_text("#!/bin/sh\necho 'GNU bash, version 3.2.57(1)-release'\n")
    (tmp_path / "old").chmod(0o755)
    assert bash(tmp_path / "old")[0].level is Level.WARN
    (tmp_path / "odd").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "odd").chmod(0o755)
    assert bash(tmp_path / "odd")[0].level is Level.FAIL


def test_proxy_variables_are_shown_without_their_passwords() -> None:
    [found] = environment_proxies({"https_proxy": "http://u:p@ss@proxy:3128", "NO_PROXY": "a,b", "PATH": "x"})
    assert found.found.endswith("NO_PROXY=a,b, https_proxy=http://********@proxy:3128")


@given(st.text(), st.text(alphabet="abc:@", min_size=1))
def test_no_password_stays_in_an_address(before: str, secret: str) -> None:
    assert f"://{secret}@" not in without_userinfo(f"{before} http://{secret}@host/")
