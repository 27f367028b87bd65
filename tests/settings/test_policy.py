"""The policy of a host: its rules, what is refused in a file, and that a file with nonsense allows nothing."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tentacle.settings.errors import SettingsError
from tentacle.settings.policy import HostPolicy, parse_policy
from tentacle.settings.policy_file import PolicyFile, policy_places, read_policy

SOURCE = Path("/etc/octopus/w.policy.yaml")


def test_every_rule() -> None:
    policy = parse_policy(
        """
format: 1
services: [iscriptservicev2, IFileTransferService.downloadfile, "ICapabilitiesServiceV2.*"]
upload-roots: [/srv/deploy/, //opt]
download-roots: []
peers: [10.0.0.0/8, "::1", "[fd00::1]", Octopus.Example.com]
rate-limits: {scripts-per-minute: 60, calls-per-minute: 1000}
when-audit-fails: refuse-scripts
""",
        SOURCE,
    )
    assert set(policy.methods or ()) == {
        *("IScriptServiceV2.StartScript", "IScriptServiceV2.GetStatus", "IScriptServiceV2.CancelScript"),
        *("IScriptServiceV2.CompleteScript", "IFileTransferService.DownloadFile"),
        "ICapabilitiesServiceV2.GetCapabilities",
    }
    assert policy.upload_roots == (Path("/srv/deploy"), Path("/opt"))
    assert policy.download_roots == ()
    assert policy.peers == (
        ipaddress.ip_network("10.0.0.0/8"),
        ipaddress.ip_network("::1"),
        ipaddress.ip_network("fd00::1"),
        "octopus.example.com",
    )
    assert policy.rates == {"scripts-per-minute": 60, "calls-per-minute": 1000}
    assert policy.refuse_unaudited
    assert policy.lines() == [
        "allowed: ICapabilitiesServiceV2.GetCapabilities, IFileTransferService.DownloadFile, "
        "IScriptServiceV2.CancelScript, IScriptServiceV2.CompleteScript, IScriptServiceV2.GetStatus, "
        "IScriptServiceV2.StartScript",
        "uploads below /srv/deploy, /opt",
        "no downloads",
        "peers 10.0.0.0/8, ::1/128, fd00::1/128, octopus.example.com",
        "60 scripts per minute of each peer",
        "1000 calls per minute of each peer",
        "no script without an audit record",
    ]


def test_a_rule_that_is_not_there_forbids_nothing() -> None:
    policy = parse_policy("services: [IScriptServiceV2]", SOURCE)
    assert (policy.upload_roots, policy.download_roots, policy.peers) == (None, None, None)
    assert (dict(policy.rates), policy.refuse_unaudited) == ({}, False)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "holds no rule"),
        ("# nothing yet", "holds no rule"),
        ("format: 1", "holds no rule"),
        ("format: 2\nservices: []", "format is 2"),
        ("allow everything", "must hold keys with values"),
        ("[]", "must hold keys with values"),
        ("services: [IScriptServiceV2", "line 1 is not valid YAML"),
        ("service: [IScriptServiceV2]", "line 1, is wrong: service is not known; there are format, services"),
        ("root:*:20228:0:99999:7::", "a key is not known"),
        ("services:", "services has no value"),
        ("services: IScriptServiceV2", "must be a list"),
        ("services: [IScriptServiceV3]", "is no service of this agent"),
        ("services: [IScriptServiceV2.Start]", "is no method of IScriptServiceV2"),
        ("services: [IScriptServiceV2.]", "is no method of IScriptServiceV2"),
        ("services: [1]", "must be a text"),
        ("services: []\nservices: [IScriptServiceV2]", "is there twice"),
        ("upload-roots: [srv]", "must be an absolute path"),
        ("upload-roots: [/srv/../etc]", "must be an absolute path"),
        ("upload-roots: /srv", "must be a list"),
        ("peers: [10.0.0.1/8]", "has host bits set"),
        ("peers: [10.0.0]", "must be an address"),
        ("peers: ['*']", "must be an address"),
        ("peers: ['host:80']", "must be an address"),
        ("rate-limits: 5", "must hold keys with values"),
        ("rate-limits: {scripts-per-hour: 5}", "rate-limits.scripts-per-hour is not known"),
        ("rate-limits: {scripts-per-minute: 0}", "must be a whole number from 1"),
        ("rate-limits: {scripts-per-minute: many}", "must be a whole number"),
        ("rate-limits: {scripts-per-minute: 1.5}", "must be a whole number"),
        ("when-audit-fails: maybe", "must be continue or refuse-scripts"),
        ("a: &a [x]\nservices: *a", "references"),
        ("services: " + "[" * 500, "nested too deeply|not valid YAML"),
    ],
)
def test_a_file_that_is_not_understood_says_where(text: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why) as caught:
        parse_policy(text, SOURCE)
    assert caught.value.message.startswith("The policy file '/etc/octopus/w.policy.yaml'")


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.text(max_size=200)
    | st.from_regex(r"\A((services|peers|upload-roots|rate-limits|format): ?[\[\]{}a-zA-Z0-9./:*, ]{0,30}\n){1,3}\Z")
)
def test_any_text_is_understood_or_refused(text: str) -> None:
    try:
        policy = parse_policy(text, SOURCE)
    except SettingsError:
        return
    assert policy.source == SOURCE
    assert policy.lines()


def written(path: Path, text: str = "services: [IScriptServiceV2]", mode: int = 0o644) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_administrators_file_counts_over_the_one_beside_the_configuration(tmp_path: Path) -> None:
    config = tmp_path / "w" / "tentacle.config"
    admins, beside = policy_places(config, "My Worker", tmp_path / "etc")
    assert (admins, beside) == (tmp_path / "etc/my-worker.policy.yaml", tmp_path / "w/tentacle.policy.yaml")
    assert policy_places(config, None, tmp_path / "etc") == (beside,)
    assert read_policy((admins, beside)) == HostPolicy()
    written(beside)
    assert read_policy((admins, beside)).source == beside
    written(admins)
    assert read_policy((admins, beside)).source == admins


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_may_write_allows_nothing(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path / "w.policy.yaml", mode=mode)
    policy = read_policy((path,))
    assert "may be written by others" in policy.problem
    assert policy.upload_roots == ()
    assert policy.lines() == [f"nothing new is allowed: {policy.problem}"]


def test_a_directory_that_others_may_write_allows_nothing_unless_it_is_sticky(tmp_path: Path) -> None:
    path = written(tmp_path / "open" / "w.policy.yaml")
    path.parent.chmod(0o777)
    assert "may be written by others" in read_policy((path,)).problem
    path.parent.chmod(0o1777)
    assert read_policy((path,)).problem == ""


def test_a_file_of_another_user_allows_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "w.policy.yaml")
    os.chown(path, 12345, -1)
    assert "belongs to" in read_policy((path,)).problem


@pytest.mark.parametrize("kind", ["directory", "dangling link", "not text", "too large", "pipe"])
def test_what_cannot_be_read_allows_nothing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "w.policy.yaml"
    match kind:
        case "directory":
            path.mkdir()
        case "dangling link":
            path.symlink_to(tmp_path / "nothing")
        case "not text":
            path.write_bytes(b"services: [\xff]")
        case "too large":
            path.write_text("#" * 1_000_000)
        case "pipe":
            os.mkfifo(path)
    assert read_policy((path,)).problem


def test_a_change_is_in_force_at_once_and_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "w.policy.yaml"
    file = PolicyFile((path,))
    with caplog.at_level("INFO"):
        assert file.current() == HostPolicy()
        assert caplog.messages == []
        written(path)
        assert file.current().methods is not None
        assert file.current().methods is not None
        written(path, "nonsense: 1")
        assert file.current().problem
        assert file.current().problem
        path.unlink()
        assert file.current() == HostPolicy()
    assert [message.split(":")[0] for message in caplog.messages] == [
        f"The policy of this host, {path}",
        "The policy of this host cannot be used, so nothing new is allowed",
        "The policy of this host has been removed",
    ]
