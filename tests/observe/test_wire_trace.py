"""The trace of a conversation: in the form of the recordings, complete at any moment, and without secrets."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from tentacle.errors import TentacleError
from tentacle.observe.redaction import Redactor
from tentacle.observe.trace_parts import SECRET_KEYS
from tentacle.observe.wire_trace import WireTrace
from tentacle.wire.call_context import Wire
from tests.recorded import CONVERSATIONS, load_vector


def traced(path: Path, name: str, trace: WireTrace) -> Any:
    vector = load_vector(name)
    trace.start()
    for connection in vector["connections"]:
        tap = trace.connection(vector["dialled_by"], connection["tls"], "10.0.0.1:1", Wire.HALIBUT)
        for turn in connection["turns"]:
            (tap.received if turn["from"] == "server" else tap.sent)(bytes.fromhex(turn["hex"]))
            json.loads(path.read_text())
        tap.closed(connection["ended_by"] or "agent")
    trace.aclose()
    return vector


def joined(document: Any) -> list[tuple[str, list[dict[str, Any]], str]]:
    """The turns of all connections; those that were written in several pieces are one."""
    found: dict[int, list[dict[str, Any]]] = {}
    for one in document["connections"]:
        found.setdefault(one["number"], []).extend(one["turns"])
    return [(turn["from"], turn["parts"], turn["hex"]) for turns in found.values() for turn in turns]


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_trace_has_the_form_of_a_recording(name: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    vector = traced(path, name, WireTrace(path))
    document = json.loads(path.read_text())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    wanted = [turn for one in vector["connections"] for turn in one["turns"]]
    found = joined(document)
    assert [side for side, _, _ in found] == [turn["from"] for turn in wanted]
    for (_, parts, data), turn in zip(found, wanted, strict=True):
        assert [set(part) - {"masked"} for part in parts] == [set(part) for part in turn["parts"]]
        if not any("masked" in part or part.get("data_streams") for part in parts):
            assert data == turn["hex"]
            assert parts == turn["parts"]
    assert document["connections"][0]["tls"] == vector["connections"][0]["tls"]


def texts_under(value: Any, keys: frozenset[str], inside: bool = False) -> list[str]:
    if isinstance(value, dict):
        return [t for k, v in value.items() if k != "$type" for t in texts_under(v, keys, inside or k in keys)]
    if isinstance(value, list):
        return [text for one in value for text in texts_under(one, keys, inside)]
    return [value] if inside and isinstance(value, str) else []


def test_scripts_passwords_arguments_and_files_are_not_in_it(tmp_path: Path) -> None:
    for name in CONVERSATIONS:
        path = tmp_path / f"{name}.json"
        vector = traced(path, name, WireTrace(path))
        text = path.read_text()
        assert set(texts_under(json.loads(text), SECRET_KEYS)) <= {"********", ""}
        for one in vector["connections"]:
            for part in (part for turn in one["turns"] for part in turn["parts"]):
                # The name of a file may stand in the text of a script, too, and is no secret.
                for secret in (one for one in texts_under(part, SECRET_KEYS) if len(one) > 12):
                    assert json.dumps(secret)[1:-1] not in text
                    assert secret.encode().hex() not in text
                for stream in part.get("data_streams", ()):
                    assert len(stream["body_hex"]) < 12 or stream["body_hex"] not in text


def test_known_secrets_are_masked_wherever_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    name = "listening-script-v2"
    vector = json.dumps(load_vector(name))
    assert "GetCapabilities" in vector or "StartScript" in vector
    traced(path, name, WireTrace(path, Redactor(["StartScript"]).redact))
    assert "StartScript" not in path.read_text()
    assert b"StartScript".hex() not in path.read_text()


def test_a_file_that_is_full_ends_the_trace_and_stays_whole(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    traced(path, "listening-script-v2", WireTrace(path, largest=200))
    assert json.loads(path.read_text())["connections"] == []


def test_what_cannot_be_read_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    trace = WireTrace(path)
    trace.start()
    tap = trace.connection("server", "TLSv1.3", "a", Wire.HALIBUT)
    tap.received(b"\xff" * 50 + b"s3cr3t")
    tap.received(b"s3cr3t")
    tap.closed("server")
    trace.aclose()
    (turn,) = json.loads(path.read_text())["connections"][0]["turns"]
    assert turn["hex"] == ""
    assert turn["parts"][0]["bytes"] == 56


def test_a_place_where_it_cannot_be_is_named(tmp_path: Path) -> None:
    with pytest.raises(TentacleError, match="cannot be traced"):
        WireTrace(tmp_path).start()
