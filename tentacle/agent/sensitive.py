"""What this agent knows and no log may show: passwords of proxies, its private keys, the server's credentials.

In which forms each is looked for is `tentacle.masking`.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import unquote

from tentacle.masking import password_in
from tentacle.settings.keys import KEYS, ValueKind
from tentacle.settings.model import Settings
from tentacle.wire.connect import basic_authorization

CREDENTIAL_VARIABLES = ("OCTOPUS_API_KEY", "OCTOPUS_BEARER_TOKEN", "OCTOPUS_PASSWORD")


def known_values(settings: Settings, environment: Mapping[str, str]) -> frozenset[str]:
    """All that must be masked in the logs of scripts and of the agent."""
    return frozenset(filter(None, (*_passwords(settings, environment), *_keys(settings), *_credentials(environment))))


def _passwords(settings: Settings, environment: Mapping[str, str]) -> Iterator[str]:
    yield from (key.get(settings) or "" for key in KEYS.values() if key.kind is ValueKind.SECRET)
    for proxy in (settings.proxy, settings.polling_proxy):
        yield from _in_header(proxy.username, proxy.password)
    for name, value in environment.items():
        if name.upper().endswith("_PROXY"):
            address = value if "//" in value else f"//{value}"
            if password := password_in(address):
                yield from (password, unquote(password))
                user = address.partition("//")[2].partition(":")[0]
                yield from _in_header(unquote(user), unquote(password))


def _in_header(username: str | None, password: str | None) -> Iterator[str]:
    """What a request to a proxy carries, which an answer may repeat."""
    if password and (header := basic_authorization(username, password)):
        yield header.removeprefix("Basic ")


def _keys(settings: Settings) -> Iterator[str]:
    """The private keys, without the lines around them that are no secret."""
    for certificate in (settings.certificate, settings.next_certificate, settings.previous_certificate):
        if certificate is not None:
            lines = certificate.key_pem.decode("ascii", "replace").splitlines()
            yield "\n".join(line.strip() for line in lines if not line.startswith("-----"))


def _credentials(environment: Mapping[str, str]) -> Iterator[str]:
    for name in CREDENTIAL_VARIABLES:
        if value := environment.get(name, "").strip():
            yield value
