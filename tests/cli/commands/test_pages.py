"""`init`, `status` and `doctor` as a person reads them: whole pages, to the letter, of the installed program.

What differs from run to run is named instead (`DIR`, `PORT`, `OWN`...); a line that was folded at 80 columns is
unfolded, because paths are of any length.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tentacle import __version__
from tentacle.settings.store import SettingsFile
from tests.e2e.stage import TENTACLE, Server, Stage
from tests.patience import PATIENCE

INIT = """\
Checking connectivity on the server communications port PORT...
Connected successfully
$ tentacle create-instance --instance=Tentacle --config=DIR/machine/worker/tentacle.config
  Creating empty configuration file: DIR/machine/worker/tentacle.config
  Saving instance: Tentacle
  Setting home directory to: DIR/machine/worker
$ tentacle new-certificate --instance=Tentacle --if-blank
  A new certificate has been generated and installed. Thumbprint:
  OWN
$ tentacle configure --instance=Tentacle --app=DIR/apps --noListen=True
  Application directory set to: DIR/apps
  Tentacle will not listen on a port
$ tentacle register-worker --instance=Tentacle --server=http://127.0.0.1:PORT/ --name=Reader \
--comms-style=TentacleActive --server-comms-port=PORT '--workerpool=Default Worker Pool' --idempotent
  Registering the tentacle with the server at http://127.0.0.1:PORT/
  The worker 'Reader' (Workers-1) is new on the server
  Machine registered successfully
Done.  Start it: tentacle agent --instance=Tentacle
"""
AGAIN = """\
Instance: 'Tentacle' is there already (DIR/machine/worker/tentacle.config)
Certificate: there already, thumbprint OWN
Configuration: polling, as wanted; nothing needed to change
Registration: servers are trusted already (SERVER)
Done.  Start it: tentacle agent --instance=Tentacle
"""
NOT_RUNNING = """\
● Tentacle is not running

  Configuration  DIR/machine/worker/tentacle.config
  Home           DIR/machine/worker
  Version        OURS; servers are told THEIRS
  Mode           polling
  Thumbprint     OWN
  Certificate    sha256RSA, RSA 2048 bits, valid until DAY
  Free disk      SIZE on the file system of DIR/machine/worker

Trusted servers
  SERVER
    polled at    https://127.0.0.1:PORT
    as           SUBSCRIPTION
    connections  N wanted

Scripts
  Running     0
  Waiting     0
  Workspaces  0, 0 B in DIR/machine/worker/Work
"""
RUNNING = """\
● Tentacle is running
  since TIME, process PID as USER, version VERSION

  Configuration  DIR/machine/worker/tentacle.config
  Home           DIR/machine/worker
  Version        OURS; servers are told THEIRS
  Mode           polling
  Thumbprint     OWN
  Certificate    sha256RSA, RSA 2048 bits, valid until DAY
  Free disk      SIZE on the file system of DIR/machine/worker/Work

Trusted servers
  SERVER
    polled at    https://127.0.0.1:PORT
    speaks       Halibut 7 or later, and is answered at once
    as           SUBSCRIPTION
    connections  N of N up

Scripts
  Running     0
  Waiting     0
  Workspaces  0, 0 B in DIR/machine/worker/Work
  Last ended  TICKET, exit code 0, AGO
"""
WELL = """\
Instance Tentacle
  ok    configuration  DIR/machine/worker/tentacle.config
  ok    rights         secrets are private, and USER may write the home and the log
  ok    version        OURS; servers are told THEIRS
  ok    certificate    OWN, sha256RSA, RSA 2048 bits, valid until DAY
  ok    clone          the certificate was made or installed on this machine
  ok    policy         no policy file: servers that are trusted may do everything that the agent's user may
  ok    disk           SIZE free at DIR/machine/worker/Work (SIZE are needed for a script to start)
  ok    agent          running since TIME (process PID as USER, version VERSION)
  ok    connections    N of N to https://127.0.0.1:PORT up
  ok    server         SERVER speaks Halibut 7 or later, and is answered at once
  ok    last script    TICKET ended with exit code 0 AGO

Polling port 127.0.0.1:PORT
  ok    tcp            127.0.0.1:PORT accepts connections (MS)
  ok    tls            CN=Octopus Tentacle (signed by itself, SERVER) answers, as trusted

Octopus Server http://127.0.0.1:PORT/
  ok    tcp            127.0.0.1:PORT accepts connections (MS)
  ok    octopus        Octopus Server N, API N
  ok    clock          agrees with the server's within 1 s
  ok    signed in      by API key, space 'Default'
  ok    trust          the server's certificate SERVER is trusted here
  ok    registered     worker 'Reader' (Workers-1) at SUBSCRIPTION: Healthy
"""
ILL = """\
Instance Tentacle
  ok    configuration  DIR/machine/worker/tentacle.config
  FAIL  rights         DIR/machine/worker/tentacle.config.key can be read by others (mode 0644)
                       -> chmod 600 DIR/machine/worker/tentacle.config.key; if others could see it: tentacle \
