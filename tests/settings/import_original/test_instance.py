"""An instance of the original, understood: the recorded one, and what can be wrong with one."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tentacle.agent.plan import polled_address
from tentacle.errors import TentacleError
from tentacle.settings.errors import ConfigurationError
from tentacle.settings.import_original.instance import Original, read_original
from tentacle.settings.model import CommunicationStyle, ProxySettings, TrustedServer
from tests.recorded import VECTORS

VECTOR = VECTORS / "dotnet-instance"
THUMBPRINT = "51BBB0AFF048FD2A5DB91E5B00E72CAB2EC3A7DD"
SERVER = "679DDD8527CCE15FE45A5DACD92EA7C0364198D3"

Read = Callable[[], Original]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return Path(shutil.copy(VECTOR / "tentacle-Legacy.config", tmp_path / "old.config"))


@pytest.fixture
def read(config: Path, tmp_path: Path) -> Read:
    return lambda: read_original(config, machine_id=VECTOR / "machine-id", machine_key=tmp_path / "none")


def change(config: Path, key: str, text: str | None) -> None:
    """Gives `key` another text, or adds it, or takes it away."""
    content = config.read_text(encoding="utf-8-sig")
    content = re.sub(rf'  <set key="{re.escape(key)}">.*?</set>\n', "", content)
    added = "" if text is None else f'  <set key="{key}">{text}</set>\n'
    config.write_text(content.replace("</octopus-settings>", f"{added}</octopus-settings>"), encoding="utf-8-sig")


def test_the_recorded_instance(read: Read) -> None:
    found = read()
    certificate = found.settings.certificate
    assert certificate is not None
    assert certificate.thumbprint == THUMBPRINT
    assert found.certificate_key == f"the machine id '{VECTOR / 'machine-id'}'"
    assert found.settings.servers == (
        TrustedServer(SERVER, CommunicationStyle.TENTACLE_PASSIVE),
        TrustedServer(
            SERVER,
            CommunicationStyle.TENTACLE_ACTIVE,
            "https://octopus.example.com:10943",
            "poll://erh8tg5lf2pjxzlgqpbl/",
        ),
    )
    assert found.settings.polling_proxy == ProxySettings(False, "proxy.example.com", 3128, "u", "proxy-secret")
    assert found.settings.proxy == ProxySettings()
    assert found.settings.no_listen
    assert found.settings.port == 10933
    assert found.settings.application_directory == Path("/home/Octopus/Applications/Legacy")
    assert found.home == Path("/etc/octopus/Legacy")
    assert found.settings.home is None
    assert found.left_out == ()
    assert "proxy-secret" not in repr(found)


WINDOWS_SECRET = "AQAAANCMnd8BFdERjHoAwE/Cl+sBAAAA" + "A" * 64
"""How the original on Windows writes a secret."""


def test_other_values(config: Path, read: Read) -> None:
    change(config, "Octopus.Home", "sub")
    change(config, "TENTACLE.services.portnumber", " 20933 ")
    change(config, "Tentacle.Services.ListenIP", "10.0.0.1")
    change(config, "Tentacle.Services.NoListen", "False")
    change(config, "Tentacle.Communication.PollingConnectionCount", "7")
    change(config, "Octopus.Proxy.UseDefaultProxy", "false")
    change(config, "Tentacle.Services.IsRegistered", "true")
    change(config, "Somebody.Elses", "x")
    found = read()
    assert found.home == config.parent / "sub"
    assert (found.settings.port, found.settings.listen_ip, found.settings.no_listen) == (20933, "10.0.0.1", False)
    assert found.settings.polling_connection_count == 7
    assert not found.settings.proxy.use_default
    assert found.left_out == ("Tentacle.Services.IsRegistered", "Somebody.Elses")


def test_without_a_certificate_there_is_none(config: Path, read: Read) -> None:
    change(config, "Tentacle.CertificateThumbprint", None)
    found = read()
    assert (found.settings.certificate, found.certificate_key) == (None, None)


@pytest.mark.parametrize("place", ["global", "entry"])
def test_a_server_of_the_first_days_is_polled_by_its_old_name(config: Path, read: Read, place: str) -> None:
    squid = "SQ-VM-12AB"
    entry = {"Thumbprint": SERVER, "CommunicationStyle": "TentacleActive", "Address": "https://o:10943"}
    if place == "global":
        change(config, "Octopus.Communications.Squid", squid)
    servers = [{**entry, "Squid": squid if place == "entry" else None}]
    change(config, "Tentacle.Communication.TrustedOctopusServers", json.dumps(servers))
    assert read().settings.servers[0].subscription_id == "poll://sq-vm-12ab/"


def test_a_web_socket_that_a_windows_machine_polled_is_polled_here(config: Path, read: Read) -> None:
    address = "wss://octopus.example.com/OctopusComms"
    entry = {"Thumbprint": SERVER, "CommunicationStyle": "TentacleActive", "Address": address}
    change(
        config, "Tentacle.Communication.TrustedOctopusServers", json.dumps([{**entry, "SubscriptionId": "poll://x/"}])
    )
    settings = read().settings
    assert settings.servers[0].address == address
    assert polled_address(settings.servers[0].address or "").url == "wss://octopus.example.com:443/OctopusComms"


@pytest.mark.parametrize(
    ("key", "text", "why"),
    [
        ("Tentacle.CertificateThumbprint", "A" * 40, f"is '{'A' * 40}', but the certificate's is {THUMBPRINT}"),
        ("Tentacle.Certificate", None, "is missing"),
        ("Tentacle.Certificate", "no base64", "is damaged: it is no base64 of encrypted blocks"),
        ("Tentacle.Certificate", base64.b64encode(b"x" * 64).decode(), "cannot be decrypted: the machine id"),
        ("Octopus.Server.Proxy.ProxyPassword", base64.b64encode(b"x" * 32).decode(), "cannot be decrypted"),
        ("Tentacle.Services.PortNumber", "many", "must be a whole number, not 'many'"),
        ("Tentacle.Services.PortNumber", "9" * 30, "must be a whole number"),
        ("Tentacle.Services.PortNumber", "65536", "must be a port, and 65536 is none"),
        ("Octopus.Server.Proxy.ProxyPort", "99999", "must be a port"),
        ("Tentacle.Certificate", WINDOWS_SECRET, "was encrypted by Windows, and only that machine can decrypt it"),
        ("Tentacle.Services.NoListen", "perhaps", "must be true or false, not 'perhaps'"),
        ("Tentacle.Communication.TrustedOctopusServers", "[{", "is not valid JSON"),
        ("Tentacle.Communication.TrustedOctopusServers", "{}", "must be a JSON array of objects"),
        ("Tentacle.Communication.TrustedOctopusServers", "[{}]", "holds an entry without a Thumbprint"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_key(
    config: Path, read: Read, key: str, text: str | None, why: str
) -> None:
    change(config, key, text)
    with pytest.raises(ConfigurationError) as refusal:
        read()
    assert f"The configuration file '{config}' is wrong: {key} {why}" in refusal.value.message


@pytest.mark.parametrize("style", [9, "KubernetesTentacle"])
def test_a_kubernetes_agent_is_not_for_this_kind_of_host(config: Path, read: Read, style: object) -> None:
    entry = {"Thumbprint": SERVER, "CommunicationStyle": style, "Address": "https://o:10943"}
    change(config, "Tentacle.Communication.TrustedOctopusServers", json.dumps([entry]))
    with pytest.raises(
        ConfigurationError, match="of a Kubernetes agent, which is not for this kind of host"
    ) as refusal:
        read()
    assert refusal.value.hint is not None


def test_another_machine(config: Path, tmp_path: Path) -> None:
    (tmp_path / "id").write_text("f" * 32)
    with pytest.raises(ConfigurationError, match=r"Tentacle\.Certificate cannot be decrypted: the machine id"):
        read_original(config, machine_id=tmp_path / "id", machine_key=tmp_path / "none")


def test_one_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="could not be located at the specified location"):
        read_original(tmp_path / "none", machine_id=tmp_path / "a", machine_key=tmp_path / "b")


RECORDED = (VECTOR / "tentacle-Legacy.config").read_bytes()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.integers(0, len(RECORDED) - 1), st.binary(min_size=0, max_size=3), st.booleans())
def test_damage_anywhere_is_survived(config: Path, read: Read, at: int, rubbish: bytes, cut: bool) -> None:
    config.write_bytes(RECORDED[:at] + rubbish + (b"" if cut else RECORDED[at + len(rubbish) :]))
    try:
        found = read()
    except TentacleError as error:
        assert error.message.isprintable()
        assert "proxy-secret" not in error.message
    else:
        assert found.settings.certificate is None or found.settings.certificate.thumbprint == THUMBPRINT
