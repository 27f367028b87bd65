"""From settings to what is to be done, and the lines that say so (docs/spec/command-line.md, "Agent start lines")."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.agent.plan import PollPlan, make_plan, polling_connections
from tentacle.errors import TentacleError
from tentacle.settings.model import CommunicationStyle, ProxySettings, Settings, TrustedServer
from tentacle.transport.address import Address, Proxy

T1, T2 = "A" * 40, "B" * 40
POLLED = (
    f"Agent will poll Octopus Server at https://octopus:10943/ for subscription poll://abc/ expecting thumbprint {T2}"
)
COUNT = "TentaclePollingConnectionCount"
PASSIVE = TrustedServer(T1, CommunicationStyle.TENTACLE_PASSIVE)
DIRECT = ProxySettings(use_default=False)


def polling(address: str | None = "https://octopus:10943", thumbprint: str = T2, **more: Any) -> TrustedServer:
    return TrustedServer(
        thumbprint, CommunicationStyle.TENTACLE_ACTIVE, address, **{"subscription_id": "poll://abc/", **more}
    )


def lines(settings: Settings, environment: dict[str, str] | None = None) -> list[str]:
    return list(make_plan(settings, environment or {}).lines)


def test_a_new_instance_trusts_nobody_and_listens() -> None:
    plan = make_plan(Settings(), {})
    assert (plan.trusted, plan.polls, plan.listen) == (frozenset(), (), (None, 10933))
    assert plan.lines == ("The agent is not configured to trust any Octopus Servers.",)


def test_every_server_is_trusted_whatever_its_style() -> None:
    none = TrustedServer("C" * 40, CommunicationStyle.NONE)
    plan = make_plan(Settings(servers=(PASSIVE, polling(), none), port=0, listen_ip="127.0.0.1"), {})
    assert plan.trusted == {T1, T2.upper(), "C" * 40}
    assert plan.listen == ("127.0.0.1", 0)
    assert plan.lines == (
        f"Agent will trust Octopus Servers with the thumbprint: {T1}",
        f"Agent will trust Octopus Servers with the thumbprint: {T2}",
        f"Agent will trust Octopus Servers with the thumbprint: {'C' * 40}",
        POLLED,
        "Starting 1 polling connections",
    )


def test_a_server_with_several_entries_is_told_once() -> None:
    """It calls, and it is polled at two addresses; one entry was written by hand in lower case."""
    nodes = (polling(thumbprint=T1.lower()), polling("https://node-2:10943", T1))
    plan = make_plan(Settings(servers=(PASSIVE, *nodes)), {})
    assert plan.trusted == {T1}
    assert [line for line in plan.lines if "will trust" in line] == [
        f"Agent will trust Octopus Servers with the thumbprint: {T1}"
    ]
    assert len(plan.polls) == 2


def test_a_thumbprint_that_no_server_can_have_is_named() -> None:
    said = lines(Settings(servers=(TrustedServer("AA", CommunicationStyle.TENTACLE_PASSIVE),)))
    assert said[0] == "Agent will trust Octopus Servers with the thumbprint: AA"
    assert said[1].startswith("'AA' is not the thumbprint of a certificate")


def test_polling_and_not_listening() -> None:
    plan = make_plan(Settings(servers=(polling(),), no_listen=True, polling_connection_count=3), {})
    assert plan.listen is None
    assert plan.polls == (PollPlan(Address("octopus", 10943, T2.upper()), "poll://abc/", "https://octopus:10943/", 3),)
    assert plan.lines[1:] == (
        POLLED,
        "Requested polling connection count (from Tentacle configuration): 3",
        "Starting 3 polling connections",
        "Agent will not listen on any TCP ports",
    )


def test_trust_without_an_address_beside_the_same_server_polled() -> None:
    """What `configure --trust` and then `server-comms` leave (docs/spec/command-line.md, "Trusted servers")."""
    settings = Settings(servers=(TrustedServer(T2, CommunicationStyle.TENTACLE_PASSIVE), polling()), no_listen=True)
    plan = make_plan(settings, {})
    assert (plan.trusted, len(plan.polls)) == (frozenset((T2.upper(),)), 1)
    assert [line for line in plan.lines if "will trust" in line] == [
        f"Agent will trust Octopus Servers with the thumbprint: {T2}"
    ]


@pytest.mark.parametrize("missing", [{"subscription_id": None}, {"subscription_id": ""}])
def test_a_server_that_is_not_set_up_completely_is_left_out(missing: dict[str, Any]) -> None:
    plan = make_plan(Settings(servers=(polling(**missing), polling(None, T1), polling("", T1), polling())), {})
    assert [poll.address.thumbprint for poll in plan.polls] == [T2.upper()]
    assert [line for line in plan.lines if line.startswith("Configured")] == [
        f"Configured to connect to server {thumbprint}, but its configuration is incomplete; skipping."
        for thumbprint in (T2, T1, T1)
    ]


@pytest.mark.parametrize(
    ("address", "host", "port", "shown"),
    [
        ("https://octopus:10943", "octopus", 10943, "https://octopus:10943/"),
        ("https://OCTOPUS.example.com:10943/", "octopus.example.com", 10943, "https://octopus.example.com:10943/"),
        ("https://octopus", "octopus", 443, "https://octopus/"),
        ("HTTPS://octopus:443/path", "octopus", 443, "https://octopus/path"),
        (" https://[fe80::1]:10943 ", "fe80::1", 10943, "https://[fe80::1]:10943/"),
        ("https://user:hidden@octopus:10943/?hidden#hidden", "octopus", 10943, "https://octopus:10943/"),
    ],
)
def test_addresses(address: str, host: str, port: int, shown: str) -> None:
    (poll,) = make_plan(Settings(servers=(polling(address),)), {}).polls
    assert (poll.address.host, poll.address.port, poll.shown) == (host, port, shown)
    assert "hidden" not in repr(make_plan(Settings(servers=(polling(address),)), {}))


@pytest.mark.parametrize(
    "address", ["octopus", "octopus:10943", "https://", "https://:10943", "https://[x", "https://octopus:99999", "/x"]
)
def test_an_address_that_cannot_be_polled(address: str) -> None:
    with pytest.raises(TentacleError, match=r"^The server address .* is not one that can be polled\.$") as refused:
        make_plan(Settings(servers=(polling(address),)), {})
    assert (refused.value.exit_code, "server-comms" in (refused.value.hint or "")) == (1, True)


@pytest.mark.parametrize(
    ("address", "port", "target", "shown"),
    [
        ("wss://octopus:8443/OctopusComms", 8443, "/OctopusComms", "wss://octopus:8443/OctopusComms"),
        ("WSS://user:hidden@Octopus", 443, "/", "wss://octopus/"),
        ("wss://octopus/a b/\u00e4%20?c=d e#hidden", 443, "/a%20b/%C3%A4%20?c=d%20e", "wss://octopus/a b/\u00e4%20"),
    ],
)
def test_web_sockets(address: str, port: int, target: str, shown: str) -> None:
    plan = make_plan(Settings(servers=(polling(address),)), {})
    (poll,) = plan.polls
    assert (poll.address.host, poll.address.port, poll.address.web_socket, poll.shown) == (
        "octopus", port, target, shown
    )  # fmt: skip
    assert poll.address.url == f"wss://octopus:{port}{target}"
    assert f"Agent will poll Octopus Server at {shown} for subscription" in plan.lines[1]
    assert "hidden" not in repr(plan)


@pytest.mark.parametrize("port", [-1, 65536, 2**40])
def test_a_port_that_does_not_exist(port: int) -> None:
    with pytest.raises(TentacleError, match=rf"^{port} is not a port to listen on\.$"):
        make_plan(Settings(port=port), {})


@pytest.mark.parametrize(
    ("configured", "variable", "count", "said"),
    [
        (None, None, 1, []),
        (5, None, 5, ["Requested polling connection count (from Tentacle configuration): 5"]),
        (5, "3", 3, [f"Requested polling connection count (from {COUNT} environment variable): 3"]),
        (None, " 0000000000007 ", 7, [f"Requested polling connection count (from {COUNT} environment variable): 7"]),
        (2, "-1", 2, ["Requested polling connection count (from Tentacle configuration): 2"]),
        (2, "4294967296", 2, ["Requested polling connection count (from Tentacle configuration): 2"]),
        (2, "9" * 5000, 2, ["Requested polling connection count (from Tentacle configuration): 2"]),
        (None, "many", 1, []),
        (None, "", 1, []),
        (None, "٣", 1, []),
        (
            512,
            "513",
            512,
            [
                f"Requested polling connection count (from {COUNT} environment variable): 513",
                "The requested polling connection count exceeds the maximum of 512, limiting to 512",
            ],
        ),
        (
            -5,
            None,
            1,
            [
                "Requested polling connection count (from Tentacle configuration): -5",
                "The requested polling connection count must be greater than 0, setting to 1",
            ],
        ),
        (
            8,
            "0",
            1,
            [
                f"Requested polling connection count (from {COUNT} environment variable): 0",
                "The requested polling connection count must be greater than 0, setting to 1",
            ],
        ),
    ],
)
def test_how_many_connections(configured: int | None, variable: str | None, count: int, said: list[str]) -> None:
    environment = {} if variable is None else {COUNT: variable}
    assert polling_connections(configured, environment) == (count, [*said, f"Starting {count} polling connections"])


@given(st.none() | st.integers(), st.text())
def test_the_number_of_connections_is_always_possible(configured: int | None, variable: str) -> None:
    count, said = polling_connections(configured, {COUNT: variable})
    assert 1 <= count <= 512
    assert said[-1] == f"Starting {count} polling connections"


@pytest.mark.parametrize(
    ("proxy", "dialled", "said"),
    [
        (ProxySettings(), None, []),
        (ProxySettings(use_default=True, host="p"), None, []),
        (DIRECT, None, ["Agent will not use a proxy server"]),
        (replace(DIRECT, host=" "), None, ["Agent will not use a proxy server"]),
        (
            ProxySettings(False, "p", 3128, "me", "hidden"),
            Proxy("p", 3128, "me", "hidden"),
            ["Agent will use the octopus configured proxy at p:3128 for server at https://octopus:10943/"],
        ),
    ],
)
def test_the_proxy_for_polling(proxy: ProxySettings, dialled: Proxy | None, said: list[str]) -> None:
    settings = Settings(servers=(polling(),), polling_proxy=proxy, proxy=ProxySettings(False, "other", 1))
    plan = make_plan(settings, {})
    assert plan.polls[0].address.proxy == dialled
    assert list(plan.lines[2:-1]) == said
    assert "hidden" not in repr(plan)
