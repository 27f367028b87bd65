"""What a script finds in its environment about the agent that runs it (docs/spec/services.md, "Script environment").

Health checks, upgrades and Calamari read these.  A value of `None` removes the variable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from tentacle.home_layout import DEPLOYMENT_JOURNAL, PACKAGE_JOURNAL
from tentacle.records import dataclass


@dataclass(frozen=True)
class AgentProperties:
    """What an agent tells its scripts of itself.  `proxy_*` are those of the web proxy, not of the polling proxy."""

    home: Path | None
    applications: Path
    instance_name: str | None
    version: str
    executable: Path
    signature_algorithm: str = "sha256RSA"
    use_default_proxy: bool = True
    proxy_host: str | None = None
    proxy_port: int = 80
    proxy_username: str | None = None
    proxy_password: str | None = field(default=None, repr=False)


def script_environment(properties: AgentProperties, runtime: str) -> Mapping[str, str | None]:
    """The variables, by name.  `runtime` describes what the agent runs on."""
    base = properties.home or Path()
    program = str(properties.executable.parent)
    return {
        "TentacleHome": None if properties.home is None else str(properties.home),
        "TentacleApplications": str(properties.applications),
        "TentacleJournal": str(base / DEPLOYMENT_JOURNAL),
        "CalamariPackageRetentionJournalPath": str(base / PACKAGE_JOURNAL),
        "TentacleInstanceName": properties.instance_name,
        "TentacleVersion": properties.version,
        "TentacleNetFrameworkDescription": runtime,
        "TentacleExecutablePath": str(properties.executable),
        "TentacleProgramDirectoryPath": program,
        "AgentProgramDirectoryPath": program,
        "TentacleCertificateSignatureAlgorithm": properties.signature_algorithm,
        "TentacleUseDefaultProxy": str(properties.use_default_proxy),
        "TentacleProxyUsername": properties.proxy_username,
        "TentacleProxyPassword": properties.proxy_password,
        "TentacleProxyHost": properties.proxy_host,
        "TentacleProxyPort": str(properties.proxy_port),
        # Credentials for our own command line must not reach scripts.
        "OCTOPUS_API_KEY": None,
        "OCTOPUS_BEARER_TOKEN": None,
        "OCTOPUS_PASSWORD": None,
        "CREDENTIALS_DIRECTORY": None,
        # An agent in a container is configured by these (docs/spec/command-line.md, "Settings from the environment"):
        # its private key, and its own proxy.
        "TENTACLE_CERTIFICATE": None,
        "TENTACLE_POLLING_CUSTOM_PROXY_PASSWORD": None,
    }
