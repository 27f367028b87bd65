"""What Octopus' page on machine policies promises, one test a sentence, with a real agent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.site import Site, site


@pytest.fixture(scope="module")
def place() -> Iterator[Site]:
    """A server with the workers `w`, whose agent runs, and `away`, which has none."""
    with site() as made:
        made.worker("w")
        made.absent("away")
        yield made


def health(place: Site, worker: str) -> tuple[str, str]:
    found = place.server.worker(worker)
    return found["HealthStatus"], found["StatusSummary"]


def bash(script: str, **more: Any) -> dict[str, Any]:
    own = {"RunType": "Inline", "ScriptBody": script}
    return {"MachineHealthCheckPolicy": {"BashHealthCheckPolicy": own, "HealthCheckInterval": None, **more}}


QUICKLY_UNAVAILABLE = {"PollingRequestQueueTimeout": "00:00:01"}


def test_the_interval_between_health_checks_can_be_customized(place: Site) -> None:
    place.policy_for("w", MachineHealthCheckPolicy={"HealthCheckInterval": "00:00:00.2"})
    path = f"api/Spaces-1/workers/{place.server.worker('w')['Id']}/tasks"
    before = place.server.get(path)["TotalResults"]
    place.until(lambda: place.server.get(path)["TotalResults"] >= before + 2)
    never = place.policy_for("w", MachineHealthCheckPolicy={"HealthCheckInterval": None})
    assert never["MachineHealthCheckPolicy"]["HealthCheckInterval"] is None


def test_health_checks_come_by_a_cron_expression_in_a_time_zone(place: Site) -> None:
    every_second = {"HealthCheckCron": "* * * * * *", "HealthCheckCronTimezone": "Asia/Kathmandu"}
    made = place.policy_for("w", MachineHealthCheckPolicy=every_second)
    assert made["MachineHealthCheckPolicy"]["HealthCheckInterval"] is None
    before = place.server.get(f"api/Spaces-1/workers/{place.server.worker('w')['Id']}/connection")["LastChecked"]
    path = f"api/Spaces-1/workers/{place.server.worker('w')['Id']}/connection"
    place.until(lambda: place.server.get(path)["LastChecked"] > before)
    place.policy_for("w", MachineHealthCheckPolicy={"HealthCheckInterval": None})


def test_custom_health_check_scripts_are_run(place: Site) -> None:
    policy = place.policy_for("w", **bash('echo "custom on $(uname -s)"'))
    task = place.check("w")
    assert (task["State"], health(place, "w")[0]) == ("Success", "Healthy")
    assert "custom on Linux" in place.log(task)
    place.change(policy, **bash("false || exit 3"))
    assert place.check("w")["State"] == "Failed"
    assert health(place, "w") == ("Unhealthy", "The health check script ended with exit code 3.")


def test_other_policies_inherit_the_script_of_the_default_one(place: Site) -> None:
    default = place.server.get("api/Spaces-1/machinepolicies/MachinePolicies-1")
    place.change(default, **bash("echo inherited"))
    inherit = {"BashHealthCheckPolicy": {"RunType": "InheritFromDefault"}, "HealthCheckInterval": None}
    place.policy_for("w", MachineHealthCheckPolicy=inherit)
    assert "inherited" in place.log(place.check("w"))
    place.change(default)


def test_a_health_check_may_only_connect(place: Site) -> None:
    only = {"HealthCheckType": "OnlyConnectivity", "HealthCheckInterval": None}
    place.policy_for("w", MachineHealthCheckPolicy=only)
    task = place.check("w")
    assert health(place, "w") == ("Healthy", "The machine answers.")
    assert not any("is up" in line for line in place.log(task))


def test_a_warning_of_the_script_makes_the_machine_healthy_with_warnings(place: Site) -> None:
    place.policy_for("w", **bash("echo_warning 'the disk is slow'; echo_warning again; echo still here"))
    task = place.check("w")
    assert (task["State"], task["HasWarningsOrErrors"]) == ("Success", True)
    assert health(place, "w") == ("HasWarnings", "the disk is slow")
    assert {"the disk is slow", "still here"} <= set(place.log(task))


@pytest.mark.parametrize(
    "ending", ["echo_error 'no disk'; echo afterwards", "fail_healthcheck 'no disk'; echo afterwards"]
)
def test_an_error_of_the_script_makes_the_machine_unhealthy(place: Site, ending: str) -> None:
    place.policy_for("w", **bash(f"echo_warning first; {ending}"))
    task = place.check("w")
    assert (task["State"], task["ErrorMessage"]) == ("Failed", "'w' is unhealthy: no disk")
    assert health(place, "w") == ("Unhealthy", "no disk")
    assert ("afterwards" in place.log(task)) is ending.startswith("echo_error"), "a failed check ends at once"


def test_a_machine_that_cannot_be_contacted_is_unavailable(place: Site) -> None:
    place.policy_for("away", **QUICKLY_UNAVAILABLE)
    task = place.check("away")
    status, reason = health(place, "away")
    assert (task["State"], status) == ("Failed", "Unavailable")
    assert "did not collect the request within the allowed time (1 s)" in reason


def test_machines_that_are_unavailable_during_health_checks_may_be_ignored(place: Site) -> None:
    skipped = {"MachineConnectivityBehavior": "MayBeOfflineAndCanBeSkipped"}
    place.policy_for("away", **QUICKLY_UNAVAILABLE, MachineConnectivityPolicy=skipped)
    task = place.check("away")
    assert (task["State"], task["HasWarningsOrErrors"]) == ("Success", True)
    assert health(place, "away")[0] == "Unavailable"


def test_communication_errors_are_recovered_from(place: Site) -> None:
    """Retries are reported; none of them begins after the policy's duration."""
    retry = {"Enabled": True, "RetryDuration": "00:00:04", "HealthCheckRetryDuration": "00:00:04"}
    place.policy_for("away", **QUICKLY_UNAVAILABLE, MachineRpcCallRetryPolicy=retry)
    began = time.monotonic()
    log = place.log(place.check("away"))
    assert time.monotonic() - began < 30
    assert any("Retries will be performed for up to 4 seconds." in line for line in log)
    assert any("Could not communicate with Tentacle after 4 seconds." in line for line in log)


