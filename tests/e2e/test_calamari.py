"""Steps that run by a tools package: brought once, unpacked, found again; a stand-in speaks Calamari's formats."""

from __future__ import annotations

import base64
import shlex
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.site import Site, server_here, site
from tests.e2e.stage import Stage

STAND_IN = Path(__file__).with_name("calamari_stand_in.py")
PUSHED = "Calamari.linux-x64 27.1.0 will be pushed automatically."


def package(directory: Path, version: str = "27.1.0", suffix: str = "nupkg") -> Path:
    path = directory / f"Calamari.linux-x64.{version}.{suffix}"
    with zipfile.ZipFile(path, "w") as file:
        file.write(STAND_IN, "Calamari")
        file.writestr("lib/notes.txt", "beside the tool")
        file.writestr("Calamari.linux-x64.nuspec", "<package/>")
        file.writestr("[Content_Types].xml", "<Types/>")
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(calamari=package(tmp_path_factory.mktemp("package"))) as made:
        made.worker("w", polling=False)
        yield made


def tools(place: Site, worker: str = "w", version: str = "27.1.0") -> Path:
    return place.stage.directory / worker / "Tools" / "Calamari.linux-x64" / version


def step(place: Site, body: str, worker: str = "w", syntax: str = "Bash") -> tuple[str, list[str], str]:
    """How a script on the worker ended, its log, and its error."""
    task, log = place.run(body, MachineIds=[place.server.worker(worker)["Id"]], Syntax=syntax)
    return task["State"], log, task["Id"]


def test_a_tools_package_is_pushed_to_a_worker_once_and_found_by_the_next_step(place: Site) -> None:
    assert place.server.worker("w")["HasLatestCalamari"] is True, "before anything is known"
    state, log, _ = step(place, "echo from the script")
    assert state == "Success"
    assert (log.count(PUSHED), "from the script" in log) == (1, True)
    assert (tools(place) / "Success.txt").exists()
    assert {f.name for f in tools(place).iterdir()} == {"Calamari", "lib", "Success.txt"}
    assert not list((place.stage.directory / "w" / "Tools").glob("*.tar.gz"))
    state, log, _ = step(place, "echo again")
    assert (state, PUSHED in log, "again" in log) == ("Success", False, True)


def test_a_package_that_is_not_as_it_was_pushed_is_pushed_again(place: Site) -> None:
    step(place, "true")
    (tools(place) / "Success.txt").write_text("another\n")
    assert PUSHED in step(place, "true")[1]


def test_variables_go_as_an_encrypted_file_with_the_directory_of_applications(place: Site) -> None:
    state, log, _ = step(place, "ls; grep -c swordfish Variables.secret; echo swordfish-fishes", syntax="Python")
    assert "The stand-in runs Python as step of w" in log
    assert f"Applications: {place.stage.directory / 'w' / 'applications'}" in log
    assert {"Variables.secret", "0"} <= set(log)
    assert state == "Success"


def test_the_exit_code_is_that_of_the_script(place: Site) -> None:
    task, _ = place.run("exit 43", MachineIds=[place.server.worker("w")["Id"]])
    assert (task["State"], task["ErrorMessage"]) == ("Failed", "The script on 'w' ended with exit code 43.")


def test_output_variables_artifacts_and_progress_come_from_service_messages(place: Site) -> None:
    _, log, task = step(place, "true")
    assert "Output variable 'Answer' is set to '42'." in log
    assert not any("##octopus" in line for line in log)
    (found,) = place.server.get(f"api/artifacts?regarding={task}")["Items"]
    assert (found["Filename"], found["ServerTaskId"]) == ("artifact.txt", task)
    assert place.server.request("GET", found["Links"]["Content"].lstrip("/")) == b"made by the step"
    (root,) = place.server.get(f"api/tasks/{task}/details")["ActivityLogs"]
    assert root["Children"][0]["ProgressMessage"] == "half way"


