"""Packages: pushed with curl, brought to real workers whole and once, found there by their hash, removed in time."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.site import Json, Site, site
from tests.e2e.sshd import PASSWORD, USER, Sshd
from tests.e2e.stage import Server, Stage
from tests.e2e.test_calamari import package as calamari_package
from tests.e2e.test_ssh_workers import join, secret
from tests.patience import PATIENCE


@pytest.fixture(scope="module")
def place(host: Sshd) -> Iterator[Site]:
    """A server with a worker that listens, one that polls, and an SSH machine."""
    with site() as made:
        made.worker("listening", polling=False)
        made.worker("polling")
        given = {"AccountType": "UsernamePassword", "Username": USER, "Password": secret(PASSWORD)}
        join(made, host, "ssh", made.post("accounts", {"Name": "password", **given})["Id"])
        yield made


def push(place: Site, path: Path, query: str = "") -> Json:
    """What the server answers to the command that the documentation gives."""
    command = ["curl", "-sS", "--fail-with-body", "-H", f"X-Octopus-ApiKey: {place.server.key}", "-F", f"file=@{path}"]
    url = f"{place.server.rest}api/Spaces-1/packages/raw{query}"
    done = subprocess.run([*command, url], capture_output=True, timeout=PATIENCE, check=True)
    answer: Json = json.loads(done.stdout)
    return answer


def zipped(path: Path, **files: str) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in files.items():
            file.writestr(f"in/{name}", content)
    return path


def run(place: Site, worker: str, body: str, *wanted: Json, **more: Any) -> tuple[Json, list[str]]:
    return place.run(body, MachineIds=[place.server.worker(worker)["Id"]], Packages=list(wanted), **more)


def cache(place: Site, host: Sshd, worker: str) -> Path:
    return (host.home / ".octopus" if worker == "ssh" else place.stage.directory / worker) / "Files"


@pytest.mark.parametrize("worker", ["listening", "polling", "ssh"])
def test_a_package_goes_to_a_worker_once_and_is_found_there_by_its_hash(
    place: Site, host: Sshd, tmp_path: Path, worker: str
) -> None:
    name = f"Acme.Of-{worker}"
    made = push(place, zipped(tmp_path / f"{name}.1.2.3.zip", greeting="hello from the package"))
    wanted = {"PackageId": name, "Name": "Acme", "Properties": {"Extract": "True"}}
    sent = f"{name} 1.2.3 is sent to {worker}."
    logs = []
    for _ in range(2):
        task, log = run(place, worker, "cat Acme/in/greeting", wanted)
        assert task["State"] == "Success", log
        assert "hello from the package" in log
        logs.append(log)
    assert [sent in log for log in logs] == [True, False], "the second run transfers nothing"
    (file,) = cache(place, host, worker).glob(f"{name}@S1.2.3@*.zip")
    assert len(file.name.split("@")[2]) == 32 + len(".zip")
    before = file.stat()

    file.write_bytes(b"x" + file.read_bytes()[1:])
    task, log = run(place, worker, "cat Acme/in/greeting", wanted)
    assert (task["State"], sent in log) == ("Success", True), "a copy that is spoilt is noticed, and sent again"
    assert f"{file.name} is not the package that it was, or should be now; it is removed." in log
    (again,) = cache(place, host, worker).glob(f"{name}@*")
    assert (again.name != file.name, again.stat().st_size) == (True, before.st_size)

    push(place, zipped(tmp_path / f"{name}.1.2.3.zip", greeting="another one"), "?overwriteMode=OverwriteExisting")
    task, log = run(place, worker, "cat Acme/in/greeting", {**wanted, "Version": made["Version"]})
    assert ("another one" in log, sent in log) == (True, True), "so is one that was replaced in the feed"
    assert len(list(cache(place, host, worker).glob(f"{name}@*"))) == 1


def test_a_script_gets_what_it_asks_for_and_cannot_spoil_the_copy(place: Site, host: Sshd, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in a tar")
    archive = tmp_path / "Tar.Ball.2.0-rc.1.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(tmp_path / "data", "data")
    push(place, archive)
    push(place, zipped(tmp_path / "Whole.1.0.zip", x="x"))
    push(place, zipped(tmp_path / "Whole.1.10.zip", x="the highest version"))
    wanted = (
        {"PackageId": "tar.ball", "Properties": {"Extract": "true"}},
        {"PackageId": "Whole", "Name": "w"},
    )
    body = "cat tar.ball/data; echo; unzip -p w.zip in/x; echo; echo spoilt >w.zip; ls"
    for _ in range(2):
        task, log = run(place, "polling", body, *wanted)
        assert task["State"] == "Success", log
        assert {"in a tar", "the highest version", "tar.ball", "w.zip"} <= set(log)
    assert "is sent to" not in " ".join(log)
    task, log = run(place, "polling", "import os; print(sorted(os.listdir()))", *wanted, Syntax="Python")
    assert any("'tar.ball', 'w.zip'" in line for line in log), log
    assert sorted(p.name.split("@")[0] for p in cache(place, host, "polling").iterdir() if p.name[0] in "TW") == [
        "Tar.Ball",
        "Whole",
    ]


def test_what_cannot_be_had_or_unpacked_fails_the_task_and_says_so(place: Site, tmp_path: Path) -> None:
    task, _ = run(place, "polling", "true", {"PackageId": "Nothing", "Version": "1.0"})
    reason = "The script could not be run on 'polling': There is no package Nothing 1.0 in the built-in feed."
    assert (task["State"], task["ErrorMessage"]) == ("Failed", reason)
    (tmp_path / "Broken.1.0.zip").write_bytes(b"no zip")
    push(place, tmp_path / "Broken.1.0.zip")
    task, _ = run(place, "polling", "true", {"PackageId": "Broken", "Properties": {"Extract": "True"}})
    assert (task["State"], task["ErrorMessage"]) == ("Failed", "The package Broken could not be unpacked.")


@pytest.mark.parametrize("worker", ["listening", "ssh"])
def test_so_many_packages_and_versions_stay_as_the_machine_policy_says(
    place: Site, host: Sshd, tmp_path: Path, worker: str
) -> None:
    for name in ("Kept.1.0", "Kept.2.0", "Kept.3.0", "Other.1.0"):
        push(place, zipped(tmp_path / f"{name}.zip", x=name), "?replace=true")
    place.policy_for(
        worker, MachinePackageCacheRetentionPolicy={"Strategy": "Quantities", "QuantityOfVersionsToKeep": 2}
    )

    def there() -> set[str]:
        return {"@".join(path.name.split("@")[:2]) for path in cache(place, host, worker).iterdir()}

    for version in ("1.0", "2.0", "1.0", "3.0"):
        task, log = run(place, worker, "ls", {"PackageId": "Kept", "Version": version})
        assert (task["State"], "Kept.zip" in log) == ("Success", True)
    assert {"Kept@S1.0", "Kept@S3.0"} <= there(), "those that were used last"
    assert "Kept@S2.0" not in there()
    assert any(line.startswith(f"Removed from the packages of {worker}: Kept@S2.0@") for line in log)

    quantities = {"Strategy": "Quantities", "QuantityOfPackagesToKeep": 1, "QuantityOfVersionsToKeep": 1}
    place.policy_for(worker, MachinePackageCacheRetentionPolicy=quantities)
    both = [{"PackageId": "Kept", "Version": v, "Name": f"k{v[0]}"} for v in ("1.0", "2.0")]
    task, log = run(place, worker, "ls", *both)
    assert (task["State"], {"k1.zip", "k2.zip"} <= set(log)) == ("Success", True), "what a task needs is not removed"
    task, _ = run(place, worker, "ls", {"PackageId": "Other"})
    assert there() == {"Other@S1.0"}


def test_a_full_disk_makes_room_by_what_was_used_least_recently(place: Site, host: Sshd, tmp_path: Path) -> None:
    """The worker's packages are on a disk of 4 MiB."""
    place.policy_for("ssh")
    files = cache(place, host, "ssh")
    namespace = subprocess.run(
        ["pgrep", "-f", f"sshd -D -e -f {host.home.parent}"], capture_output=True, text=True, check=True
    )
    inside = ["nsenter", "--mount", "--target", namespace.stdout.split()[0]]
    subprocess.run([*inside, "mount", "-t", "tmpfs", "-o", "size=4m,mode=777", "none", str(files)], check=True)
    try:
        for number in range(5):
            (tmp_path / f"Large.{number}.0.jar").write_bytes(bytes([number]) * 2**20)
            push(place, tmp_path / f"Large.{number}.0.jar", "?replace=true")
            task, log = run(place, "ssh", "ls", {"PackageId": "Large", "Version": f"{number}.0"})
            assert task["State"] == "Success", log
        listed = subprocess.run([*inside, "ls", str(files)], capture_output=True, text=True, check=True).stdout
    finally:
        subprocess.run([*inside, "umount", str(files)], check=True)
    assert sorted({line.split("@")[1] for line in listed.split()}) == ["S2.0", "S3.0", "S4.0"]


