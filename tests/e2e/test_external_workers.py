"""What Octopus' pages on external workers promise beyond health and policies, one test a sentence, with real agents."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator

import pytest

from tentacle.devserver.tasks import QueueLimits
from tests.e2e.site import Site, site
from tests.e2e.stage import StepFailed

CAP = 3
PWSH = """#!/bin/bash
echo "stand-in: ${@:1:3}"
sed 's/^Write-Host/echo/' "$4" | bash
"""


@pytest.fixture(scope="module")
def place() -> Iterator[Site]:
    """A server with a task cap of three; the instances `one` and `two` of this machine are workers of two pools."""
    with site(limits=QueueLimits(at_once=CAP), built_in_worker="nobody") as made:
        pool = made.post("workerpools", {"Name": "Second pool"})
        # A PowerShell for the agents that are started from now on, unless its file is gone.
        (made.stage.directory / "bin").mkdir()
        made.stage.environment["PATH"] = f"{made.stage.directory / 'bin'}:{made.stage.environment['PATH']}"
        made.instance("one")
        made.stage.run("configure", "--instance=one", "--script-isolation=private")
        made.register("one", "--workerpool=Default Worker Pool")
        made.instance("two")
        made.register("two", f"--workerpool={pool['Name']}")
        made.agent("one")
        made.agent("two")
        made.until(lambda: all(w["HealthStatus"] == "Healthy" for w in made.server.get("api/Spaces-1/workers/all")))
        yield made


def worker_id(place: Site, name: str) -> str:
    return str(place.server.worker(name)["Id"])


def started(place: Site, body: str, worker: str = "two") -> str:
    machines = [worker_id(place, worker)]
    return place.server.start_task("AdHocScript", {"ScriptBody": body, "Syntax": "Bash", "MachineIds": machines})


def test_several_instances_on_one_machine_are_workers_of_several_pools(place: Site) -> None:
    for pool, worker in (("Default Worker Pool", "one"), ("Second pool", "two")):
        (found,) = [p for p in place.server.get("api/Spaces-1/workerpools/all") if p["Name"] == pool]
        task, log = place.run('echo "$TentacleInstanceName"', WorkerPoolIds=[found["Id"]], TargetType="WorkerPools")
        assert task["State"] == "Success"
        assert worker in log


def test_steps_of_several_projects_run_at_once_on_one_worker(place: Site) -> None:
    """Each waits for all others, so that they would never end one by one."""
    place_of = place.stage.directory / "at-once"
    place_of.mkdir()
    body = f"touch {place_of}/$TaskNumber; until [ $(ls {place_of} | wc -l) = {CAP} ]; do sleep 0.05; done"
    tasks = [started(place, body.replace("$TaskNumber", str(number))) for number in range(CAP)]
    assert {place.server.finished(task)["State"] for task in tasks} == {"Success"}


def test_tasks_over_the_task_cap_wait_for_their_turn(place: Site) -> None:
    gate = place.stage.directory / "gate"
    tasks = [started(place, f"until [ -e {gate} ]; do sleep 0.05; done") for _ in range(CAP)]
    place.until(lambda: {place.server.get(f"api/tasks/{task}")["State"] for task in tasks} == {"Executing"})
    late, never = started(place, "echo my turn"), started(place, "echo never")
    assert place.server.get(f"api/tasks/{late}")["State"] == "Queued"
    place.server.request("POST", f"api/tasks/{never}/cancel", {})
    assert place.server.finished(never)["State"] == "Canceled", "also while it waits"
    gate.touch()
    assert place.server.finished(late)["State"] == "Success"
    assert {place.server.finished(task)["State"] for task in tasks} == {"Success"}
    assert place.server.get("api/octopusservernodes/all")[0]["MaxConcurrentTasks"] == CAP


def test_in_a_private_sandbox_one_project_cannot_see_the_folder_of_another(place: Site) -> None:
    gate = place.stage.directory / "one" / "seen"  # /tmp is the script's own
    holding = started(place, f"echo secret >mine; until [ -e {gate} ]; do sleep 0.05; done", "one")
    work = place.stage.directory / "one" / "Work"
    place.until(lambda: list(work.glob("*/mine")))
    looking = started(place, 'ls "$TentacleHome/Work"; cat "$TentacleHome"/Work/*/mine; echo looked', "one")
    place.server.finished(looking)
    gate.touch()
    place.server.finished(holding)
    log = place.log(looking)
    assert "looked" in log
    assert "secret" not in log


def test_a_deployment_target_can_be_a_worker_too_and_each_deregistration_leaves_the_other(place: Site) -> None:
    place.register("two", "--environment=Dev", "--role=web", command="register-with")
    (target,) = place.server.get("api/Spaces-1/machines/all")
    for machine in (target["Id"], worker_id(place, "two")):
        task, log = place.run("echo here", MachineIds=[machine])
        assert (task["State"], "here" in log) == ("Success", True)
    place.stage.run("deregister-from", "--instance=two", f"--server={place.server.rest}")
    assert place.server.get("api/Spaces-1/machines/all") == []
    assert place.run("echo here", MachineIds=[worker_id(place, "two")])[0]["State"] == "Success"
    place.register("two", "--environment=Dev", "--role=web", command="register-with")
    (target,) = place.server.get("api/Spaces-1/machines/all")
    place.stage.run("deregister-worker", "--instance=two", f"--server={place.server.rest}")
    with pytest.raises(StepFailed):
        place.server.worker("two")
    assert place.run("echo here", MachineIds=[target["Id"]])[0]["State"] == "Success"
    place.register("two", "--workerpool=Second pool")


def test_a_script_without_a_syntax_is_powershell_where_the_worker_has_it(place: Site) -> None:
    pwsh = place.stage.directory / "bin" / "pwsh"
    body, machine = "Write-Host hello from PowerShell", worker_id(place, "two")
    arguments = {"ScriptBody": body, "MachineIds": [machine]}
    task = place.server.start_task("AdHocScript", arguments)
    failed = place.server.finished(task)
    assert (failed["State"], failed["ErrorMessage"]) == (
        "Failed",
        "'two' has no program 'pwsh', which PowerShell scripts need.",
    )
    pwsh.write_text(PWSH)
    pwsh.chmod(0o755)
    task = place.server.start_task("AdHocScript", arguments)
    assert place.server.finished(task)["State"] == "Success"
    assert {"stand-in: -NoProfile -NonInteractive -File", "hello from PowerShell"} <= set(place.log(task))
    assert place.run("print(6 * 7)", MachineIds=[machine], Syntax="Python")[1].count("42") == 1


def test_the_built_in_worker_gives_way_to_external_workers_and_returns_after_the_last_one(place: Site) -> None:
    """As another user, and without a look at what the server keeps."""
    server_data = place.stage.directory / "server"
    body = f'echo "$(id -un) of $(id -Gn)"; ls {server_data} || echo kept out; echo "agent: $TentacleInstanceName"; env'

    def run() -> list[str]:
        task, log = place.run(body, WorkerPoolIds=["WorkerPools-1"], TargetType="WorkerPools")
        assert task["State"] == "Success"
        return log

    assert "agent: one" in run()
    place.stage.run("deregister-worker", "--instance=one", f"--server={place.server.rest}")
    log = run()
    assert {"nobody of nogroup", "kept out", "agent: "} <= set(log)
    assert not any(place.server.key in line for line in log)
    failed, _ = place.run("sleep 0.1; kill -9 $$", TargetType="OctopusServer")
    assert failed["ErrorMessage"] == "The script on 'Built-in Worker' ended with exit code 137."
    slow = {"ScriptBody": "echo going; sleep 1000", "Syntax": "Bash", "TargetType": "OctopusServer"}
    waiting = place.server.start_task("AdHocScript", slow)
    place.until(lambda: "going" in place.log(waiting))
    place.server.request("POST", f"api/tasks/{waiting}/cancel", {})
    assert place.server.finished(waiting)["State"] == "Canceled"
    artifact = b64encode(b"made.txt").decode()
    leaving = f'cd "$TentacleHome"; echo made >made.txt; echo "##octopus[createArtifact path=\'{artifact}\']"'
    made, _ = place.run(leaving, TargetType="OctopusServer")
    (found,) = place.server.get(f"api/artifacts?regarding={made['Id']}")["Items"]
    assert place.server.request("GET", found["Links"]["Content"].lstrip("/")) == b"made\n"
    place.register("one", "--workerpool=Default Worker Pool")
    assert "agent: one" in run()
