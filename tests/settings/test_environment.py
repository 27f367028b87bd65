"""Settings from the environment: only when asked for, blank means nothing, wrong values are named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.settings import certificates
from tentacle.settings.environment import apply_environment, find_env_file, parse_env_file
from tentacle.settings.environment_switch import SWITCH
from tentacle.settings.errors import SettingsError
from tentacle.settings.model import CommunicationStyle, ProxySettings, Settings, TrustedServer
from tentacle.settings.stored_certificate import StoredCertificate

ON = {SWITCH: "True"}


@pytest.fixture(scope="module")
def identity() -> StoredCertificate:
    return certificates.generate()


@pytest.mark.parametrize("switch", [{}, {SWITCH: "false"}, {SWITCH: "1"}, {SWITCH: ""}])
def test_nothing_happens_unless_asked_for(switch: dict[str, str]) -> None:
    settings = Settings(port=1)
    assert apply_environment(settings, {**switch, "TENTACLE_SERVICE_PORT": "x"}, Path("/nonexistent")) is settings


def test_every_variable(identity: StoredCertificate) -> None:
    environ = {
        **ON,
        "OCTOPUS_HOME": "/h",
        "OCTOPUS_NODE_CACHE": "/ignored",
        "OCTOPUS_USE_DEFAULT_PROXY": "FALSE",
        "OCTOPUS_PROXY_HOST": "p",
        "OCTOPUS_PROXY_PORT": " 81 ",
        "OCTOPUS_PROXY_USER": "u",
        "OCTOPUS_PROXY_PASSWORD": "s",
        "TENTACLE_SERVICE_PORT": "10934",
        "TENTACLE_LISTEN_IP": "127.0.0.1",
        "TENTACLE_NO_LISTEN": "true",
        "TENTACLE_TRUSTED_SERVERS": '[{"Thumbprint": "A", "CommunicationStyle": 2, "Address": "https://h:1"}]',
        "TENTACLE_APPLICATION_DIRECTORY": "/apps",
        "TENTACLE_CERTIFICATE": certificates.export_base64(identity),
        "TENTACLE_CERTIFICATE_THUMBPRINT": identity.thumbprint.lower(),
        "TENTACLE_POLLING_USE_DEFAULT_PROXY": "false",
        "TENTACLE_POLLING_CUSTOM_PROXY_HOST": "pp",
        "TENTACLE_POLLING_CUSTOM_PROXY_PORT": "82",
        "TENTACLE_POLLING_CUSTOM_PROXY_USER": "pu",
        "TENTACLE_POLLING_CUSTOM_PROXY_PASSWORD": "ps",
    }
    assert apply_environment(Settings(polling_connection_count=7), environ) == Settings(
        home=Path("/h"),
        application_directory=Path("/apps"),
        port=10934,
        listen_ip="127.0.0.1",
        no_listen=True,
        servers=(TrustedServer("A", CommunicationStyle.TENTACLE_ACTIVE, "https://h:1"),),
        polling_connection_count=7,
        certificate=identity,
        proxy=ProxySettings(False, "p", 81, "u", "s"),
        polling_proxy=ProxySettings(False, "pp", 82, "pu", "ps"),
    )


def test_a_blank_value_overrides_nothing() -> None:
    settings = Settings(home=Path("/h"), port=1, no_listen=True, proxy=ProxySettings(password="s"))
    blank = dict.fromkeys(
        ("OCTOPUS_HOME", "TENTACLE_SERVICE_PORT", "TENTACLE_NO_LISTEN", "OCTOPUS_PROXY_PASSWORD"), " "
    )
    assert apply_environment(settings, {**ON, **blank}) == settings


def test_the_process_wins_over_the_file(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text(f"# {SWITCH}=false\n\n TENTACLE_SERVICE_PORT = 1 \r\nTENTACLE_LISTEN_IP=::1\nUNKNOWN=a=b\n")
    settings = apply_environment(Settings(), {**ON, "TENTACLE_SERVICE_PORT": "2"}, env_file)
    assert (settings.port, settings.listen_ip) == (2, "::1")
    assert apply_environment(Settings(), ON, tmp_path / "missing") == Settings()


def test_the_nearest_file_is_found(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / ".env").touch()
    assert find_env_file(below) == tmp_path / ".env"
    (tmp_path / "a" / ".env").touch()
    assert find_env_file(below) == tmp_path / "a" / ".env"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("TENTACLE_SERVICE_PORT", "x", "must be a whole number, not 'x'"),
        ("TENTACLE_SERVICE_PORT", "1_0", "must be a whole number"),
        ("TENTACLE_SERVICE_PORT", "99999999999", "must be a whole number"),
        ("OCTOPUS_PROXY_PORT", "9" * 5000, "must be a whole number"),
        ("TENTACLE_NO_LISTEN", "yes", "must be true or false, not 'yes'"),
        ("TENTACLE_TRUSTED_SERVERS", "[", "is not valid JSON"),
        ("TENTACLE_CERTIFICATE", "SECRET!", "must be base64 of a PFX file"),
        ("TENTACLE_CERTIFICATE", "U0VDUkVU", "must be base64 of a PFX file"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: str, message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(f"The environment variable {name} {message}")) as caught:
        apply_environment(Settings(), {**ON, name: value})
    assert "SECRET" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_thumbprint_of_another_certificate(identity: StoredCertificate) -> None:
    environ = {**ON, "TENTACLE_CERTIFICATE_THUMBPRINT": "ABC"}
    assert apply_environment(Settings(), environ) == Settings()
    with pytest.raises(SettingsError, match=f"is 'ABC', but the certificate is {identity.thumbprint}"):
        apply_environment(Settings(certificate=identity), environ)


@pytest.mark.parametrize(
    ("content", "message"), [(b"A=1\nB\n", "Line 2 is not formatted correctly"), (b"\xff=", "is not UTF-8 text")]
)
def test_a_damaged_file(tmp_path: Path, content: bytes, message: str) -> None:
    env_file = tmp_path / ".env"
    env_file.write_bytes(content)
    with pytest.raises(SettingsError, match=message) as caught:
        apply_environment(Settings(), ON, env_file)
    assert str(env_file) in str(caught.value)


@given(
    st.dictionaries(
        st.from_regex(r"[A-Z_]{1,9}", fullmatch=True), st.text().filter(lambda t: "\n" not in t and "\0" not in t)
    )
)
def test_lines_are_read_as_written(values: dict[str, str]) -> None:
    text = "".join(f"{name} = {value}\n" for name, value in values.items())
    assert parse_env_file(text) == {name: value.strip() for name, value in values.items()}


@given(st.text())
def test_any_text_is_an_env_file_or_a_settings_error(text: str) -> None:
    try:
        parse_env_file(text)
    except SettingsError as error:
        assert "\n" not in str(error)