def test_messages_of_a_script_come_with_either_quote_anywhere_in_a_line_and_several_in_one(place: Site) -> None:
    def say(kind: str, quote: str, **attributes: str) -> str:
        coded = (
            f"{key}={quote}{base64.b64encode(value.encode()).decode()}{quote}" for key, value in attributes.items()
        )
        return f"##octopus[{' '.join((kind, *coded))}]"

    one = say("setVariable", "'", name="One", value="1")
    two = say("setVariable", '"', name="Two", value="of swordfish") + say("progress", "'", percentage="75")
    hidden = say("setVariable", '"', name="Hidden", value="hush-hush", sensitive="True")
    body = (
        f"printf '%s\\n' {shlex.quote(f'before {one} between {two} after')}; echo {shlex.quote(hidden)}; echo hush-hush"
    )
    state, log, task = step(place, body)
    assert (state, {"before", "between", "after", "********"} <= set(log)) == ("Success", True), log
    assert not any("##octopus" in line for line in log)
    (root,) = place.server.get(f"api/tasks/{task}/details")["ActivityLogs"]
    (part,) = root["Children"]
    assert {one["Name"]: (one["Value"], one["IsSensitive"]) for one in part["OutputVariables"]} == {
        "Answer": ("42", False),
        "One": ("1", False),
        "Two": ("of ********", False),
        "Hidden": (None, True),
    }
    assert "hush-hush" not in str(part)


def test_mask_masks_from_then_on(place: Site) -> None:
    _, log, _ = step(place, "echo it is swordfish; echo swordfish >&2")
    assert {"it is ********", "********"} <= set(log)
    assert not any("swordfish" in line for line in log)


def test_the_task_update_calamari_brings_it_before_a_step_needs_it(place: Site) -> None:
    shutil.rmtree(place.stage.directory / "w" / "Tools", ignore_errors=True)
    task = place.server.start_task("UpdateCalamari", {"MachineIds": [place.server.worker("w")["Id"]]})
    assert place.server.finished(task)["State"] == "Success"
    assert PUSHED in place.log(task)
    assert PUSHED not in step(place, "true")[1]


def test_calamari_is_updated_as_the_machine_policy_says(place: Site) -> None:
    step(place, "true")
    for behaviour, brought in (("UpdateOnDeployment", False), ("UpdateAlways", True), ("UpdateOnNewMachine", False)):
        place.policy_for("w", MachineUpdatePolicy={"CalamariUpdateBehavior": behaviour})
        (tools(place) / "Success.txt").unlink(missing_ok=True)
        assert (PUSHED in place.log(place.check("w"))) is brought, behaviour
    endpoint = {**place.server.worker("w")["Endpoint"], "Id": None}
    worker = {"Name": "new", "WorkerPoolIds": ["WorkerPools-1"], "Endpoint": endpoint, "SkipInitialHealthCheck": True}
    policy = place.post(
        "machinepolicies", {"Name": "new", "MachineUpdatePolicy": {"CalamariUpdateBehavior": behaviour}}
    )
    place.post("workers", {**worker, "MachinePolicyId": policy["Id"]})
    assert PUSHED in place.log(place.check("new"))
    assert PUSHED not in place.log(place.check("new")), "which is not new any more"


def test_a_server_without_a_package_says_so() -> None:
    with Stage() as stage, server_here(stage) as server:
        task = server.finished(server.start_task("UpdateCalamari", {}))
        assert (task["State"], task["ErrorMessage"]) == (
            "Failed",
            "This server has no tools package; start it with --calamari.",
        )


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("calamari.zip", b"", "does not say which tool it is"),
        ("Calamari.1.0.zip", b"no zip", "cannot be read: File is not a zip file"),
        ("Calamari.1.0.nupkg", None, "cannot be read: "),
    ],
)
def test_a_file_that_is_no_package_is_refused(tmp_path: Path, name: str, content: bytes | None, complaint: str) -> None:
    given = tmp_path / name
    if content is not None:
        given.write_bytes(content)
    with Stage() as stage:
        told = stage.run("devserver", f"--calamari={given}", expect=1)
        assert complaint in told
        assert len(told.splitlines()) <= 2