def test_calamari_is_told_where_the_packages_are(tmp_path: Path) -> None:
    with site(calamari=calamari_package(tmp_path)) as other:
        other.worker("w")
        push(other, zipped(tmp_path / "Acme.Web.1.0.zip", greeting="hello by Calamari"))
        wanted = {"PackageId": "Acme.Web", "Name": "Acme", "Properties": {"Extract": "True"}}
        task, log = run(other, "w", "cat Acme/in/greeting", wanted)
        assert (task["State"], "hello by Calamari" in log) == ("Success", True), log


def kill(stage: Stage, server: Server) -> None:
    server.process.signal(signal.SIGKILL)
    server.process.wait()
    (stage.directory / "server.json").unlink()


def test_a_server_that_is_killed_while_a_package_comes_has_nothing_of_it(tmp_path: Path) -> None:
    with Stage() as stage:
        for content in (b"half", b"whole"):
            server = stage.start_server(f"--data={tmp_path / 'data'}")
            assert server.get("api/Spaces-1/packages/all") == []
            length = 1000 if content == b"half" else len(content)
            host, port = server.rest.removeprefix("http://").rstrip("/").split(":")
            with socket.create_connection((host, int(port)), PATIENCE) as connection:
                head = f"POST /api/packages/raw HTTP/1.1\r\nHost: x\r\nX-Octopus-ApiKey: {server.key}\r\n"
                head += f"Content-Disposition: attachment; filename=Acme.1.0.zip\r\nContent-Length: {length}\r\n\r\n"
                connection.sendall(head.encode() + content)
                if content == b"whole":
                    assert b" 201 " in connection.recv(100)
                    break
                Site.until(lambda: list((tmp_path / "data" / "files").iterdir()))
                kill(stage, server)
        assert not list((tmp_path / "data" / "files").iterdir())
        kill(stage, server)
        again = stage.start_server(f"--data={tmp_path / 'data'}")
        assert again.request("GET", "api/Spaces-1/packages/Acme.1.0/raw") == b"whole"
