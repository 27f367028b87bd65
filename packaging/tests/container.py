"""A container of the image, run by `crun` without an engine; `umoci` makes its root directory, as an engine would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

PATIENCE = 120.0
# A cgroup file system of its own is there even where the host has none that may be written.
INSIDE = 'mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"'


def laid_out(archive: Path, directory: Path) -> Path:
    """The image's layout, taken out of the archive."""
    directory.mkdir()
    with tarfile.open(archive) as file:
        file.extractall(directory, filter="data")
    return directory


class Container:
    """Use as a context manager: runs from then on, with the network of this machine."""

    def __init__(self, layout: Path, tag: str, directory: Path, name: str) -> None:
        self._bundle, self._state, self._name = directory / name, directory / f"{name}.state", name
        unpack: list[str | Path] = ["umoci", "unpack", "--image", f"{layout}:{tag}", self._bundle]
        subprocess.run(unpack, check=True, stdout=subprocess.DEVNULL)
        self._log = directory / f"{name}.log"
        self._plain = (self._bundle / "config.json").read_text()
        self.image = image_config(layout)

    def configure(self, variables: Mapping[str, str], secrets: Mapping[str, Path], *, read_only: bool = False) -> None:
        """`secrets`: files of this machine, by the path that they have inside."""
        config = json.loads(self._plain)
        config["process"]["terminal"] = False
        config["process"]["env"] += [f"{name}={value}" for name, value in variables.items()]
        config["process"]["capabilities"] = {}
        config["process"]["noNewPrivileges"] = True
        config["root"]["readonly"] = read_only
        config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] != "network"]
        config["linux"].pop("resources", None)
        config["mounts"] += [
            {"destination": inside, "type": "bind", "source": str(file), "options": ["bind", "ro"]}
            for inside, file in secrets.items()
        ]
        (self._bundle / "config.json").write_text(json.dumps(config))

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._crun("run", "--bundle", str(self._bundle), self._name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            subprocess.run(self._crun("delete", "--force", self._name), check=False, capture_output=True)
            self._process.wait(PATIENCE)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while text not in self.log:
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)

    def exec(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._crun("exec", self._name, *command), capture_output=True, text=True, timeout=PATIENCE, check=False
        )

    def check_health(self) -> int:
        """What an engine that knows HEALTHCHECK asks for."""
        kind, *command = self.image["config"]["Healthcheck"]["Test"]
        assert kind == "CMD"
        return self.exec(*command).returncode

    def stop(self) -> int:
        """As an engine stops it; the exit code of its first process."""
        state = subprocess.run(self._crun("state", self._name), capture_output=True, text=True, check=True)
        os.kill(int(json.loads(state.stdout)["pid"]), getattr(signal, self.image["config"]["StopSignal"]))
        return self.ended()

    def ended(self) -> int:
        """The exit code of its first process, once that has ended."""
        return self._process.wait(PATIENCE)

    def _crun(self, *arguments: str) -> list[str]:
        crun = ["crun", f"--root={self._state}", "--cgroup-manager=cgroupfs", *arguments]
        return ["unshare", "--mount", "bash", "-c", INSIDE, "bash", *crun]


def image_config(layout: Path) -> Any:
    """The image's configuration."""
    return json.loads(blob(layout, manifest(layout)["config"]).read_text())


def layers(layout: Path) -> list[Path]:
    """The archives of its layers, the lowest first."""
    return [blob(layout, layer) for layer in manifest(layout)["layers"]]


def manifest(layout: Path) -> Any:
    (only,) = json.loads((layout / "index.json").read_text())["manifests"]
    return json.loads(blob(layout, only).read_text())


def blob(layout: Path, descriptor: Any) -> Path:
    digest: str = descriptor["digest"]
    return layout / "blobs" / digest.replace(":", "/")
