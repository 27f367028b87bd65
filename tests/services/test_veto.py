"""Which calls the policy refuses, with a real dispatcher and real files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tentacle.contracts.codec import decode, encode
from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.script import ScriptTicket
from tentacle.contracts.script_v2 import (
    CompleteScriptCommandV2,
    ScriptStatusRequestV2,
    StartScriptCommandV2,
)
from tentacle.contracts.services import SERVICE_METHODS
from tentacle.path_walk import Trust, end_of
from tentacle.services.dispatch import Answered, Failure, SeenCall
from tentacle.services.errors import RefusedByPolicy
from tentacle.services.halibut import answer_request
from tentacle.services.service_list import make_dispatcher
from tentacle.services.veto import TransferRoots, Veto
from tentacle.settings.policy import HostPolicy, parse_policy
from tentacle.wire.call_context import CallContext
from tentacle.wire.messages import Request, ServerError
from tests.services.bench import Bench

SOURCE = Path("/etc/octopus/w.policy.yaml")
PEER = CallContext("AB" * 20, "10.1.2.3:5000")


class VetoedBench(Bench):
    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.policy = HostPolicy()
        self.time = 0.0
        self.context = PEER
        self._veto = Veto(lambda: self.policy, self.engine.is_known, lambda: self.time)
        now = lambda: datetime.now(UTC)  # noqa: E731
        roots = TransferRoots(lambda: self.policy)
        self.dispatcher = make_dispatcher(self.engine, home, now, overseer=self, roots=roots)

    def asked(self, call: SeenCall) -> None:
        self._veto.require(call)

    def answered(self, call: SeenCall, answer: Answered | Failure, seconds: float) -> None: ...

    def rule(self, text: str) -> None:
        self.policy = parse_policy(text, SOURCE)

    async def ask(self, service: str, method: str, *arguments: Any, files: Any = None) -> Any:
        """The result, or the text of the refusal."""
        request = Request("R", service, method, tuple(encode(a) for a in arguments))
        response, opened = await answer_request(self.dispatcher.answer, request, files or {}, self.context)
        for file in opened.values():
            file.close()
        if isinstance(response.error, ServerError):
            return response.error.message
        wanted = SERVICE_METHODS[service][method.lower()].result
        return None if wanted is None or response.result is None else decode(wanted, response.result)

    async def start(self, ticket: str = "T") -> Any:
        return await self.ask("IScriptServiceV2", "StartScript", StartScriptCommandV2(ScriptTicket(ticket), "true"))

    async def upload(self, path: Path) -> Any:
        (self.spool / "x").write_text("data")
        stream = DataStream(uuid4(), 4)
        files = {stream.id: self.spool / "x"}
        return await self.ask("IFileTransferService", "UploadFile", str(path), stream, files=files)

    async def fetch(self, path: Path) -> Any:
        return await self.ask("IFileTransferService", "DownloadFile", str(path))


@pytest.fixture
async def vetoed(tmp_path: Path) -> AsyncIterator[VetoedBench]:
    (tmp_path / "home").mkdir()
    bench = VetoedBench(tmp_path / "home")
    await bench.engine.start()
    yield bench
    await bench.close()


def refused(answer: Any) -> bool:
    return isinstance(answer, str) and answer.startswith("Refused by the policy of this host: ")


async def test_what_is_not_allowed_is_refused_by_name(vetoed: VetoedBench) -> None:
    vetoed.rule("services: [IFileTransferService, ICapabilitiesServiceV2]")
    assert await vetoed.start() == ("Refused by the policy of this host: IScriptServiceV2.StartScript is not allowed.")
    assert not (vetoed.home / "Work" / "T").exists()
    assert not refused(await vetoed.ask("ICapabilitiesServiceV2", "getcapabilities"))
    assert not refused(await vetoed.upload(vetoed.home / "f"))
    vetoed.policy = HostPolicy()
    assert not refused(await vetoed.start())


async def test_uploads_stay_below_their_roots_whatever_links_there_are(vetoed: VetoedBench, tmp_path: Path) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    root.mkdir()
    out.mkdir()
    (root / "link").symlink_to(out)
    (tmp_path / "to-root").symlink_to(root)
    vetoed.rule(f"upload-roots: [{tmp_path / 'to-root'}]")
    for allowed in (root / "a", root / "new" / "deep" / "a", tmp_path / "to-root" / "b", out / ".." / "root" / "c"):
        assert not refused(await vetoed.upload(allowed)), allowed
        assert allowed.read_text() == "data"
    for forbidden in (
        out / "a",
        root / "link" / "a",
        root / "link" / "new" / "a",
        root / ".." / "a",
        tmp_path / "root2/a",
    ):
        assert refused(await vetoed.upload(forbidden)), forbidden
    assert list(out.iterdir()) == []
    assert not (tmp_path / "root2").exists()
    vetoed.rule("upload-roots: []")
    assert refused(await vetoed.upload(root / "a"))


async def test_downloads_stay_below_their_roots_and_tell_nothing_of_others(vetoed: VetoedBench, tmp_path: Path) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    for place in (root, out):
        place.mkdir()
        (place / "f").write_text("data")
    (root / "link").symlink_to(out / "f")
    (root / "away").symlink_to(out)
    vetoed.rule(f"download-roots: [{root}]")
    assert isinstance(await vetoed.fetch(root / "f"), DataStream)
    assert await vetoed.fetch(root / "nothing") is None
    nowhere = tmp_path / "missing" / "f"
    for forbidden in (
        out / "f",
        root / "link",
        root / "away" / "f",
        out / "nothing",
        Path("/etc/passwd"),
        out,
        nowhere,
    ):
        assert refused(await vetoed.fetch(forbidden)), forbidden


def test_what_a_path_leads_to_is_looked_at_again_when_it_is_open(tmp_path: Path) -> None:
    """A link may have been exchanged after its path was looked at."""
    (tmp_path / "root").mkdir()
    (tmp_path / "f").write_text("data")
    (tmp_path / "root" / "f").symlink_to(tmp_path / "f")
    roots = TransferRoots(lambda: HostPolicy(download_roots=(tmp_path / "root",)))
    with end_of(tmp_path / "root" / "f", Trust()) as place, pytest.raises(RefusedByPolicy):
        roots.require_download(place)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("10.1.2.3:5000", True),
        ("[::ffff:10.1.2.3]:5000", True),
        ("[::1]:5000", True),
        ("[fe80::1%eth0]:5000", False),
        ("10.2.0.1:5000", False),
        ("octopus.example.com:10943", True),
        ("OCTOPUS.example.com:10943", True),
        ("evil.example.com:10943", False),
        ("", False),
    ],
)
async def test_who_may_call(vetoed: VetoedBench, address: str, allowed: bool) -> None:
    vetoed.rule("peers: [10.1.0.0/16, '::1', octopus.example.com]")
    vetoed.context = replace(PEER, address=address)
    answer = await vetoed.ask("ICapabilitiesServiceV2", "GetCapabilities")
    assert refused(answer) != allowed


async def test_a_rate_is_of_each_peer_and_fills_again(vetoed: VetoedBench) -> None:
    vetoed.rule("rate-limits: {scripts-per-minute: 2}")
    assert not refused(await vetoed.start("A"))
    assert not refused(await vetoed.start("B"))
    assert await vetoed.start("C") == (
        "Refused by the policy of this host: a peer may make 2 scripts per minute, and no more."
    )
    # Asked again because an answer was lost, it is no new start; and what was begun is told of to its end.
    assert not refused(await vetoed.start("a"))
    status = ScriptStatusRequestV2(ScriptTicket("A"), 0)
    assert not refused(await vetoed.ask("IScriptServiceV2", "GetStatus", status))
    vetoed.context = replace(PEER, thumbprint="CD" * 20)
    assert not refused(await vetoed.start("D"))
    vetoed.context = PEER
    vetoed.time = 29.0
    assert refused(await vetoed.start("E"))
    vetoed.time = 31.0
    assert not refused(await vetoed.start("E"))
    assert refused(await vetoed.start("F"))


async def test_a_rate_of_all_calls(vetoed: VetoedBench) -> None:
    vetoed.rule("rate-limits: {calls-per-minute: 3, transfers-per-minute: 2}")
    path = vetoed.home / "f"
    answers = [await vetoed.upload(path), await vetoed.fetch(path), await vetoed.upload(path)]
    assert [refused(one) for one in answers] == [False, False, True]
    answers = [await vetoed.ask("ICapabilitiesServiceV2", "GetCapabilities") for _ in range(2)]
    assert [refused(one) for one in answers] == [False, True]


async def test_a_broken_policy_allows_nothing_new_and_tells_of_what_was_begun(vetoed: VetoedBench) -> None:
    assert not refused(await vetoed.start())
    vetoed.policy = HostPolicy.broken(SOURCE, "it is nonsense")
    for answer in (
        await vetoed.start("U"),
        await vetoed.upload(vetoed.home / "f"),
        await vetoed.fetch(vetoed.home / "f"),
        await vetoed.ask("ICapabilitiesServiceV2", "GetCapabilities"),
    ):
        assert answer == (
            "Refused by the policy of this host: its policy file cannot be used, so nothing new is allowed."
        )
    status = ScriptStatusRequestV2(ScriptTicket("T"), 0)
    assert not refused(await vetoed.ask("IScriptServiceV2", "GetStatus", status))
    complete = CompleteScriptCommandV2(ScriptTicket("T"))
    assert not refused(await vetoed.ask("IScriptServiceV2", "CompleteScript", complete))
