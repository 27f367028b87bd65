"""Workers are also SSH machines: a real `sshd` on loopback."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.site import Site, site
from tests.e2e.sshd import PASSWORD, USER, Sshd
from tests.e2e.stage import StepFailed
from tests.e2e.test_calamari import PUSHED, package


@pytest.fixture(scope="module")
def place(host: Sshd) -> Iterator[Site]:
    """A server that knows the machine by key as `by-key` and by password as `by-password`."""
    with site() as made:
        key = {"PrivateKeyFile": secret(host.key), "PrivateKeyPassphrase": secret(host.passphrase)}
        made.post("accounts", {"Name": "key", "AccountType": "SshKeyPair", "Username": USER, **key})
        password = {"Password": secret(PASSWORD)}
        made.post("accounts", {"Name": "password", "AccountType": "UsernamePassword", "Username": USER, **password})
        join(made, host, "by-key", "Accounts-1")
        join(made, host, "by-password", "Accounts-2", fingerprint=host.fingerprints[1])
        yield made


def secret(value: str) -> dict[str, Any]:
    return {"HasValue": True, "NewValue": value}


def join(place: Site, host: Sshd, name: str, account: str, *, fingerprint: str | None = None, **more: Any) -> Any:
    endpoint = {
        "CommunicationStyle": "Ssh",
        "AccountId": account,
        "Host": "127.0.0.1",
        "Port": host.port,
        "Fingerprint": fingerprint or host.fingerprints[0],
        **more,
    }
    body = {"Name": name, "WorkerPoolIds": ["WorkerPools-1"], "Endpoint": endpoint, "SkipInitialHealthCheck": True}
    return place.post("workers", body)


@pytest.mark.parametrize("worker", ["by-key", "by-password"])
def test_an_ssh_machine_joins_a_pool_and_is_health_checked(place: Site, worker: str) -> None:
    assert worker in {w["Name"] for w in place.server.get("api/Spaces-1/workerpools/WorkerPools-1/workers")["Items"]}
    task = place.check(worker)
    found = place.server.worker(worker)
    assert (task["State"], found["HealthStatus"], found["ShellName"]) == ("Success", "Healthy", "Bash")
    assert found["Endpoint"]["Uri"].startswith("ssh://127.0.0.1:")


@pytest.mark.parametrize("kind", ["workers", "machines"])
def test_an_ssh_machine_is_discovered_by_the_fingerprint_of_the_key_that_it_shows(
    place: Site, host: Sshd, kind: str
) -> None:
    query = f"host=127.0.0.1&port={host.port}&type=Ssh"
    found = place.server.get(f"api/Spaces-1/{kind}/discover?{query}")
    assert found["Endpoint"]["Fingerprint"] in host.fingerprints
    assert (found["Id"], found["Uri"]) == (None, f"ssh://127.0.0.1:{host.port}/")
    if kind == "workers":
        endpoint = {**found["Endpoint"], "AccountId": "Accounts-1"}
        made = place.post(
            "workers", {**found, "Name": "discovered", "WorkerPoolIds": ["WorkerPools-1"], "Endpoint": endpoint}
        )
        place.until(lambda: place.server.worker(made["Name"])["HealthStatus"] == "Healthy")
    with pytest.raises(StepFailed, match=r"(?s): 400 .*No connection to 127.0.0.1:1:"):
        place.server.get(f"api/Spaces-1/{kind}/discover?host=127.0.0.1&port=1&type=Ssh")
    with pytest.raises(StepFailed, match=r"(?s): 400 .*does not speak SSH"):
        place.server.get(f"api/Spaces-1/{kind}/discover?host=127.0.0.1&port={place.server.comms_port}&type=Ssh")


@pytest.mark.parametrize("worker", ["by-key", "by-password"])
def test_it_runs_the_same_scripts(place: Site, host: Sshd, worker: str) -> None:
    body = "echo \"I am $(id -un) in $TentacleHome\"; echo oops >&2; printf 'no end'; exit 7"
    task, log = place.run(body, MachineIds=[place.server.worker(worker)["Id"]])
    assert task["ErrorMessage"] == f"The script on '{worker}' ended with exit code 7."
    assert {f"I am {USER} in {host.home}/.octopus", "oops", "no end"} <= set(log)
    assert list((host.home / ".octopus" / "Work").iterdir()) == []


def test_files_go_there_and_back(place: Site) -> None:
    path = f"api/x-tentacle/workers/{place.server.worker('by-key')['Id']}/files?path=Files/data.bin"
    data = bytes(range(256)) * 1000
    place.server.request("PUT", path, data=data)
    assert place.server.request("GET", path) == data
    with pytest.raises(StepFailed, match=": 404 "):
        place.server.request("GET", path.replace("data.bin", "nothing"))


def test_a_cancelled_script_ends_with_what_it_started(place: Site, host: Sshd) -> None:
    mark = host.home / "started"
    body = f"(trap '' TERM; echo $BASHPID >{mark}.new; mv {mark}.new {mark}; sleep 1000; sleep 1000) & wait"
    arguments = {"ScriptBody": body, "Syntax": "Bash", "MachineIds": [place.server.worker("by-key")["Id"]]}
    task = place.server.start_task("AdHocScript", arguments)
    place.until(mark.exists)
    place.server.request("POST", f"api/tasks/{task}/cancel", {})
    assert place.server.finished(task)["State"] == "Canceled"
    place.until(lambda: not is_running(int(mark.read_text())))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_host_with_another_key_than_the_pinned_one_is_told_nothing(place: Site, host: Sshd) -> None:
    join(place, host, "wrong", "Accounts-2", fingerprint="SHA256:" + "A" * 43)
    place.policy_for("wrong")
    assert place.check("wrong")["State"] == "Failed"
    found = place.server.worker("wrong")
    assert found["HealthStatus"] == "Unavailable"
    assert "has no host key with the fingerprint SHA256:AAAA" in found["StatusSummary"]
    assert "it showed SHA256:" in found["StatusSummary"]
    assert "Accepted" not in (host.home.parent / "log").read_text().splitlines()[-1]


def test_an_account_that_may_not_sign_in_is_told_as_the_reason(place: Site, host: Sshd) -> None:
    given = {"AccountType": "UsernamePassword", "Username": USER, "Password": secret("wrong")}
    account = place.post("accounts", {"Name": "wrong", **given})
    join(place, host, "no-access", account["Id"])
    place.policy_for("no-access")
    place.check("no-access")
    summary = place.server.worker("no-access")["StatusSummary"]
    assert summary == f"'{USER}' may not sign in at 127.0.0.1:{host.port} with this account."


def test_secrets_of_an_account_are_never_shown_and_kept_when_it_is_written_back(place: Site, host: Sshd) -> None:
    shown = place.server.request("GET", "api/Spaces-1/accounts/all").decode()
    assert PASSWORD not in shown
    assert "PRIVATE KEY" not in shown
    (account,) = [a for a in place.server.get("api/Spaces-1/accounts/all") if a["Name"] == "password"]
    assert account["Password"] == {"HasValue": True, "NewValue": None, "Hint": None}
    place.change(account, Name="renamed")
    assert place.check("by-password")["State"] == "Success"
    # Neither the task logs nor the server's own files that others may read hold it.
    assert all(PASSWORD not in line for task in place.server.get("api/tasks")["Items"] for line in place.log(task))


def test_a_machine_that_is_away_is_unavailable(place: Site, host: Sshd) -> None:
    join(place, host, "nobody", "Accounts-1", Port=1)
    place.policy_for("nobody")
    began = time.monotonic()
    place.check("nobody")
    assert "No connection to 127.0.0.1:1" in place.server.worker("nobody")["StatusSummary"]
    assert time.monotonic() - began < 30


def test_steps_run_by_calamari_there_too(host: Sshd, tmp_path: Path) -> None:
    with site(calamari=package(tmp_path)) as other:
        given = {"AccountType": "UsernamePassword", "Username": USER, "Password": secret(PASSWORD)}
        join(other, host, "w", other.post("accounts", {"Name": "password", **given})["Id"])
        logs = [other.run("exit 5", MachineIds=[other.server.worker("w")["Id"]])[1] for _ in range(2)]
    assert [PUSHED in log for log in logs] == [True, False]
    for log in logs:
        assert {"The stand-in runs Bash as step of w", "The script on 'w' ended with exit code 5."} <= set(log)
        assert f"Applications: {host.home}/.octopus/Applications" in log
