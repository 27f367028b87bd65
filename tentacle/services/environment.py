"""What a script finds in its environment about the agent that runs it (docs/spec/services.md, "Script environment").

Health checks, upgrades and Calamari read these.  A value of `None` removes the variable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class AgentFacts:
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


def script_environment(facts: AgentFacts, runtime: str) -> Mapping[str, str | None]:
    """The variables, by name.  `runtime` describes what the agent runs on."""
    base = facts.home or Path()
    program = str(facts.executable.parent)
    return {
        "TentacleHome": None if facts.home is None else str(facts.home),
        "TentacleApplications": str(facts.applications),
        "TentacleJournal": str(base / "DeploymentJournal.xml"),
        "CalamariPackageRetentionJournalPath": str(base / "PackageRetentionJournal.json"),
        "TentacleInstanceName": facts.instance_name,
        "TentacleVersion": facts.version,
        "TentacleNetFrameworkDescription": runtime,
        "TentacleExecutablePath": str(facts.executable),
        "TentacleProgramDirectoryPath": program,
        "AgentProgramDirectoryPath": program,
        "TentacleCertificateSignatureAlgorithm": facts.signature_algorithm,
        "TentacleUseDefaultProxy": str(facts.use_default_proxy),
        "TentacleProxyUsername": facts.proxy_username,
        "TentacleProxyPassword": facts.proxy_password,
        "TentacleProxyHost": facts.proxy_host,
        "TentacleProxyPort": str(facts.proxy_port),
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
