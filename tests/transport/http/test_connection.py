"""HTTP on the port of Halibut: for trusted peers, one request after another, whatever they send."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tentacle.transport.http.service import HttpService
from tentacle.transport.listener import Listener, ListenerOptions
from tentacle.transport.memory import EVERYBODY
from tentacle.transport.page import PAGE
from tentacle.transport.timeouts import Timeouts
from tentacle.transport.tls import TlsStream
from tentacle.wire.call_context import Wire
from tentacle.wire.http import BodyBroken, BodyTooLong, HttpReply, HttpRequest, problem
from tentacle.wire.limits import MIB
from tests.patience import PATIENCE
from tests.pki import identity, write_pem
from tests.scripts.lab import until
from tests.transport.harness import FAST, run, spool_in, tcp_to


@dataclass
class Web:
    """A port with HTTP behind it, and what was asked there."""

    port: int = 0
    asked: list[HttpRequest] = field(default_factory=list)
    bodies: list[int | str] = field(default_factory=list)
    trusted: set[str] = field(default_factory=lambda: {identity("server").thumbprint})
    listener: Listener | None = None
    closed: int = 0

    async def answer(self, request: HttpRequest) -> HttpReply:
        self.asked.append(request)
        route: Callable[[HttpRequest], Awaitable[HttpReply]] | None = getattr(self, request.path[1:] or "nothing", None)
        return problem(404, "no such path") if route is None else await route(request)

    async def count(self, request: HttpRequest) -> HttpReply:
        size = 0
        try:
            async for piece in request.body:
                size += len(piece)
        except BodyBroken:
            self.bodies.append("broken")
            raise
        self.bodies.append(size)
        return HttpReply(200, {}, str(size).encode())

    async def whole(self, request: HttpRequest) -> HttpReply:
        try:
            return HttpReply(200, {}, await request.whole(20 * MIB))
        except BodyTooLong:
            return problem(413, "too long")

    async def ignore(self, _request: HttpRequest) -> HttpReply:
        return HttpReply(200, {}, b"ignored")

    async def fail(self, _request: HttpRequest) -> HttpReply:
        raise ZeroDivisionError

    async def big(self, _request: HttpRequest) -> HttpReply:
        return HttpReply(200, {}, bytes(8 * MIB))

    async def stream(self, _request: HttpRequest) -> HttpReply:
        return HttpReply(200, {}, self.endless())

    async def endless(self) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield bytes(32 * 1024)
                await asyncio.sleep(0)
        finally:
            self.closed += 1

    async def say(self, *pieces: bytes, name: str = "server") -> bytes:
        """What the port answers to these pieces until it closes."""
        stream = await tls_to(self.port, name)
        try:
            for piece in pieces:
                await stream.send(piece)
                await asyncio.sleep(0.005)
            data = b""
            async with asyncio.timeout(PATIENCE):
                while more := await stream.receive():
                    data += more
            return data
        finally:
            stream.abort()


async def tls_to(port: int, name: str) -> TlsStream:
    return await TlsStream.connect(await tcp_to(port), identity(name).context(), "127.0.0.1", None)


@asynccontextmanager
async def a_web(directory: Path, timeouts: Timeouts = FAST) -> AsyncIterator[Web]:
    web = Web()
    listener = Listener(
        identity("agent"),
        lambda thumbprint: thumbprint in web.trusted,
        lambda *_: (_ for _ in ()).throw(AssertionError("nobody speaks Halibut here")),
        spool_in(directory / "spool"),
        ListenerOptions(host="127.0.0.1", timeouts=timeouts),
        HttpService(web.answer),
    )
    await listener.start()
    web.port, web.listener = listener.port, listener
    try:
        yield web
    finally:
        await listener.aclose()


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[Web]:
    async with a_web(tmp_path) as web:
        yield web


def get(path: str, *fields: str, method: str = "GET", close: bool = True, body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: agent", *fields, *(["Connection: close"] if close else [])]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode() + body


def statuses(answer: bytes) -> list[int]:
    return [int(one) for one in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]


# --- strangers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["stranger", "server"])
@pytest.mark.parametrize("target", ["/", "/?x"])
async def test_the_page_stands_at_the_root(web: Web, name: str, target: str) -> None:
    answer = await web.say(get(target), name=name)
    if name == "stranger":
        assert answer == PAGE
    else:
        assert answer.partition(b"\r\n\r\n")[2] == PAGE.partition(b"\r\n\r\n")[2]
    assert web.asked == []


@pytest.mark.parametrize(
    "target", ["/rpc", "/openapi.json", "/nothing", "//", "/.", "/%2f", "*", "https://agent/", "http://agent/rpc"]
)
async def test_a_stranger_is_told_nothing_elsewhere(web: Web, target: str) -> None:
    for method in ("GET", "POST", "PUT", "OPTIONS"):
        answer = await web.say(get(target, method=method), name="stranger")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert (statuses(answer), body) == ([403], b"")
        assert b"Connection: close" in head
    assert web.asked == []


async def test_curl_without_a_certificate_is_a_stranger(web: Web) -> None:
    address = f"https://127.0.0.1:{web.port}"
    code, said = await run("curl", "-sSk", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", f"{address}/rpc")
    assert (code, said) == (0, "403 0")
    code, said = await run("curl", "-sSki", f"{address}/")
    assert (code, said) == (0, PAGE.decode())


async def test_who_is_not_trusted_any_more_is_dropped(web: Web) -> None:
    stream = await tls_to(web.port, "server")
    await stream.send(get("/nothing", close=False))
    assert statuses(await stream.receive()) == [404]
    web.trusted.clear()
    assert web.listener is not None
    web.listener.drop_untrusted()
    async with asyncio.timeout(PATIENCE):
        assert await stream.receive() == b""
    stream.abort()


# --- requests ------------------------------------------------------------------------------------------------------


async def test_a_request_says_who_makes_it(web: Web) -> None:
    await web.say(get("/nothing", "X-A: 1", "x-a: 2", "X-B: b"))
    (asked,) = web.asked
    assert (asked.context.thumbprint, asked.context.wire) == (identity("server").thumbprint, Wire.HTTPS)
    assert re.fullmatch(r"127\.0\.0\.1:\d+", asked.context.address)
    assert (asked.headers["x-a"], asked.headers["x-b"], asked.length) == ("1, 2", "b", 0)


async def test_many_requests_on_one_connection_are_answered_in_order(web: Web) -> None:
    requests = [get("/count", f"Content-Length: {n}", method="POST", close=n == 299, body=b"x" * n) for n in range(300)]
    answer = await web.say(b"".join(requests))
    assert statuses(answer) == [200] * 300
    assert web.bodies == list(range(300))


async def test_bodies_with_and_without_a_length(web: Web) -> None:
    chunked = get("/count", "Transfer-Encoding: chunked", method="POST", body=b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n")
    assert (await web.say(chunked)).endswith(b"5")
    assert (await web.say(*[chunked[i : i + 7] for i in range(0, len(chunked), 7)])).endswith(b"5")
    assert [asked.length for asked in web.asked] == [None, None]
    assert (await web.say(b"POST /count HTTP/1.0\r\nContent-Length: 2\r\n\r\nab")).endswith(b"2")


async def test_who_expects_100_gets_it_before_the_body_is_read_and_only_then(web: Web) -> None:
    asked = get("/count", "Content-Length: 2", "Expect: 100-continue", method="POST")
    assert statuses(await web.say(asked, b"ab")) == [100, 200]
    refused = get("/ignore", "Content-Length: 2", "Expect: 100-continue", method="POST")
    assert statuses(await web.say(refused, b"ab")) == [200]


async def test_curl_sends_a_large_file(web: Web, tmp_path: Path) -> None:
    certificate, key = write_pem("server", tmp_path)
    (tmp_path / "file").write_bytes(bytes(20 * MIB))
    trusted = ("--cert", str(certificate), "--key", str(key))
    for path, wanted in (("count", str(20 * MIB)), ("ignore", "ignored")):
        code, said = await run(
            "curl", "-sSk", *trusted, "-T", str(tmp_path / "file"), f"https://127.0.0.1:{web.port}/{path}"
        )
        assert (code, said) == (0, wanted)


async def test_a_long_body_is_refused_before_it_is_read(web: Web) -> None:
    answer = await web.say(get("/whole", f"Content-Length: {21 * MIB}", method="POST"))
    assert statuses(answer) == [413]


async def test_memory_for_bodies_and_answers_is_given_back(web: Web) -> None:
    body = bytes(6 * MIB)
    answer = await web.say(get("/whole", f"Content-Length: {len(body)}", method="POST", body=body))
    assert answer.endswith(body)
    assert len(await web.say(get("/big"))) > 8 * MIB
    assert EVERYBODY.held == 0


async def test_a_long_body_is_paid_for_while_it_arrives(web: Web) -> None:
    stream = await tls_to(web.port, "server")
    await stream.send(get("/whole", f"Content-Length: {6 * MIB}", method="POST", body=bytes(4 * MIB)))
    async with asyncio.timeout(PATIENCE):
        while EVERYBODY.held < 4 * MIB:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        stream.abort()
        while EVERYBODY.held:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_failure_of_ours_is_one_answer_and_told_in_the_log(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    answer = await web.say(get("/fail"))
    assert statuses(answer) == [500]
    assert b"Zero" not in answer
    assert "ZeroDivisionError" in caplog.text


# --- what is no request --------------------------------------------------------------------------------------------

SMUGGLED = get("/ignore")


@pytest.mark.parametrize(
    "request_",
    [
        get("/count", "Content-Length: 3", "Transfer-Encoding: chunked", method="POST", body=b"0\r\n\r\n" + SMUGGLED),
        get("/count", "Content-Length: 3", "Content-Length: 5", method="POST", body=b"abc" + SMUGGLED),
        get("/count", "Content-Length: 3, 5", method="POST", body=b"abc" + SMUGGLED),
        get("/count", "Content-Length: +3", method="POST", body=b"abc" + SMUGGLED),
        get("/count", "Content-Length: -3", method="POST", body=b"abc" + SMUGGLED),
        get("/count", "Content-Length: 0x3", method="POST", body=b"abc" + SMUGGLED),
        get("/count", "Content-Length: 3 3", method="POST", body=b"abc" + SMUGGLED),
        get("/count", f"Content-Length: {10**30}", method="POST", body=b"abc" + SMUGGLED),
        get("/count", "Content-Length : 3", method="POST", body=b"abc" + SMUGGLED),
        get("/count", "Transfer-Encoding: xchunked", method="POST", body=b"0\r\n\r\n" + SMUGGLED),
        get("/count", "Transfer-Encoding: chunked, identity", method="POST", body=b"0\r\n\r\n" + SMUGGLED),
        get("/count", "Transfer-Encoding: chunked", "Transfer-Encoding: x", method="POST", body=b"0\r\n\r\n"),
        get("/count", "Transfer-Encoding:\x0bchunked", method="POST", body=b"0\r\n\r\n" + SMUGGLED),
        get("/ignore", "X-A: 1\r\n folded", body=SMUGGLED),
        get("/ignore", "X-A: 1\r\n\tContent-Length: 3", body=SMUGGLED),
        get("/ignore", "X A: 1", body=SMUGGLED),
        get("/ignore", ": 1", body=SMUGGLED),
        get("/ignore", "X-A", body=SMUGGLED),
        get("/ignore", "X-A: \x00", body=SMUGGLED),
        get("/ignore", "X-A: a\rb", body=SMUGGLED),
        b"GET /ignore HTTP/1.1\nHost: agent\n\n" + SMUGGLED,
        b"GET /ignore HTTP/1.1\r\nHost: agent\nX: 1\r\n\r\n" + SMUGGLED,
        b"GET /ignore\r\n\r\n" + SMUGGLED,
        b"GET  /ignore HTTP/1.1\r\n\r\n" + SMUGGLED,
        b"GET /ig nore HTTP/1.1\r\n\r\n" + SMUGGLED,
        b"GET /ignore HTTP/1.1 \r\n\r\n" + SMUGGLED,
        b"GET /ignore HTTP/2.0\r\n\r\n" + SMUGGLED,
        b"GET /ignore HTTP/9.9\r\n\r\n" + SMUGGLED,
        b"GET /ignore FTP/1.1\r\n\r\n" + SMUGGLED,
        b"G\x00T /ignore HTTP/1.1\r\n\r\n" + SMUGGLED,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED,
        b"\x00" * 100 + SMUGGLED,
        get("/" + "x" * 9000, body=SMUGGLED),
        get("/ignore", "X-A: " + "x" * 9000, body=SMUGGLED),
        get("/ignore", *[f"X-{n}: 1" for n in range(200)], body=SMUGGLED),
    ],
)  # fmt: skip
async def test_what_is_not_well_formed_is_one_refusal_and_the_end(web: Web, request_: bytes) -> None:
    answer = await web.say(request_)
    assert statuses(answer) == [400]
    assert b"Tentacle-Api: 1" in answer
    assert b"application/problem+json" in answer
    assert [asked.path for asked in web.asked if asked.path == "/ignore"] == []


@pytest.mark.parametrize(
    "body",
    [b"x\r\nabc\r\n0\r\n\r\n", b"-1\r\n", b"3\nabc\n0\n\n", b"3\r\nabcd\r\n0\r\n\r\n", b"f" * 20 + b"\r\nabc",
     b"3\r\nabc0\r\n\r\n", b"3;" + b"x" * 20_000 + b"\r\nabc\r\n0\r\n\r\n"],
)  # fmt: skip
async def test_a_body_that_is_not_well_formed_is_the_end_of_its_connection(web: Web, body: bytes) -> None:
    answer = await web.say(get("/count", "Transfer-Encoding: chunked", method="POST", body=body + SMUGGLED))
    assert statuses(answer) in ([], [400])
    assert [asked.path for asked in web.asked if asked.path == "/ignore"] == []


@pytest.mark.parametrize("method", ["GET", "OPTIONS", "CONNECT"])
@pytest.mark.parametrize("target", ["https://agent/ignore", "http://other/", "*", "agent:80", "?x", "ignore"])
async def test_a_target_that_is_no_path_reaches_nobody_else(web: Web, target: str, method: str) -> None:
    assert statuses(await web.say(get(target, method=method) + get("/ignore"))) in ([400], [404])


async def test_an_upgrade_is_not_taken_up(web: Web) -> None:
    for protocol in ("h2c", "websocket", "x"):
        upgrade = get("/ignore", "Connection: Upgrade", f"Upgrade: {protocol}", close=False)
        answer = await web.say(upgrade + get("/count"))
        assert (statuses(answer), b"Connection: close" in answer) == ([200], True)
    assert {asked.path for asked in web.asked} == {"/ignore"}


# --- slow, many, long ----------------------------------------------------------------------------------------------


async def test_a_head_must_come_in_time_however_busily_it_drips(tmp_path: Path) -> None:
    async with a_web(tmp_path, replace(FAST, http_head=0.3)) as web:
        stream = await tls_to(web.port, "server")
        await stream.send(b"GET /ignore HTTP/1.1\r\n")
        dripping = asyncio.create_task(drip(stream, b"X: 1\r\n"))
        async with asyncio.timeout(PATIENCE):
            assert await stream.receive() == b""
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)
        stream.abort()
        assert web.asked == []


async def drip(stream: TlsStream, piece: bytes) -> None:
    while True:
        await stream.send(piece)
        await asyncio.sleep(0.02)


async def test_a_body_must_go_on(tmp_path: Path) -> None:
    async with a_web(tmp_path, replace(FAST, receive=0.2)) as web:
        assert await web.say(get("/count", "Content-Length: 5", method="POST", body=b"ab")) == b""
        assert web.bodies == ["broken"]


async def test_a_body_whose_sender_goes_is_broken(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    stream = await tls_to(web.port, "server")
    await stream.send(get("/count", "Content-Length: 5", method="POST", body=b"ab"))
    await asyncio.sleep(0.01)
    stream.abort()
    async with asyncio.timeout(PATIENCE):
        while web.bodies != ["broken"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert web.listener is not None
    await web.listener.aclose()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_an_idle_connection_ends(tmp_path: Path) -> None:
    async with a_web(tmp_path, replace(FAST, listening_idle=0.2)) as web:
        assert statuses(await web.say(get("/ignore", close=False))) == [200]


@pytest.mark.parametrize("path", ["/stream", "/big"])
async def test_who_takes_nothing_of_an_answer_is_dropped_and_holds_nothing(tmp_path: Path, path: str) -> None:
    async with a_web(tmp_path, replace(FAST, send=0.3)) as web:
        stream = await tls_to(web.port, "server")
        await stream.send(get(path))
        async with asyncio.timeout(PATIENCE):
            while not (web.asked and (web.closed or path == "/big") and not web.listener._trusted):  # type: ignore[union-attr]  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert EVERYBODY.held == 0
        stream.abort()


async def test_requests_that_nobody_reads_the_answers_of_are_not_all_taken_in(tmp_path: Path) -> None:
    """What waits is bounded: the connection is not read on."""
    async with a_web(tmp_path, replace(FAST, send=1.0)) as web:
        stream = await tls_to(web.port, "server")
        sending = asyncio.create_task(drip_fast(stream, get("/big", close=False) * 1000))
        async with asyncio.timeout(PATIENCE):
            while not web.asked:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        assert len(web.asked) < 10
        stream.abort()


async def drip_fast(stream: TlsStream, piece: bytes) -> None:
    while True:
        await stream.send(piece)


async def test_a_call_under_way_ends_the_connection_of_a_listener_that_ends(tmp_path: Path) -> None:
    async with a_web(tmp_path) as web:
        stream = await tls_to(web.port, "server")
        await stream.send(get("/stream"))
        assert await stream.receive()
    async with asyncio.timeout(PATIENCE):
        while await stream.receive():
            pass
    assert web.closed == 1
    stream.abort()


async def test_nothing_of_a_connection_that_has_ended_waits_for_the_garbage_collector(web: Web) -> None:
    """OpenSSL's part of it is large, and unseen by the collector, which comes late in a process that lives long."""
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            assert statuses(await web.say(get("/ignore"))) == [200]
        await until(lambda: not [one for one in gc.get_objects() if isinstance(one, TlsStream)])
    finally:
        gc.enable()