def test_unavailable_machines_are_deleted_after_their_time(place: Site) -> None:
    place.absent("brief")
    cleanup = {"DeleteMachinesBehavior": "DeleteUnavailableMachines", "DeleteMachinesElapsedTimeSpan": "00:00:00.5"}
    place.policy_for("brief", "w", **QUICKLY_UNAVAILABLE, MachineCleanupPolicy=cleanup)
    place.check("w")
    place.check("brief")
    place.until(lambda: "brief" not in {w["Name"] for w in place.server.get("api/Spaces-1/workers/all")})
    (task,) = place.server.get("api/tasks?name=Delete")["Items"]
    assert "brief has been unavailable since" in " ".join(place.log(task))
    assert place.server.worker("w")["Name"] == "w", "who answers stays"


@pytest.mark.parametrize(
    ("part", "complaint"),
    [
        ({"MachineHealthCheckPolicy": {"HealthCheckCron": "every morning"}}, "HealthCheckCron must be a cron expr"),
        ({"MachineHealthCheckPolicy": {"HealthCheckCron": "0 0 31 2 *"}}, "HealthCheckCron must be a cron expr"),
        ({"MachineHealthCheckPolicy": {"HealthCheckCron": "r r * * *"}}, "HealthCheckCron must be a cron expr"),
        ({"MachineHealthCheckPolicy": {"HealthCheckCronTimezone": "Mars"}}, "must be a time zone such as"),
        (
            {"MachineHealthCheckPolicy": {"HealthCheckCron": "0 9 * * *", "HealthCheckInterval": "01:00:00"}},
            "must have a HealthCheckInterval of null when it has a HealthCheckCron",
        ),
        ({"MachineHealthCheckPolicy": {"HealthCheckType": "Guess"}}, "must be one of RunScript, OnlyConnectivity"),
        ({"MachineHealthCheckPolicy": {"BashHealthCheckPolicy": {"RunType": "Inline"}}}, "with the RunType Inline"),
        ({"MachineHealthCheckPolicy": {"BashHealthCheckPolicy": {"ScriptBody": "x"}}}, "with the RunType Inline"),
        (
            {"MachineHealthCheckPolicy": {"PowerShellHealthCheckPolicy": {"RunType": "Inline", "ScriptBody": "x"}}},
            "this server checks machines with bash",
        ),
        ({"MachineConnectivityPolicy": {"MachineConnectivityBehavior": "Maybe"}}, "must be one of ExpectedToBeOnline"),
        ({"MachineCleanupPolicy": {"DeleteMachinesBehavior": "Now"}}, "must be one of DoNotDelete"),
        ({"MachineUpdatePolicy": {"TentacleUpdateBehavior": "Update"}}, "must be one of NeverUpdate"),
        ({"MachineUpdatePolicy": {"KubernetesAgentUpdateBehavior": "Block"}}, "must be one of Update, NeverUpdate"),
        ({"MachineUpdatePolicy": {"TentacleUpdateAccountId": "Accounts-1"}}, "this server does not update Tentacles"),
        ({"MachineUpdatePolicy": {"CalamariUpdateBehavior": "Never"}}, "must be one of UpdateOnDeployment"),
        ({"MachineRpcCallRetryPolicy": {"Enabled": "yes"}}, "Enabled must be true or false"),
        ({"ConnectionRetryCountLimit": 1}, "must be a whole number from 2 to 100"),
        ({"ConnectionConnectTimeout": "00:00:01"}, "must not be shorter than 10 seconds"),
        ({"PollingRequestQueueTimeout": "00:00:00"}, "must not be shorter than 1 seconds"),
    ],
)
def test_what_does_not_act_is_refused(place: Site, part: Any, complaint: str) -> None:
    assert complaint in place.refused("machinepolicies", {"Name": "refused", **part})
    assert "refused" not in {p["Name"] for p in place.server.get("api/Spaces-1/machinepolicies/all")}
