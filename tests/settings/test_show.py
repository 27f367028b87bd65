"""`show-configuration`: the tree that people and tools read."""

from __future__ import annotations

import json
from pathlib import Path

from tentacle.settings.model import CommunicationStyle, ProxySettings, Settings, TrustedServer
from tentacle.settings.scripts import ScriptSettings
from tentacle.settings.show import configuration_document
from tentacle.settings.stored_certificate import StoredCertificate

EXPECTED = """\
{
  "Octopus": {
    "Home": "/h",
    "Watchdog": {
      "Enabled": false,
      "Instances": "*",
      "Interval": 0
    }
  },
  "Tentacle": {
    "CertificateThumbprint": "AB",
    "Communication": {
      "PollingConnectionCount": null,
      "TrustedOctopusServers": [
        {
          "Thumbprint": "T",
          "CommunicationStyle": 2,
          "Address": "https://localhost:1234",
          "Squid": null,
          "SubscriptionId": "poll://x/"
        }
      ]
    },
    "Deployment": {
      "ApplicationDirectory": "/apps"
    },
    "Services": {
      "ListenIP": null,
      "NoListen": true,
      "PortNumber": 10933
    }
  }
}"""


def test_the_tree_of_a_polling_tentacle() -> None:
    settings = Settings(
        home=Path("/h"),
        application_directory=Path("/apps"),
        no_listen=True,
        servers=(TrustedServer("T", CommunicationStyle.TENTACLE_ACTIVE, "https://localhost:1234", "poll://x/"),),
        certificate=StoredCertificate("AB", b"certificate", b"the-key"),
        proxy=ProxySettings(False, "proxy", 1, "user", "hunter2"),
    )
    assert json.dumps(configuration_document(settings), indent=2) == EXPECTED


def test_how_scripts_are_kept_apart_is_shown_where_it_was_set() -> None:
    assert "Scripts" not in configuration_document(Settings())["Tentacle"]
    scripts = ScriptSettings(sandbox="user", memory_limit=512 * 1024**2, cpu_limit=1.5)
    tree = configuration_document(Settings(scripts=scripts))["Tentacle"]
    assert list(tree) == sorted(tree)
    assert tree["Scripts"] == {
        "CpuLimit": "1.5",
        "Isolation": "user",
        "MemoryLimit": "512M",
        "TaskLimit": "none",
        "UidRange": "20000-20999",
    }


def test_the_tree_of_an_instance_just_made() -> None:
    shown = configuration_document(Settings())
    assert shown["Octopus"]["Home"] is None
    assert shown["Tentacle"]["CertificateThumbprint"] is None
    assert shown["Tentacle"]["Communication"]["TrustedOctopusServers"] == []
    assert shown["Tentacle"]["Deployment"]["ApplicationDirectory"] == "/home/Octopus/Applications"
    assert shown["Tentacle"]["Services"] == {"ListenIP": None, "NoListen": False, "PortNumber": 10933}


def test_keys_are_in_ordinal_order() -> None:
    shown = configuration_document(Settings(listen_ip="::1"))
    assert json.dumps(shown) == json.dumps(shown, sort_keys=True)


def test_a_relative_home_is_shown_absolute_where_the_file_is_known() -> None:
    settings = Settings(home=Path("data"))
    assert configuration_document(settings)["Octopus"]["Home"] == "data"
    assert configuration_document(settings, Path("/etc/x/a.config"))["Octopus"]["Home"] == "/etc/x/data"
