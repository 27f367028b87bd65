"""What an agent knows and no log may show, in every spelling in which it may come."""

from __future__ import annotations

import base64
import os
import signal

from tentacle.agent.sensitive import known_values
from tentacle.masking import MASK, Mask, worth_masking
from tentacle.settings.certificates import from_pem
from tentacle.settings.model import ProxySettings, Settings
from tentacle.wire.messages import ServerError
from tests.agent.process import AgentHome, Server
from tests.pki import pem

PASSWORD = "p&ss wörd/ÄÖ!"


def test_proxies_credentials_and_keys_are_known() -> None:
    certificate = from_pem(*pem("agent"))
    settings = Settings(
        certificate=certificate,
        proxy=ProxySettings(username="wöb", password="web password"),
        polling_proxy=ProxySettings(password="polling"),
    )
    environment = {
        "OCTOPUS_API_KEY": "API-KEYKEYKEY",
        "OCTOPUS_BEARER_TOKEN": " token of a bearer\n",
        "OCTOPUS_PASSWORD": "",
        "HTTPS_PROXY": "http://me:from%20env@proxy:3128",
        "http_proxy": "me:bare@proxy",
        "ALL_PROXY": "http://me:12/34?5@proxy",
        "NO_PROXY": "[broken",
        "OTHER": "nothing",
    }
    mask = Mask.of_secrets(worth_masking(known_values(settings, environment)))
    for shown in (
        "web password",
        "web%20password",
        "polling",
        "API-KEYKEYKEY",
        "token of a bearer",
        "from env",
        "bare",
        "12/34?5",
        base64.b64encode("wöb:web password".encode()).decode(),
        base64.b64encode(b"me:from env").decode(),
    ):
        assert mask.cover(f"<{shown}>") == f"<{MASK}>"
    lines = certificate.key_pem.decode().splitlines()
    covered = mask.cover_lines(lines)
    assert covered[0] == lines[0]
    assert covered[-1] == lines[-1]
    assert {line.replace(MASK, "") for line in covered[1:-1]} == {""}
    assert not mask.is_in("me nothing proxy:3128")
    assert known_values(Settings(), {}) == frozenset()


async def test_a_script_and_the_agent_s_own_log_show_none_of_them(agent: AgentHome, server: Server) -> None:
    agent.set(proxy=ProxySettings(use_default=False, host="proxy", password=PASSWORD))
    agent.environment["OCTOPUS_API_KEY"] = key = f"key-{os.urandom(8).hex()}"
    running = await agent.start()
    server.port = await running.port()
    encoded = base64.b64encode(f"{PASSWORD}\n{key[:9]}\n{key[9:]}\n".encode()).decode()
    await server.script(f'echo "<$TentacleProxyPassword>"; echo {encoded} | base64 -d >&2; exit 3', wait=10)
    logs = [entry.text for entry in (await server.finished()).logs]
    assert f"<{MASK}>" in logs
    assert logs.count(MASK) == 3
    assert not [text for text in logs if PASSWORD in text or key[:9] in text]
    refused = await server.answer("IFileTransferService", "DownloadFile", f"\0 {key}")
    assert isinstance(refused, ServerError)
    assert f"0 {MASK}' is not in a form that can be used" in refused.message
    assert key not in f"{refused.message}{refused.details}"
    assert (refused.details or "").startswith("System.Reflection.TargetInvocationException: ")
    await running.stop(signal.SIGTERM)
    said = (agent.home / "Logs" / "OctopusTentacle.txt").read_text() + "\n".join(running.said)
    assert f"0 {MASK}' is not in a form that can be used" in said
    assert key not in said
