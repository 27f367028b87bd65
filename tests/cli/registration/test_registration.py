"""Registration by programs: the same twice, rehearsed, with secrets from systemd, and with a pinned certificate."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tentacle.octopus.connectivity import ConnectivityCheck
from tentacle.settings.store import SettingsFile

KEY = "API-TESTKEY0123456789"
RESTART = "These changes require a restart of the Tentacle."


@pytest.fixture
def polling(its_comms_port: int) -> tuple[str, ...]:
    """The options of a polling worker whose server's port answers."""
    return "--comms-style=TentacleActive", f"--server-comms-port={its_comms_port}"


def worker(octopus: Any, *options: str) -> tuple[str, ...]:
    common = ("register-worker", "--instance=I", f"--server={octopus.url}", "--name=w", "--workerpool=Linux")
    return (*common, f"--apiKey={KEY}", *options)


def changes(octopus: Any) -> list[str]:
    return [asked for asked in octopus.asked if not asked.startswith("GET ")]


async def test_twice_is_once(tentacle: Any, ready: SettingsFile, octopus: Any, polling: tuple[str, ...]) -> None:
    first = await tentacle.aside(*worker(octopus, "--idempotent", *polling))
    assert (first.code, first.err) == (0, "")
    assert "The worker 'w' (Workers-1) is new on the server" in first.lines
    assert RESTART in first.lines
    settings = ready.load()
    second = await tentacle.aside(*worker(octopus, "--idempotent", *polling))
    assert (second.code, second.err) == (0, "")
    assert second.lines[-2:] == [
        "The worker 'w' (Workers-1) was on the server already; nothing needed to change",
        "Machine registered successfully",
    ]
    assert ready.load() == settings
    assert changes(octopus) == ["POST /api/Spaces-1/workers"]


async def test_what_differs_is_updated_and_named(tentacle: Any, ready: SettingsFile, octopus: Any) -> None:
    await tentacle.aside(*worker(octopus, "--idempotent"))
    again = await tentacle.aside(
        *worker(octopus, "--idempotent", "--policy=Slow", "--publicHostName=other", "--format=json")
    )
    assert again.code == 0
    facts = json.loads(again.out)
    assert (facts["Created"], facts["Changed"]) == (False, ["address", "machine policy"])
    assert octopus.posted[-1]["Endpoint"]["Uri"] == "https://other:20933/"
    assert octopus.posted[-1]["Id"] == "Workers-1"
    assert facts["RestartRequired"] is False
    assert ready.load().certificate is not None


async def test_the_subscription_is_the_servers_when_ours_was_lost(
    tentacle: Any, ready: SettingsFile, octopus: Any, polling: tuple[str, ...]
) -> None:
    """As after a `kill -9` between the server's answer and the write of the configuration."""
    before = ready.load()
    await tentacle.aside(*worker(octopus, "--idempotent", *polling))
    [known] = ready.load().servers
    ready.save(before)
    again = await tentacle.aside(*worker(octopus, "--idempotent", *polling))
    assert "nothing needed to change" in again.out
    assert ready.load().servers == (known,)
    # One that is asked for by name is asked for.
    ready.save(before)
    wished = await tentacle.aside(*worker(octopus, "--idempotent", "--server-subscription-id=poll://x/", *polling))
    assert "updated: address" in wished.out
    assert ready.load().servers[0].subscription_id == "poll://x/"


async def test_a_port_that_shows_another_certificate_is_told_at_once(
    tentacle: Any, ready: SettingsFile, octopus: Any, comms_port: int
) -> None:
    """As behind a proxy that opens TLS connections: the agent would be refused for ever, in a log that nobody reads."""
    ended = await tentacle.aside(*worker(octopus, "--comms-style=2", f"--server-comms-port={comms_port}"))
    assert ended.code == 0
    assert f"WARNING: https://127.0.0.1:{comms_port} shows the certificate" in ended.err
    assert f"and the Octopus Server's is {octopus.thumbprint}" in ended.err
    assert "Machine registered successfully" in ended.lines


async def test_who_polls_without_a_proxy_but_has_one_is_told(
    tentacle: Any, ready: SettingsFile, octopus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tentacle.cli.registration.server_access.ConnectivityCheck", partial(ConnectivityCheck, delays=())
    )
    arguments = worker(octopus, "--comms-style=2", "--server-comms-address=https://127.0.0.1:1")
    without = await tentacle.aside(*arguments)
    assert "that the server's communications port is open" in without.err
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:3128")
    ended = await tentacle.aside(*arguments)
    assert ended.code == 1
    assert "Polling does not use the proxy of HTTPS_PROXY." in ended.err
    assert "Tentacle polling-proxy --proxyEnable=true --proxyHost=... --proxyPort=..." in ended.err


