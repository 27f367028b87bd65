"""`proxy` and `polling-proxy` (docs/spec/command-line.md, "proxy and polling-proxy")."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tentacle.settings.model import ProxySettings
from tentacle.settings.store import SettingsFile

ALL = [
    "--proxyEnable=true",
    "--proxyHost=127.0.0.1",
    "--proxyPort=8888",
    "--proxyUsername=yoda",
    "--proxyPassword=s3cret!",
]


def test_on_off_and_on_again(tentacle: Any, instance: Path) -> None:
    file = SettingsFile(instance / "I.cfg")
    ended = tentacle.ok("polling-proxy", *ALL)
    assert ended.lines == [
        "Proxy port set to: 8888",
        "Proxy username set to: yoda",
        "Proxy password set to: *******",
        "Using custom proxy at: 127.0.0.1",
    ]
    assert file.load().polling_proxy == ProxySettings(False, "127.0.0.1", 8888, "yoda", "s3cret!")
    assert file.load().proxy == ProxySettings()
    assert "s3cret" not in tentacle.log(instance)
    assert tentacle.ok("polling-proxy", "--proxyEnable=FALSE").out == "Proxy use is disabled\n"
    assert file.load().polling_proxy == ProxySettings(False, None, 8888, "yoda", "s3cret!")
    assert tentacle.ok("polling-proxy", "--proxyEnable=true").out == "Using Internet Explorer Proxy\n"
    assert file.load().polling_proxy.use_default


def test_a_whole_url_as_host_and_cleared_credentials(tentacle: Any, instance: Path) -> None:
    tentacle.ok("proxy", *ALL)
    ended = tentacle.ok(
        "proxy",
        "--proxyEnable=true",
        "--proxyPort=99",
        "--proxyHost=http://10.0.0.1:8888",
        "--proxyUsername=",
        "--proxyPassword=",
    )
    assert ended.lines == ["Proxy username cleared", "Proxy password cleared", "Using custom proxy at: 10.0.0.1"]
    assert SettingsFile(instance / "I.cfg").load().proxy == ProxySettings(False, "10.0.0.1", 99)


def test_a_password_that_no_process_list_shows(tentacle: Any, instance: Path, tmp_path: Path) -> None:
    file = SettingsFile(instance / "I.cfg")
    (tentacle.cwd / "secret").write_text("in-a-file\n")
    (tmp_path / "credential").write_text("of-systemd")
    tentacle.environ["CREDENTIALS_DIRECTORY"] = str(tmp_path)
    common = ("polling-proxy", "--proxyEnable=true", "--proxyHost=h", "--proxyUsername=yoda")
    for options, stdin, password in (
        (["--proxyPasswordFile=secret"], "", "in-a-file"),
        (["--proxyPasswordStdin"], "typed\n", "typed"),
        (["--proxyPasswordCredential=credential"], "", "of-systemd"),
    ):
        ended = tentacle.ok(*common, *options, stdin=stdin)
        assert "Proxy password set to: *******" in ended.lines
        assert file.load().polling_proxy.password == password
        assert password not in tentacle.log(instance) + ended.out
    refused = tentacle(*common, "--proxyPasswordFile=missing")
    assert (refused.code, refused.err) == (1, "The file 'missing' with the proxy password does not exist.\n")
    assert file.load().polling_proxy.password == "of-systemd"


@pytest.mark.parametrize("given", ["::1", "[::1]", "http://[::1]", "0:0:0:0:0:0:0:1"])
def test_an_address_of_the_sixth_version(tentacle: Any, instance: Path, given: str) -> None:
    tentacle.ok("proxy", "--proxyEnable=true", f"--proxyHost={given}", "--proxyPort=3128")
    assert SettingsFile(instance / "I.cfg").load().proxy.host == "[::1]"


def test_what_of_a_url_does_not_count_is_said_and_its_password_is_not(tentacle: Any, instance: Path) -> None:
    ended = tentacle("polling-proxy", "--proxyEnable=true", "--proxyHost=http://me:hidden-one@h:3128")
    assert ended.code == 0
    assert "add --proxyPort=3128" in ended.err
    assert "Use --proxyUsername and --proxyPasswordFile" in ended.err
    assert "add --proxyPort=99" in tentacle("proxy", "--proxyEnable=true", "--proxyHost=h:99").err
    assert "hidden-one" not in ended.out + ended.err + tentacle.log(instance)
    assert SettingsFile(instance / "I.cfg").load().polling_proxy == ProxySettings(False, "h", 80)
    refused = tentacle("deregister-worker", "--server=http://me:hidden-two@octopus", "--apiKey=API-X")
    assert refused.code == 1
    assert "hidden-two" not in refused.err + tentacle.log(instance)


@pytest.mark.parametrize("argument", ["--proxyPort=70000", "--proxyHost=a b", "--proxyEnable=yes"])
def test_bad_values_change_nothing(tentacle: Any, instance: Path, argument: str) -> None:
    ended = tentacle("proxy", "--proxyEnable=true", "--proxyHost=h", argument)
    assert (ended.code, ended.out) == (1, "")
    assert SettingsFile(instance / "I.cfg").load().proxy == ProxySettings()