new-certificate --instance=Tentacle
  ok    version        OURS; servers are told THEIRS
  ok    certificate    OWN, sha256RSA, RSA 2048 bits, valid until DAY
  ok    clone          the certificate was made or installed on this machine
  ok    policy         no policy file: servers that are trusted may do everything that the agent's user may
  ok    disk           SIZE free at DIR/machine/worker/Work (SIZE are needed for a script to start)
  warn  agent          it is not running; it was stopped at TIME
                       -> tentacle agent --instance=Tentacle

Polling port 127.0.0.1:PORT
  ok    tcp            127.0.0.1:PORT accepts connections (MS)
  FAIL  tls            CN=Octopus Tentacle (signed by itself, SERVER) answers, and not WRONG as trusted
                       -> Compare it with Configuration > Thumbprint in the portal.  If it is the same there, the \
server has a new certificate: see tentacle update-trust --help.  If not, something in between answers in the server's \
place: have this address exempted from TLS inspection.

Octopus Server http://no-such-server.invalid/
  FAIL  name           no-such-server.invalid cannot be resolved: REASON
                       -> Check the spelling, and this machine's DNS: getent hosts no-such-server.invalid
"""
WRONG = "A" * 40


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as made:
        yield made


def page(stage: Stage, *arguments: str, expect: int = 0, **environment: str) -> str:
    """Standard output; there is nothing on the other one."""
    done = subprocess.run(
        [TENTACLE, *arguments],
        env={**stage.environment, "PYTHONIOENCODING": "utf-8", **environment},
        cwd=stage.directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (expect, ""), done
    return done.stdout


def general(text: str, stage: Stage, server: Server) -> str:
    """The page with names for what is of this run only."""
    text = re.sub(r"\n {15,}+(?!→|->)", " ", text).replace("→", "->")
    config = stage.directory / "machine" / "worker" / "tentacle.config"
    certificate = SettingsFile(config).load().certificate
    assert certificate is not None
    known = {str(stage.directory): "DIR", certificate.thumbprint: "OWN", server.thumbprint: "SERVER", WRONG: "WRONG"}
    ports = {str(server.comms_port): "PORT", server.rest.rstrip("/").rpartition(":")[2]: "PORT"}
    for value, name in {**known, **ports}.items():
        text = text.replace(value, name)
    for pattern, name in (
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC( \((\d+ \w+ ?)+( ago)?\))?", "TIME"),
        (r"\d{4}-\d\d-\d\d\b", "DAY"),
        (r"poll://\w{20}/", "SUBSCRIPTION"),
        (rf"{re.escape(__version__)}; servers are told [0-9.]+", "OURS; servers are told THEIRS"),
        (r"process \d+ as [\w.-]+, version [\w.+-]+", "process PID as USER, version VERSION"),
        (r"private, and [\w.-]+ may", "private, and USER may"),
        (r"\d+(\.\d)? [KMGTP]iB", "SIZE"),
        (r"\(\d+ ms\)", "(MS)"),
        (r"Server [\d.]+, API [\d.]+", "Server N, API N"),
        (r"\d+ of \d+ (up|to)", r"N of N \1"),
        (r"[\w-]{16,}(?=, exit code| ended with)", "TICKET"),
        (r"\d+ s ago", "AGO"),
        (r"\d+ wanted", "N wanted"),
        (r"(?<=cannot be resolved: )[^\n]*", "REASON"),
    ):
        text = re.sub(pattern, name, text, flags=re.MULTILINE)
    return text


def instance_and_below(text: str) -> str:
    """A doctor's page without this machine, which is another one everywhere, and without the sum."""
    return text[text.index("\nInstance ") + 1 : text.rstrip("\n").rindex("\n\n") + 1]


def test_from_nothing_to_a_worker_that_falls_ill(stage: Stage) -> None:
    server = stage.start_server()
    api, ports = f"--server={server.rest}", f"--server-comms-port={server.comms_port}"
    asked = ("init", "--yes", "--mode=polling", "--name=Reader", "--no-service", "--app=./apps", api, ports)
    first = page(stage, *asked)
    assert general(first, stage, server) == INIT
    assert general(page(stage, "init", "--yes"), stage, server) == AGAIN
    assert general(page(stage, "status", expect=3), stage, server) == NOT_RUNNING

    agent = stage.start_agent("Tentacle", "Polling ")
    until_healthy(stage)
    assert server.finished(server.check_health(server.worker("Reader")["Id"]))["State"] == "Success"
    assert general(page(stage, "status"), stage, server) == RUNNING
    well = page(stage, "doctor", api)
    assert general(instance_and_below(well), stage, server) == WELL
    assert well.endswith("\n\nAll is well.\n") or "systemd" in well
    assert agent.stop() == 0

    stage.run("update-trust", f"--oldThumbprint={server.thumbprint}", f"--newThumbprint={WRONG}")
    Path(stage.directory / "machine" / "worker" / "tentacle.config.key").chmod(0o644)
    ill = page(stage, "doctor", "--server=http://no-such-server.invalid", expect=1)
    assert general(instance_and_below(ill), stage, server) == ILL
    assert ill.endswith(" ok.\n")


def until_healthy(stage: Stage) -> None:
    deadline = time.monotonic() + PATIENCE
    while subprocess.run([TENTACLE, "status"], env=stage.environment, capture_output=True, check=False).returncode:
        assert time.monotonic() < deadline, "it does not become healthy"