async def test_a_token_of_a_ci_system(tentacle: Any, ready: SettingsFile, octopus: Any, instance: Path) -> None:
    """Whoever has no key at all: the server gives an access token for it."""
    (tentacle.cwd / "token").write_text("ey.oidc.token\n")
    octopus.tokens["ey.oidc.token"] = "access-token"
    given = worker(octopus, "--oidcTokenFile=token", "--serviceAccountId=1-2-3", "--verbose")
    arguments = [one for one in given if not one.startswith("--apiKey=")]
    ended = await tentacle.aside(*arguments)
    assert ended.code == 0, ended.err
    assert f"POST {octopus.url}api/token/v1: 200" in ended.err
    assert [one["Name"] for one in octopus.workers] == ["w"]
    for secret in ("ey.oidc.token", "access-token"):
        assert secret not in ended.out + ended.err + tentacle.log(instance)


async def test_another_machine_of_that_name_is_left_alone(tentacle: Any, ready: SettingsFile, octopus: Any) -> None:
    await tentacle.aside(*worker(octopus))
    octopus.workers[0]["Endpoint"]["Thumbprint"] = "0" * 40
    before = ready.load()
    refused = await tentacle.aside(*worker(octopus, "--idempotent"))
    assert refused.code == 1
    assert "A worker named 'w' already exists, and it is another machine." in refused.err
    assert "--force" in refused.err
    assert len(changes(octopus)) == 1
    assert ready.load() == before
    forced = await tentacle.aside(*worker(octopus, "--idempotent", "--force"))
    assert (forced.code, forced.err) == (0, "")
    assert "updated: thumbprint" in forced.out


async def test_a_dry_run_shows_what_it_would_do_and_does_nothing(
    tentacle: Any, ready: SettingsFile, octopus: Any, polling: tuple[str, ...], instance: Path
) -> None:
    before = ready.path.read_bytes()
    shown = await tentacle.aside(*worker(octopus, "--dry-run", *polling))
    assert (shown.code, shown.err) == (0, "")
    assert f"GET {octopus.url}api: 200" in shown.lines
    assert f"Would POST {octopus.url}api/Spaces-1/workers" in shown.lines
    body = json.loads(shown.out[shown.out.index("{") : shown.out.rindex("}") + 1])
    assert body["Name"] == "w"
    assert body["WorkerPoolIds"] == ["workerpools-1"]
    assert (
        f"Would trust the Octopus Server with the thumbprint {octopus.thumbprint} and poll it at https://127.0.0.1:"
        in shown.out
    )
    assert shown.lines[-1] == "This was a dry run: nothing was changed"
    assert changes(octopus) == []
    assert ready.path.read_bytes() == before
    assert KEY not in shown.out + tentacle.log(instance)


async def test_a_dry_run_of_an_update_and_of_nothing(tentacle: Any, ready: SettingsFile, octopus: Any) -> None:
    await tentacle.aside(*worker(octopus))
    changed = await tentacle.aside(*worker(octopus, "--dry-run", "--idempotent", "--policy=Slow"))
    assert "(sent as POST with X-HTTP-Method-Override: PUT)" in changed.out
    same = await tentacle.aside(*worker(octopus, "--dry-run", "--idempotent"))
    assert "Would P" not in same.out
    assert "nothing needed to change" in same.out
    refused = await tentacle.aside(*worker(octopus, "--dry-run"))
    assert refused.code == 1
    assert "already exists" in refused.err
    assert len(changes(octopus)) == 1


async def test_a_dry_run_never_signs_in(tentacle: Any, ready: SettingsFile, octopus: Any) -> None:
    arguments = [one for one in worker(octopus, "--dry-run", "--username=u", "--password=p") if "apiKey" not in one]
    refused = await tentacle.aside(*arguments)
    assert refused.code == 1
    assert "a user name has to sign in by a POST" in refused.err
    assert octopus.asked == []


async def test_a_key_from_systemd(tentacle: Any, ready: SettingsFile, octopus: Any, tmp_path: Path) -> None:
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "octopus-key").write_text(KEY)
    arguments = [one for one in worker(octopus, "--apiKeyCredential=octopus-key") if not one.startswith("--apiKey=")]
    lost = await tentacle.aside(*arguments)
    assert lost.code == 1
    assert "$CREDENTIALS_DIRECTORY is not set" in lost.err
    assert "LoadCredential=octopus-key:PATH" in lost.err
    tentacle.environ["CREDENTIALS_DIRECTORY"] = str(folder)
    ended = await tentacle.aside(*arguments)
    assert (ended.code, ended.err) == (0, "")
    for name in ("../credentials/octopus-key", "..", "a\0b", "missing"):
        refused = await tentacle.aside(*arguments[:-1], f"--apiKeyCredential={name}")
        assert refused.code == 1
        assert refused.err.count("\n") <= 2
        assert KEY not in refused.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--serverThumbprint=123"], "'123' is not the thumbprint of a certificate."),
        ([f"--serverThumbprint={'A' * 40}"], "which shows no certificate"),
        ([f"--serverThumbprint={'A' * 64}", "--ignoreSslErrors"], "exclude each other"),
    ],
)
async def test_thumbprints_that_make_no_sense(
    tentacle: Any, ready: SettingsFile, octopus: Any, options: list[str], said: str
) -> None:
    server = octopus.url.replace("http:", "https:") if "123" in options[0] else octopus.url
    refused = await tentacle.aside(*worker(octopus, *options, f"--server={server}"))
    assert refused.code == 1
    assert said in refused.err
    assert octopus.asked == []
