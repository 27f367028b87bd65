"""What this agent knows and no log may show: passwords of proxies, its private keys, the server's credentials.

A password is looked for in all the spellings in which a proxy's address carries it (docs/spec/services.md, "Masking").
Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote, quote_plus, unquote, urlsplit

from tentacle.settings.keys import KEYS, ValueKind
from tentacle.settings.model import Settings

CREDENTIAL_VARIABLES = ("OCTOPUS_API_KEY", "OCTOPUS_BEARER_TOKEN", "OCTOPUS_PASSWORD")
_UNRESERVED_BY_DOTNET = "-_.!*()"
_HEX = re.compile(r"%[0-9A-F]{2}")


def known_values(settings: Settings, environment: Mapping[str, str]) -> frozenset[str]:
    """All that must be masked in the logs of scripts and of the agent."""
    return frozenset((*_passwords(settings, environment), *_keys(settings), *_credentials(environment)))


def spellings(password: str) -> Iterator[str]:
    """The password as it is, and URL-encoded: with upper and lower case digits, a blank as `%20` and as `+`."""
    yield password
    data = password.encode("utf-8", "replace")
    for encoded in (quote(data, safe=""), quote(data, safe=_UNRESERVED_BY_DOTNET), quote_plus(data)):
        yield encoded
        yield _HEX.sub(lambda found: found[0].lower(), encoded)


def _passwords(settings: Settings, environment: Mapping[str, str]) -> Iterator[str]:
    known = (key.get(settings) for key in KEYS.values() if key.kind is ValueKind.SECRET)
    for password in (*known, *_of_addresses(environment)):
        if password:
            yield from spellings(password)


def _of_addresses(environment: Mapping[str, str]) -> Iterator[str]:
    """The passwords in `HTTPS_PROXY` and its like."""
    for name, value in environment.items():
        if name.upper().endswith("_PROXY"):
            try:
                password = urlsplit(value if "//" in value else f"//{value}").password
            except ValueError:
                continue
            if password:
                yield unquote(password)
                yield password


def _keys(settings: Settings) -> Iterator[str]:
    """The private keys, without the lines around them that are no secret; line ends do not count when masking."""
    for certificate in (settings.certificate, settings.next_certificate, settings.previous_certificate):
        if certificate is not None:
            lines = certificate.key_pem.decode("ascii", "replace").splitlines()
            yield "".join(line.strip() for line in lines if not line.startswith("-----"))


def _credentials(environment: Mapping[str, str]) -> Iterator[str]:
    for name in CREDENTIAL_VARIABLES:
        if value := environment.get(name, "").strip():
            yield value
