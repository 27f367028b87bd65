"""The script of a health check, and what its lines say of the machine (docs/spec/rest.md, "Health checks of this
server").

Knows bash and the marks of its own lines; must not know tasks or workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from tentacle.contracts.script import ProcessOutput, ProcessOutputSource
from tentacle.devserver.storage import HealthStatus, Json

MARK: Final = "tentacle-health:"
WARNING: Final = "Warning"
ERROR: Final = "Error"
DETAILS: Final = {
    "OperatingSystem": '"${system:-$(uname -s)}"',
    "OperatingSystemVersion": '"$(uname -r)"',
    "Architecture": '"$(uname -m)"',
    "ShellName": "Bash",
    "ShellVersion": '"$BASH_VERSION"',
    "TentacleVersion": '"$TentacleVersion"',
    "CertificateSignatureAlgorithm": '"$TentacleCertificateSignatureAlgorithm"',
}
"""What is kept of a machine, and how bash finds it out."""

_SAY: Final = "\n".join(f"say {name} {value}" for name, value in DETAILS.items())
_SCRIPT: Final = f"""\
say() {{ printf '##octopus[stdout-verbose]\\n{MARK}%s=%s\\n##octopus[stdout-default]\\n' "$1" "${{2%%$'\\n'*}}"; }}
complain() {{ printf '##octopus[stdout-%s]\\n%s\\n##octopus[stdout-default]\\n' "${{1,,}}" "$2"; say "$1" "$2"; }}
echo_warning() {{ complain {WARNING} "$*"; }}
echo_error() {{ complain {ERROR} "$*"; }}
fail_healthcheck() {{ echo_error "$*"; exit 1; }}
system=$(. /etc/os-release 2>/dev/null && printf %s "$PRETTY_NAME")
{_SAY}
echo "$(hostname 2>/dev/null || uname -n) is up, $(df -Pk . | awk 'NR==2 {{printf "%d MiB free", $4/1024}}')"
"""


def health_script(own: str | None) -> str:
    """Returns the script; `own` is what the machine's policy adds to it, which may call the three helpers."""
    return _SCRIPT + (own or "")


@dataclass(frozen=True)
class HealthFinding:
    """What a check found out; `summary` is one sentence, the reason where the machine is not healthy."""

    health: HealthStatus
    summary: str
    details: Json = field(default_factory=dict)


@dataclass
class HealthReport:
    """What the lines of the script have said so far; values are cut, they are shown to people."""

    details: Json = field(default_factory=dict)
    complaints: dict[str, str] = field(default_factory=dict)
    """The first warning and the first error."""

    def read(self, outputs: Sequence[ProcessOutput]) -> None:
        for output in outputs:
            if output.source is ProcessOutputSource.STD_OUT and output.text.startswith(MARK):
                name, _, value = output.text[len(MARK) :].partition("=")
                value = "".join(c for c in value.strip()[:200] if c.isprintable())
                if name in DETAILS and value:
                    self.details[name] = value
                elif name in (WARNING, ERROR):
                    self.complaints.setdefault(name, value)

    def finding(self, exit_code: int) -> HealthFinding:
        if exit_code or ERROR in self.complaints:
            failed = f"The health check script ended with exit code {exit_code}."
            return HealthFinding(HealthStatus.UNHEALTHY, self.complaints.get(ERROR) or failed, self.details)
        if WARNING in self.complaints:
            return HealthFinding(HealthStatus.HAS_WARNINGS, self.complaints[WARNING], self.details)
        return HealthFinding(HealthStatus.HEALTHY, "The machine runs scripts.", self.details)
