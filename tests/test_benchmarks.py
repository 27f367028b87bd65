"""The benchmarks work: each row gives numbers, and the files are written.  No time is looked at here."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.__main__ import ROWS, main
from benchmarks.lean import SCRIPTS, SEQUENCE, SEQUENCE_BYTES, TICKET, TICKET_BYTES, Kind, Lean, result_of
from benchmarks.lean_lines import NEXT, PROCEED, LeanError, Line, Polled
from benchmarks.measure import Figure, at_once
from benchmarks.neighbours import untrusting
from benchmarks.report import Measured, chart, table
from tentacle.calling.caller import Endpoint
from tentacle.contracts.capabilities import CapabilitiesResponseV2
from tentacle.contracts.codec import decode, encode
from tentacle.contracts.script import ScriptTicket
from tentacle.contracts.script_v2 import ScriptStatusRequestV2
from tentacle.settings import certificates
from tentacle.wire.control import encode_identity
from tentacle.wire.envelope import deflate
from tentacle.wire.events import Identity, IdentityKind
from tentacle.wire.generations import Generation, shown_by_request
from tentacle.wire.limits import Limits
from tentacle.wire.messages import Request, Response, ServerError, decode_message, encode_message
from tentacle.wire.preface import PREFACE
from tests.patience import PATIENCE

ENDPOINT = Endpoint("https://127.0.0.1:10933/", "A" * 40)
MACHINE = {"cores": "2", "file system": "ext4"}


def test_every_row_gives_numbers_and_the_files_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--tiny", "--quiet-only", "--results", str(tmp_path)]) == 0
    assert "given up" not in capsys.readouterr().out
    found = json.loads((tmp_path / "raw.json").read_text())
    assert {one["row"] for one in found["figures"]} == {row.name for row in ROWS}
    for one in found["figures"]:
        figure = one["quiet"]
        assert figure["ours"], figure["what"]
        assert all(math.isfinite(value) for value in (*figure["ours"], *figure["theirs"])), figure["what"]
    text = (tmp_path / "table.md").read_text()
    assert all(f"| {one['quiet']['what']} |" in text for one in found["figures"])
    assert ElementTree.parse(tmp_path / "chart.svg").getroot().tag.endswith("svg")


def test_a_row_is_measured_again_while_scripts_take_all_cores(tmp_path: Path) -> None:
    assert main(["--tiny", "--only", "small-files", "--results", str(tmp_path)]) == 0
    figures = json.loads((tmp_path / "raw.json").read_text())["figures"]
    assert figures and all(one["busy"]["ours"] for one in figures)


def test_a_row_that_does_not_exist_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "no such row"]) == 2
    assert capsys.readouterr().out.splitlines() == [row.name for row in ROWS]


def test_a_ratio_is_that_of_the_same_round_and_shown_with_its_spread() -> None:
    figure = Figure("`a` & b", "ms", [2.0, 30.0, 8.0], "ssh", [1.0, 10.0, 2.0], "at most 1 x", "13 ms")
    assert figure.ratio == (3.0, 2.0, 4.0)
    busy = Figure("`a` & b", "ms", [8.0], "ssh", [4.0])
    shown = table([Measured("a", figure, busy), Measured("b", Figure("c", "", [1500.0]))], MACHINE).splitlines()
    assert shown[-2] == (
        "| `a` & b | 8 ms (2 to 30) | ssh: 2 ms (1 to 10) | 3 x (2 to 4) | 2 x (8 ms) | at most 1 x | 13 ms |"
    )
    assert shown[-1] == "| c | 1,500 | - | - | - |  |  |"
    drawn = ElementTree.fromstring(chart([Measured("a", figure, busy)], MACHINE))
    assert "a & b ◂" in [element.text for element in drawn.iter() if element.tag.endswith("text")]


def test_an_error_of_the_agent_or_the_answer_to_another_request_ends_the_lean_client() -> None:
    assert result_of(encode_message(Response("id", {"State": 2})), "id") == {"State": 2}
    with pytest.raises(LeanError, match="no room"):
        result_of(encode_message(Response("id", error=ServerError("no room"))), "id")
    with pytest.raises(LeanError, match="other"):
        result_of(encode_message(Response("other", {"State": 2})), "id")


def test_a_request_of_the_lean_client_is_the_one_that_our_own_calling_side_makes() -> None:
    ticket, sequence = b"lean-0000000007", struct.pack("<q", 1000)
    stands = TICKET_BYTES, SEQUENCE_BYTES
    command = ScriptStatusRequestV2(ScriptTicket(TICKET), SEQUENCE)
    kind = Kind(ENDPOINT, SCRIPTS, "GetStatus", command, changing=stands)
    identity, deflated = kind.made(dict(zip(stands, (ticket, sequence), strict=True)))
    request = decode_message(zlib.decompress(deflated, wbits=-15), Limits())
    assert isinstance(request, Request)
    meant = ScriptStatusRequestV2(ScriptTicket("lean-0000000007"), 1000)
    assert decode(ScriptStatusRequestV2, request.params[0]) == meant
    assert request.id == identity != kind.made(dict(zip(stands, (ticket, sequence), strict=True)))[0]
    assert shown_by_request(request) is Generation.MODERN


@pytest.mark.parametrize("changes", [{}, {b"else": b"what"}, {TICKET_BYTES: b"longer than the other"}])
def test_a_request_of_the_lean_client_is_not_made_with_changes_that_do_not_fit(changes: dict[bytes, bytes]) -> None:
    kind = Kind(ENDPOINT, SCRIPTS, "CompleteScript", ScriptTicket(TICKET), changing=[TICKET_BYTES])
    with pytest.raises(ValueError, match="do not fit"):
        kind.made(changes)


def test_what_shall_differ_from_call_to_call_has_to_be_in_the_request() -> None:
    with pytest.raises(ValueError, match="not exactly once"):
        Kind(ENDPOINT, SCRIPTS, "CompleteScript", ScriptTicket("another"), changing=[TICKET_BYTES])


def test_one_who_polls_the_lean_client_hears_that_there_is_nothing_to_do_and_then_of_a_call(tmp_path: Path) -> None:
    server, pem, bored = certificates.generate(), tmp_path / "server.pem", threading.Event()
    pem.write_bytes(server.certificate_pem + server.key_pem)

    def serve(port: int) -> list[str]:
        """Answers until the connection ends; gives the methods that were called."""
        called = []
        with untrusting().wrap_socket(socket.create_connection(("127.0.0.1", port))) as sock, suppress(LeanError):
            agent = Line(sock)
            agent.say(PREFACE)
            agent.say(encode_identity(Identity(IdentityKind.SUBSCRIBER, "poll://x/")))
            agent.expect(encode_identity(Identity(IdentityKind.SERVER)))
            while True:
                if (request := decode_message(agent.message(), Limits())) is None:
                    bored.set()
                else:
                    assert isinstance(request, Request)
                    called.append(request.method)
                    result = encode(CapabilitiesResponseV2((SCRIPTS,)))
                    agent.say(deflate(encode_message(Response(request.id, result))))
                agent.say(NEXT)
                agent.expect(PROCEED)
        return called

    with ThreadPoolExecutor(1) as beside:
        with closing(Polled(pem, beat=0.01)) as polled:
            serving = beside.submit(serve, polled.port)
            assert bored.wait(PATIENCE)
            Lean(polled, Endpoint("poll://x/", "A" * 40)).capabilities()
        assert serving.result() == ["GetCapabilities"]


def test_after_a_call_that_fails_no_other_is_begun() -> None:
    done: list[int] = []

    def fail() -> None:
        raise LeanError("no")

    with pytest.raises(LeanError):
        asyncio.run(at_once([partial(done.append, 1), fail, partial(done.append, 2)], 1))
    assert done == [1]
