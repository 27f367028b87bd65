"""A bill of materials in the form of CycloneDX 1.6 (ECMA-424).  The same parts give the same bytes."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from builder.parts import Part

_SPACE: Final = uuid.UUID("5f0c3f1e-7f0e-4c2b-9a55-0d9a6f6f4a11")
"""Where the serial numbers of our documents come from: equal documents have equal numbers."""


def write(artefact: Path, version: str, parts: Iterable[Part]) -> Path:
    """Writes `ARTEFACT.cdx.json`, which names the artefact by its hash, and all its parts."""
    path = artefact.with_name(f"{artefact.name}.cdx.json")
    path.write_text(_document(artefact, version, sorted(parts)), encoding="utf-8")
    return path


def _document(artefact: Path, version: str, parts: list[Part]) -> str:
    ours = {
        "type": "application",
        "bom-ref": "tentacle",
        "name": "tentacle",
        "version": version,
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(artefact.read_bytes()).hexdigest()}],
        "properties": [{"name": "tentacle:file", "value": artefact.name}],
    }
    body: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": ours},
        "components": [_component(part) for part in parts],
        "dependencies": [{"ref": "tentacle", "dependsOn": [part.purl for part in parts]}],
    }
    serial = uuid.uuid5(_SPACE, json.dumps(body, sort_keys=True))
    return json.dumps({"serialNumber": f"urn:uuid:{serial}", **body}, indent=2) + "\n"


def _component(part: Part) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": part.purl,
        "name": part.name,
        "version": part.version,
        "purl": part.purl,
        "licenses": [_licence(part.licence)],
    }
    if part.sha256:
        component["hashes"] = [{"alg": "SHA-256", "content": part.sha256}]
    return component


def _licence(text: str) -> dict[str, Any]:
    if " " not in text and re.fullmatch(r"[A-Za-z0-9.+-]+", text):
        return {"license": {"id": text}}
    if re.fullmatch(r"[A-Za-z0-9.+() -]+", text) and re.search(r" (AND|OR|WITH) ", text):
        return {"expression": text}
    return {"license": {"name": text}}
