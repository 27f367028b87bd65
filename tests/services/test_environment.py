"""What scripts read about their agent (docs/spec/services.md, "Script environment")."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from tentacle.contracts.script import ScriptTicket
from tentacle.contracts.script_v2 import StartScriptCommandV2
from tentacle.scripts.engine import ScriptEngine
from tentacle.services.environment import AgentProperties, script_environment
from tentacle.services.service_list import make_dispatcher
from tests.patience import PATIENCE
from tests.services.bench import QUICK, Bench

PROPERTIES = AgentProperties(
    home=Path("/srv/home"),
    applications=Path("/srv/apps"),
    instance_name="I",
    version="1.2.3",
    executable=Path("/opt/tentacle/Tentacle"),
    proxy_host="proxy",
    proxy_password="hidden",
)


def test_the_variables() -> None:
    variables = script_environment(PROPERTIES, "CPython 3")
    assert {name: value for name, value in variables.items() if value is not None} == {
        "TentacleHome": "/srv/home",
        "TentacleApplications": "/srv/apps",
        "TentacleJournal": "/srv/home/DeploymentJournal.xml",
        "CalamariPackageRetentionJournalPath": "/srv/home/PackageRetentionJournal.json",
        "TentacleInstanceName": "I",
        "TentacleVersion": "1.2.3",
        "TentacleNetFrameworkDescription": "CPython 3",
        "TentacleExecutablePath": "/opt/tentacle/Tentacle",
        "TentacleProgramDirectoryPath": "/opt/tentacle",
        "AgentProgramDirectoryPath": "/opt/tentacle",
        "TentacleCertificateSignatureAlgorithm": "sha256RSA",
        "TentacleUseDefaultProxy": "True",
        "TentacleProxyPassword": "hidden",
        "TentacleProxyHost": "proxy",
        "TentacleProxyPort": "80",
    }
    # What is not set here is taken away, and so are credentials for our own command line.
    own = {"OCTOPUS_API_KEY", "OCTOPUS_BEARER_TOKEN", "OCTOPUS_PASSWORD", "TENTACLE_CERTIFICATE"}
    assert {"TentacleProxyUsername", "TENTACLE_POLLING_CUSTOM_PROXY_PASSWORD"} | own <= {
        name for name, value in variables.items() if value is None
    }
    assert script_environment(replace(PROPERTIES, use_default_proxy=False), "")["TentacleUseDefaultProxy"] == "False"
    assert "hidden" not in repr(PROPERTIES)


def test_without_a_home_the_journals_lie_where_the_agent_works() -> None:
    variables = script_environment(replace(PROPERTIES, home=None, instance_name=None), "")
    assert (variables["TentacleHome"], variables["TentacleInstanceName"]) == (None, None)
    assert variables["TentacleJournal"] == "DeploymentJournal.xml"


async def test_a_script_finds_them(bench: Bench, tmp_path: Path) -> None:
    engine = ScriptEngine(tmp_path / "other", environment=script_environment(PROPERTIES, "CPython 3"), options=QUICK)
    await engine.start()
    bench.dispatcher = make_dispatcher(engine, None, lambda: (_ for _ in ()).throw(AssertionError))
    command = StartScriptCommandV2(
        ScriptTicket("T"), "printenv | sort", duration_to_wait_for_script_to_finish=timedelta(seconds=PATIENCE)
    )
    answer = await bench.call("IScriptServiceV2", "StartScript", command)
    await engine.aclose()
    said = {entry.text for entry in answer.logs}
    assert {"TentacleHome=/srv/home", "TentacleJournal=/srv/home/DeploymentJournal.xml", "TentacleProxyPort=80"} <= said
    assert not [line for line in said if line.startswith("TentacleProxyUsername=")]
