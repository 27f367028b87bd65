"""A server that is polled by HTTPS, wherever servers are written: what knows Halibut alone must not try that there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tentacle.errors import TentacleError
from tentacle.settings.model import CommunicationStyle, Settings, TrustedServer
from tentacle.settings.show import server_document
from tentacle.settings.store import SettingsFile
from tentacle.settings.trust import parse_servers

HALIBUT = TrustedServer("A" * 40, CommunicationStyle.TENTACLE_ACTIVE, "https://one:10943", "poll://x/")
SERVER = TrustedServer(
    "B" * 40, CommunicationStyle.TENTACLE_ACTIVE, "https://two/octopus", "poll://y/", https=True, ca_file="/etc/ca.pem"
)


def test_the_file_keeps_it_under_names_of_its_own(tmp_path: Path) -> None:
    file = SettingsFile(tmp_path / "tentacle.config")
    file.create()
    file.save(Settings(servers=(HALIBUT, SERVER)))
    assert file.load().servers == (HALIBUT, SERVER)
    written = yaml.safe_load(file.path.read_text())["trusted-servers"]
    assert written[0]["address"] == "https://one:10943"
    assert "address" not in written[1]
    assert (written[1]["https-address"], written[1]["ca-file"]) == ("https://two/octopus", "/etc/ca.pem")
    file.update(lambda s: replace(s, servers=(replace(SERVER, https=False, ca_file=None),)))
    assert file.load().servers == (replace(SERVER, https=False, ca_file=None),)


def test_the_originals_document_has_no_address_for_it() -> None:
    document = server_document(SERVER)
    assert (document["Address"], document["HttpsAddress"]) == (None, "https://two/octopus")
    assert "HttpsAddress" not in server_document(HALIBUT)


def test_what_is_shown_is_read_again() -> None:
    documents = [server_document(HALIBUT), server_document(SERVER)]
    assert parse_servers(json.dumps(documents)) == (
        HALIBUT,
        SERVER,
    )


def test_two_addresses_in_one_entry_are_an_error(tmp_path: Path) -> None:
    file = SettingsFile(tmp_path / "tentacle.config")
    file.create()
    file.save(Settings(servers=(SERVER,)))
    file.path.write_text(file.path.read_text().replace("https-address:", "address: https://three\n  https-address:"))
    with pytest.raises(TentacleError, match="https-address"):
        file.load()
    with pytest.raises(TentacleError, match="both"):
        parse_servers('[{"Thumbprint": "A", "Address": "https://a", "HttpsAddress": "https://b"}]')
