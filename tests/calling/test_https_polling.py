"""The embedded server's side of polling by HTTPS, asked by curl and by a client that is not ours."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tentacle.calling.caller import CallResult, Endpoint, WorkerCallFailed
from tentacle.calling.comms import CommsOptions, HalibutComms, start_comms
from tentacle.contracts.codec import encode
from tentacle.contracts.data_stream import DataStream
from tentacle.contracts.script import ScriptTicket
from tentacle.contracts.script_v2 import StartScriptCommandV2
from tentacle.settings.stored_certificate import StoredCertificate
from tentacle.transport.errors import TransportError
from tentacle.transport.http.tokens import make_token
from tentacle.transport.tls import TlsIdentity
from tests.pki import identity, made_by_openssl, pem, write_pem
from tests.transport.harness import FAST, run

NAME = "abcdefghij0123456789"
ENDPOINT = Endpoint(f"poll://{NAME}/", identity("agent").thumbprint)
OTHER = Endpoint("poll://other/", identity("other").thumbprint)
FRONT = "https://front.example/octopus"


@pytest.fixture
async def comms(tmp_path: Path) -> AsyncIterator[HalibutComms]:
    certificate, key = pem("server")
    stored = StoredCertificate(identity("server").thumbprint, certificate, key)
    options = CommsOptions("127.0.0.1", 0, tmp_path / "spool", timeouts=FAST, polling_address=FRONT)
    made = await start_comms(stored, options)
    made.trust((ENDPOINT, OTHER))
    yield made
    await made.close()
    assert list((tmp_path / "spool").iterdir()) == []


class Curl:
    def __init__(self, comms: HalibutComms, directory: Path, name: str | None) -> None:
        self.base = f"https://{comms.address}/agents/{NAME}"
        self.options = ["-sS", "--insecure", "-w", "%{stderr}%{http_code}"]
        if name is not None:
            certificate, key = write_pem(name, directory)
            self.options += ["--cert", str(certificate), "--key", str(key)]

    async def __call__(self, path: str, *options: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *("curl", *self.options, f"{self.base}/{path}", *options),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        return int(err), out.decode()

    async def next(self, **body: Any) -> list[dict[str, Any]]:
        status, text = await self("next", "--json", json.dumps({"max": 1, **body}))
        assert status in (200, 204), text
        return json.loads(text)["requests"] if status == 200 else []

    async def reply(self, identity: str, **body: Any) -> int:
        return (await self(f"replies/{identity}", "--json", json.dumps({"jsonrpc": "2.0", "id": identity, **body})))[0]


@pytest.fixture
def curl(comms: HalibutComms, tmp_path: Path) -> Curl:
    return Curl(comms, tmp_path, "agent")


def capabilities(comms: HalibutComms) -> asyncio.Task[CallResult]:
    return asyncio.create_task(comms.call(ENDPOINT, "ICapabilitiesServiceV2", "GetCapabilities", []))


async def test_a_call_is_handed_out_until_it_is_answered(comms: HalibutComms, curl: Curl) -> None:
    assert await curl.next() == []
    calling = capabilities(comms)
    (request,) = await curl.next()
    assert (request["method"], request["params"]) == ("ICapabilitiesServiceV2.GetCapabilities", [])
    assert request["deadline"].endswith("Z")
    assert await curl.next(holding=[request["id"]]) == []
    assert await curl.next() == [request]
    result = {"SupportedCapabilities": ["IScriptServiceV2"]}
    assert await curl.reply(request["id"], result={"SupportedCapabilities": 5}) == 400
    assert await curl.reply(request["id"], result=result) == 204
    assert (await calling).result["SupportedCapabilities"] == ["IScriptServiceV2"]
    assert await curl.reply(request["id"], result=result) == 204
    assert await curl.reply(str(uuid4()), result=result) == 404
    assert await curl.next() == []


async def test_an_error_is_what_it_is_by_halibut(comms: HalibutComms, curl: Curl) -> None:
    calling = capabilities(comms)
    (request,) = await curl.next()
    data = {"type": "System.IO.IOException", "details": "System...: full"}
    await curl.reply(request["id"], error={"code": -32001, "message": "full", "data": data})
    with pytest.raises(WorkerCallFailed, match="full") as failed:
        await calling
    assert (failed.value.details, failed.value.error_type) == ("System...: full", "System.IO.IOException")
    assert failed.value.connected


async def test_a_script_with_a_file(comms: HalibutComms, curl: Curl, tmp_path: Path) -> None:
    path, stream = tmp_path / "file", uuid4()
    path.write_bytes(b"content" * 100_000)
    calling = asyncio.create_task(
        comms.call(
            ENDPOINT,
            *("IFileTransferService", "UploadFile"),
            ["a/b", encode(DataStream(stream, 700_000))],
            streams={stream: path},
        )
    )
    (request,) = await curl.next()
    assert request["params"] == ["a/b", {"upload": str(stream)}]
    assert await curl(f"streams/{stream}", "-o", str(tmp_path / "got")) == (200, "")
    assert (tmp_path / "got").read_bytes() == path.read_bytes()
    assert (await curl(f"streams/{uuid4()}"))[0] == 404
    await curl.reply(request["id"], result={"FullPath": "/a/b", "Hash": "AB", "Length": 700_000})
    assert (await calling).result["Length"] == 700_000


async def test_a_file_comes_before_the_reply_that_names_it(comms: HalibutComms, curl: Curl, tmp_path: Path) -> None:
    calling = asyncio.create_task(comms.call(ENDPOINT, "IFileTransferService", "DownloadFile", ["x"]))
    (request,) = await curl.next()
    named = {"download": f"/streams/{(stream := uuid4())}", "length": 7}
    assert await curl.reply(request["id"], result=named) == 400
    (tmp_path / "sent").write_bytes(b"content")
    assert (await curl(f"streams/{stream}", "--data-binary", f"@{tmp_path}/sent"))[0] == 204
    assert await curl.reply(request["id"], result=named) == 204
    (path,) = (await calling).streams.values()
    assert path.read_bytes() == b"content"
    path.unlink()


async def test_a_caller_that_gives_up_takes_its_call_back(comms: HalibutComms, curl: Curl) -> None:
    calling = capabilities(comms)
    (request,) = await curl.next()
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)
    assert await curl.next() == []
    assert await curl.reply(request["id"], result=None) == 404


async def test_nobody_but_the_registered_agent_may_poll(comms: HalibutComms, tmp_path: Path) -> None:
    calling = capabilities(comms)
    for name in ("other", "stranger", None):
        stranger = Curl(comms, tmp_path, name)
        assert (await stranger("next", "--json", '{"max": 1}'))[0] == 403
    assert len(await Curl(comms, tmp_path, "agent").next()) == 1
    calling.cancel()


async def test_of_two_with_one_subscription_each_gets_its_own_calls(comms: HalibutComms, tmp_path: Path) -> None:
    comms.trust([ENDPOINT, Endpoint(ENDPOINT.uri, identity("other").thumbprint)])
    calling = capabilities(comms)
    other, agent = Curl(comms, tmp_path, "other"), Curl(comms, tmp_path, "agent")
    asked = ("next", "--json", '{"max": 1}', "--header", "Prefer: wait=0")
    assert (await other(*asked))[0] == 204
    assert len(await agent.next()) == 1
    assert (await other(*asked))[0] == 204, "nor what was handed out before"
    calling.cancel()


async def test_strangers_see_the_page_and_registrations_find_the_port(comms: HalibutComms, tmp_path: Path) -> None:
    code, said = await run("curl", "-sS", "--insecure", "-X", "POST", f"https://{comms.address}/handshake")
    assert (code, "configured successfully" in said) == (0, True)


@pytest.mark.parametrize("body", ["", "[]", '{"max": 0}', '{"max": true}', '{"max": 1, "holding": 1}', "[" * 100_000])
async def test_what_makes_no_sense_is_a_problem(curl: Curl, body: str, tmp_path: Path) -> None:
    (tmp_path / "body").write_text(body)
    status, text = await curl("next", "--data-binary", f"@{tmp_path}/body")
    assert (status, json.loads(text)["status"]) == (400, 400)


# --- tokens ----------------------------------------------------------------------------------------------------


async def asked_with(comms: HalibutComms, token: str | None, path: str = "next") -> tuple[int, str]:
    """What is answered to a request that has come through a proxy."""

    async def body() -> AsyncIterator[bytes]:
        yield b'{"max": 1}'

    headers = {"prefer": "wait=0", **({} if token is None else {"authorization": f"Bearer {token}"})}
    reply = await comms.answer_stranger("POST", f"/agents/{NAME}/{path}", headers, body(), "127.0.0.1")
    assert isinstance(reply.body, bytes)
    return reply.status, reply.body.decode()


def token(**changes: Any) -> str:
    """One that is right but for `changes`, made without our code; `None` leaves a claim out."""
    made = jwt.decode(make_token(identity("agent"), FRONT, ENDPOINT.uri), options={"verify_signature": False})
    header = jwt.get_unverified_header(make_token(identity("agent"), FRONT, ENDPOINT.uri))
    del header["typ"]
    signer, algorithm = changes.pop("signer", "agent"), changes.pop("alg", "RS256")
    header = {**header, **changes.pop("header", {}), "alg": algorithm}
    claims = {name: value for name, value in {**made, **changes}.items() if value is not None}
    key: Any = load_pem_private_key(pem(signer)[1], None) if algorithm == "RS256" else changes.get("secret", "x" * 32)
    return jwt.encode(claims, "" if algorithm == "none" else key, algorithm, header)


async def test_a_token_is_good_once(comms: HalibutComms) -> None:
    good = token()
    assert (await asked_with(comms, good))[0] == 204
    status, text = await asked_with(comms, good)
    assert (status, "used already" in text) == (401, True)
    assert (await asked_with(comms, make_token(identity("agent"), f"https://{comms.address}/", ENDPOINT.uri)))[0] == 204


BAD: dict[str, tuple[Callable[[], str | None], str]] = {
    "of another": (lambda: token(signer="other"), "Signature verification failed"),
    "without a signature": (lambda: token(alg="none"), "cannot be accepted"),
    "signed with a secret": (lambda: token(alg="HS256"), "cannot be accepted"),
    "for another server": (lambda: token(aud="https://elsewhere"), "Audience"),
    "for the server below another path": (lambda: token(aud="https://front.example"), "Audience"),
    "of another subscription": (lambda: token(sub="poll://other/"), "not that of the agent"),
    "of a stranger": (lambda: make_token(identity("stranger"), FRONT, ENDPOINT.uri), "not that of the agent"),
    "of another agent": (lambda: make_token(identity("other"), FRONT, ENDPOINT.uri), "not that of the agent"),
    "old": (lambda: token(iat=time.time() - 200, exp=time.time() - 141), "clock is behind"),
    "of the future": (lambda: token(iat=time.time() + 200, exp=time.time() + 259), "seconds ahead"),
    "valid for long": (lambda: token(iat=time.time(), exp=time.time() + 3600), "60 seconds at most"),
    "of before the server": (lambda: token(iat=time.time() - 3000, exp=time.time() + 20), "60 seconds at most"),
    "of just before the server": (
        lambda: token(iat=time.time() - 50, exp=time.time() + 9),
        "before this server started",
    ),
    "without jti": (lambda: token(jti=None), "jti"),
    "without exp": (lambda: token(exp=None), "exp"),
    "without x5c": (lambda: token(header={"x5c": []}), "x5c"),
    "with another x5t": (lambda: token(header={"x5t#S256": "AAAA"}), "x5t#S256"),
    "that is none": (lambda: "abc", "cannot be accepted"),
    "that is not there": (lambda: None, "needs a token"),
}


@pytest.mark.parametrize("which", BAD)
async def test_every_other_token_is_refused_and_says_why(comms: HalibutComms, which: str) -> None:
    make, why = BAD[which]
    status, text = await asked_with(comms, make())
    assert (status, why in json.loads(text)["detail"]) == (401, True), text


@pytest.mark.parametrize(("curve", "algorithm"), [("prime256v1", "ES256"), ("secp384r1", None), ("secp521r1", None)])
async def test_an_agent_with_an_ecdsa_key(
    comms: HalibutComms, tmp_path: Path, curve: str, algorithm: str | None
) -> None:
    made = TlsIdentity(*made_by_openssl(tmp_path, "-newkey", "ec", "-pkeyopt", f"ec_paramgen_curve:{curve}"))
    comms.trust((Endpoint(ENDPOINT.uri, made.thumbprint),))
    if algorithm is None:
        with pytest.raises(TransportError, match="signs no tokens"):
            make_token(made, FRONT, ENDPOINT.uri)
        return
    good = make_token(made, FRONT, ENDPOINT.uri)
    assert jwt.get_unverified_header(good)["alg"] == algorithm
    assert (await asked_with(comms, good))[0] == 204
    assert (await asked_with(comms, token()))[0] == 401


async def test_a_start_of_a_script_as_json(comms: HalibutComms, curl: Curl) -> None:
    command = StartScriptCommandV2(ScriptTicket("T"), "echo")
    calling = asyncio.create_task(comms.call(ENDPOINT, "IScriptServiceV2", "StartScript", [encode(command)]))
    (request,) = await curl.next()
    assert request["params"][0]["ScriptTicket"] == {"TaskId": "T"}
    assert "$type" not in json.dumps(request)
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)
