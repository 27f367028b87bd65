"""What changes of the configuration a running agent takes up, and what happens to a configuration that is damaged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tentacle.agent.plan import make_plan
from tentacle.agent.reload import Change, ConfigurationWatch, change
from tentacle.errors import TentacleError
from tentacle.settings.key_places import key_path_of
from tentacle.settings.logs import LogSettings
from tentacle.settings.model import CommunicationStyle, ProxySettings, Settings, TrustedServer
from tentacle.settings.scripts import ScriptSettings
from tentacle.settings.store import SettingsFile
from tentacle.settings.stored_certificate import StoredCertificate
from tests.patience import PATIENCE
from tests.pki import identity, pem

A, B = "A" * 40, "B" * 40


def stored(name: str) -> StoredCertificate:
    certificate, key = pem(name)
    return StoredCertificate(identity(name).thumbprint, certificate, key)


def polled(thumbprint: str, port: int = 10943) -> TrustedServer:
    return TrustedServer(thumbprint, CommunicationStyle.TENTACLE_ACTIVE, f"https://octopus:{port}", "poll://abc/")


def trusted(thumbprint: str) -> TrustedServer:
    return TrustedServer(thumbprint, CommunicationStyle.TENTACLE_PASSIVE)


START = Settings(servers=(trusted(A),), certificate=stored("agent"))


def became(new: Settings, old: Settings = START) -> Change:
    return change(old, new, make_plan(old, {}), {})


def test_the_same_settings_change_nothing() -> None:
    same = became(START)
    assert (same.settings, same.lines, same.waiting, same.certificates) == (START, (), (), False)
    assert same.plan == make_plan(START, {})


def test_trust_and_polling_change_at_once() -> None:
    after = became(replace(START, servers=(trusted(B), polled(B))))
    assert after.plan.trusted == {B}
    assert [poll.address.port for poll in after.plan.polls] == [10943]
    assert after.lines == (
        f"Agent no longer trusts Octopus Servers with the thumbprint: {A}",
        f"Agent will trust Octopus Servers with the thumbprint: {B}",
        f"Agent will poll Octopus Server at https://octopus:10943/ for subscription poll://abc/ expecting thumbprint "
        f"{B}",
        "Starting 1 polling connections",
    )
    assert after.waiting == ()


def test_a_server_that_is_polled_elsewhere_and_more_often() -> None:
    before = replace(START, servers=(polled(A),), polling_connection_count=2)
    after = became(replace(before, servers=(polled(A, 443),), polling_connection_count=3), before)
    assert (
        after.lines[0] == "Agent no longer polls Octopus Server at https://octopus:10943/ for subscription poll://abc/"
    )
    assert [poll.connections for poll in after.plan.polls] == [3]


def test_the_polling_proxy_is_taken_up_without_showing_its_password() -> None:
    before = replace(START, servers=(polled(A),))
    proxy = ProxySettings(False, "proxy", 3128, "me", "the-secret-of-the-proxy")
    after = became(replace(before, polling_proxy=proxy), before)
    assert (
        "Agent will use the octopus configured proxy at proxy:3128 for server at https://octopus:10943/" in after.lines
    )
    assert "the-secret-of-the-proxy" not in repr(after.plan) + " ".join(after.lines)


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"port": 1}, "the port"),
        ({"home": Path("/elsewhere")}, "the home"),
        ({"application_directory": Path("/elsewhere")}, "the application directory"),
        ({"listen_ip": "127.0.0.1"}, "the address to listen on"),
        ({"no_listen": True}, "whether to listen"),
        ({"proxy": ProxySettings(False)}, "the proxy"),
        ({"scripts": ScriptSettings(memory_limit=1 << 30)}, "the script settings"),
        ({"logs": LogSettings(format="json")}, "the settings of the log"),
        ({"certificate": stored("new")}, "the certificate"),
    ],
)
def test_the_rest_waits_for_a_restart(values: dict[str, object], what: str) -> None:
    after = became(replace(START, servers=(trusted(B),), **values))  # type: ignore[arg-type]
    assert after.waiting == (what,)
    assert after.settings == replace(START, servers=(trusted(B),)), "the rest holds nevertheless"
    assert after.certificates is False


def test_a_certificate_that_replaces_another_with_overlap_is_shown_at_once() -> None:
    begun = replace(START, next_certificate=stored("new"))
    told = replace(START, certificate=stored("new"), previous_certificate=stored("agent"))
    finished = replace(START, certificate=stored("new"))
    for old, new in ((START, begun), (begun, told), (told, finished), (begun, START), (begun, finished)):
        after = became(new, old)
        assert (after.settings, after.certificates, after.waiting) == (new, True, ())


@pytest.mark.parametrize(
    "damaged",
    [Settings(), replace(START, servers=(replace(polled(A), address="wss://octopus:x/"),))],
    ids=["an empty file", "an address that cannot be polled"],
)
def test_settings_that_cannot_be_used_are_refused(damaged: Settings) -> None:
    with pytest.raises(TentacleError):
        became(damaged)


# Watching.


@asynccontextmanager
async def watching(
    path: Path, load: Callable[[], Settings], take_up: Callable[[Settings], None]
) -> AsyncIterator[None]:
    watch = ConfigurationWatch(path, load, take_up, every=0.01, settle=0.01)
    task = asyncio.create_task(watch.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class Taken:
    """The settings that were taken up, and a way to wait for them."""

    def __init__(self) -> None:
        self.all: list[Settings] = []

    def __call__(self, settings: Settings) -> None:
        if settings.port == 666:
            raise TentacleError("not with this port")
        self.all.append(settings)

    async def port(self, port: int) -> None:
        await until(lambda: bool(self.all) and self.all[-1].port == port)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_every_change_is_read_once_and_what_was_missed_at_the_start_too(tmp_path: Path) -> None:
    file = SettingsFile(tmp_path / "t.config")
    file.create()
    taken = Taken()
    async with watching(file.path, file.load, taken):
        await taken.port(10933)
        file.update(lambda s: replace(s, port=1))
        await taken.port(1)
        # By somebody who writes in place, as some editors do.
        file.path.write_text(file.path.read_text().replace("port: 1\n", "port: 2\n"))
        await taken.port(2)
        read = len(taken.all)
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert len(taken.all) == read


async def test_the_key_of_a_linked_configuration_that_is_restored_is_seen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The key is beside the target of the link."""
    (tmp_path / "real").mkdir()
    file = SettingsFile(tmp_path / "real" / "t.config")
    file.save(Settings(proxy=ProxySettings(password="hunter2")))
    link = tmp_path / "t.config"
    link.symlink_to(file.path)
    key = key_path_of(file.path)
    key.rename(tmp_path / "saved")
    taken = Taken()
    async with watching(link, SettingsFile(link).load, taken):
        await until(lambda: f"The key file '{key}' is missing" in caplog.text)
        (tmp_path / "saved").rename(key)
        await until(lambda: bool(taken.all) and taken.all[-1].proxy.password == "hunter2")


async def test_a_configuration_that_cannot_be_used_is_told_about_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file = SettingsFile(tmp_path / "t.config")
    file.create()
    good = file.path.read_text()
    taken = Taken()
    async with watching(file.path, file.load, taken):
        await taken.port(10933)
        for damage in ("port: [", "port: [ "):
            file.path.write_text(damage)
            await until(lambda: "goes on with what it has" in caplog.text)
        file.path.unlink()
        await until(lambda: "could not be located" in caplog.text)
        file.path.write_text(good.replace("10933", "666"))
        await until(lambda: "not with this port" in caplog.text)
        file.path.write_text(good.replace("10933", "7"))
        await taken.port(7)
        await until(lambda: "can be used again" in caplog.text)
    assert caplog.text.count("is not valid YAML") == 1
    assert caplog.text.count("goes on with what it has") == 3
    assert [s.port for s in taken.all] == [10933, 7]
