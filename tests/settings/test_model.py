"""Settings as values: styles by name and number, thumbprints that must be there, passwords that do not show."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.settings.errors import SettingsError
from tentacle.settings.model import CommunicationStyle, ProxySettings, Settings, TrustedServer, resolved_home


@pytest.mark.parametrize(
    ("text", "style"),
    [
        ("TentaclePassive", CommunicationStyle.TENTACLE_PASSIVE),
        ("tentacleACTIVE", CommunicationStyle.TENTACLE_ACTIVE),
        (" 2 ", CommunicationStyle.TENTACLE_ACTIVE),
        ("0", CommunicationStyle.NONE),
        ("None", CommunicationStyle.NONE),
        ("Kubernetes", CommunicationStyle.KUBERNETES),
        ("AwsEcsCluster", CommunicationStyle.AWS_ECS_CLUSTER),
        ("11", CommunicationStyle.KUBERNETES_TENTACLE),
        ("13", None),
        ("-1", None),
        ("", None),
        ("passive", None),
        ("²", None),
    ],
)
def test_a_style_is_read_from_its_name_or_number(text: str, style: CommunicationStyle | None) -> None:
    assert CommunicationStyle.parse(text) is style


@given(st.sampled_from(CommunicationStyle))
def test_every_style_is_read_from_what_is_written(style: CommunicationStyle) -> None:
    assert CommunicationStyle.parse(style.label) is CommunicationStyle.parse(str(style.value)) is style


@given(st.text())
def test_any_text_names_a_style_or_none(text: str) -> None:
    CommunicationStyle.parse(text)


def test_a_thumbprint_is_trimmed_and_must_be_there() -> None:
    assert TrustedServer("  ABC123\n", CommunicationStyle.NONE).thumbprint == "ABC123"
    with pytest.raises(SettingsError, match="A valid thumbprint must be supplied"):
        TrustedServer(" \t", CommunicationStyle.NONE)


def test_a_password_does_not_show() -> None:
    settings = Settings(proxy=ProxySettings(password="hunter2"))
    assert "hunter2" not in repr(settings)


def test_a_relative_home_belongs_beside_the_configuration(tmp_path: Path) -> None:
    config = tmp_path / "x.config"
    assert resolved_home(Settings(), config) == tmp_path
    assert resolved_home(Settings(home=Path("data")), config) == tmp_path / "data"
    assert resolved_home(Settings(home=Path("/srv/t")), config) == Path("/srv/t")


@pytest.mark.parametrize(
    ("host", "found"),
    [(None, None), ("", None), (" ", None), ("proxy", "proxy"), (" proxy ", "proxy"), ("[::1] ", "::1"), ("[]", None)],
)
def test_a_custom_proxy_is_the_same_for_all_who_use_it(host: str | None, found: str | None) -> None:
    assert ProxySettings(use_default=False, host=host).custom_host == found
    assert ProxySettings(use_default=True, host=host).custom_host is None
