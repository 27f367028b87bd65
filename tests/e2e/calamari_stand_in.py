#!/usr/bin/env python3
"""What Calamari does with a script step, as far as a server can see it: reads its variables with `openssl`, runs the
script, writes service messages the way C# code does.  It is packed into a tools package by the tests.
"""

import base64
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path


def message(kind: str, /, **attributes: str) -> str:
    coded = (f'{key}="{base64.b64encode(value.encode()).decode()}"' for key, value in attributes.items())
    return f"##octopus[{' '.join((kind, *coded))}]"


def variables(path: str, password: str) -> dict[str, str]:
    data = Path(path).read_bytes()
    assert data[:4] == b"IV__"
    # "Octopuss" is the salt; with a given IV only the first 32 bytes that the password makes are used, as the key.
    how = ["-aes-256-cbc", "-pbkdf2", "-md", "sha1", "-iter", "1000", "-S", b"Octopuss".hex(), "-iv", data[4:20].hex()]
    command = ["openssl", "enc", "-d", *how, "-pass", f"pass:{password}"]
    plain = subprocess.run(command, input=data[20:], capture_output=True, check=True).stdout
    return {each["k"]: each["v"] for each in json.loads(plain)}


def main(command: str, *options: str) -> int:
    given = dict(option.lstrip("-").split("=", 1) for option in options)
    if command != "run-script":
        print(f"Could not find the command {command}", file=sys.stderr)
        return 1
    found = variables(given["variables"], given["variablesPassword"])
    print(f"The stand-in runs {found['Octopus.Action.Script.Syntax']} as step of {found['Octopus.Machine.Name']}")
    print("Applications: " + found["Octopus.Tentacle.Agent.ApplicationDirectoryPath"])
    for name, path in found.items():
        if match := re.fullmatch(r"Octopus\.Action\.Package\[(.+)\]\.OriginalPath", name):
            extract = found[f"Octopus.Action.Package[{match[1]}].Extract"] == "True"
            (shutil.unpack_archive if extract else shutil.copy)(
                path, match[1] if extract else match[1] + Path(path).suffix
            )
    print(message("progress", percentage="50", message="half way"))
    artifact = Path("artifact.txt").resolve()
    artifact.write_text("made by the step")
    print("Here: " + message("createArtifact", path=str(artifact), name="artifact.txt", length="16"), flush=True)
    print(message("setVariable", name="Answer", value="42") + message("mask", value="swordfish"), flush=True)
    return subprocess.run(["bash", "-c", found["Octopus.Action.Script.ScriptBody"]], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
