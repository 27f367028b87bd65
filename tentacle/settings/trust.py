"""Which servers are trusted, and how that list changes.

Pure functions on tuples of `TrustedServer`; no file, no output.  The rules are docs/spec/command-line.md,
"Commands for settings" and "Trusted servers". A thumbprint is compared as `thumbprints` cleans it and without regard to
case, an address as an absolute URI.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from tentacle.settings.errors import SettingsError
from tentacle.settings.model import CommunicationStyle, TrustedServer
from tentacle.thumbprints import clean_thumbprint

Servers = tuple[TrustedServer, ...]

SUBSCRIPTION_ALPHABET = "bcdefghjklmnpqrstuvwxyz23456789"
"""No `i`, `o`, `0`, `1`, which people misread; no `a`, which the original never draws (docs/spec/rest.md,
"Subscription").
"""
SUBSCRIPTION_LENGTH = 20
DEFAULT_SCHEME_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

KINDS = {
    CommunicationStyle.TENTACLE_ACTIVE: "polling tentacle",
    CommunicationStyle.TENTACLE_PASSIVE: "listening tentacle",
}


def normalise_thumbprint(thumbprint: str) -> str:
    """Returns the form in which thumbprints are compared: as `clean_thumbprint` leaves it, in upper case."""
    return clean_thumbprint(thumbprint).upper()


def same_thumbprint(one: str, other: str) -> bool:
    """Whether both name the same certificate."""
    return normalise_thumbprint(one) == normalise_thumbprint(other)


def normalise_address(address: str) -> str:
    """Returns the form in which addresses are compared: lower case, no default port, `/` for an empty path."""
    text = address.strip().lower()
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return text
    if not parts.scheme or not parts.hostname:
        return text
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    where = host if port in (None, DEFAULT_SCHEME_PORTS.get(parts.scheme)) else f"{host}:{port}"
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{where}{parts.path or '/'}{query}"


def same_address(one: str | None, other: str | None) -> bool:
    """Whether both are the same address; two missing ones are."""
    if one is None or other is None:
        return one is other
    return normalise_address(one) == normalise_address(other)


def same_entry(one: TrustedServer, other: TrustedServer) -> bool:
    """Whether both have the same thumbprint and address: a list holds only one of them."""
    return same_thumbprint(one.thumbprint, other.thumbprint) and same_address(one.address, other.address)


def add_or_update(servers: Servers, server: TrustedServer) -> Servers:
    """Returns the list with `server` at the end, instead of any entry with its thumbprint and address."""
    return (*(known for known in servers if not same_entry(known, server)), server)


def trust(servers: Servers, thumbprint: str) -> Servers:
    """`configure --trust`: adds a listening entry without an address; entries with addresses stay."""
    return add_or_update(servers, TrustedServer(thumbprint, CommunicationStyle.TENTACLE_PASSIVE))


def thumbprints_of(servers: Iterable[TrustedServer]) -> tuple[str, ...]:
    """Returns each thumbprint once, as it is written first: a server may have several entries."""
    first: dict[str, str] = {}
    for server in servers:
        first.setdefault(normalise_thumbprint(server.thumbprint), server.thumbprint)
    return tuple(first.values())


def remove(servers: Servers, thumbprints: Iterable[str]) -> Servers:
    """Returns the list without the entries of these thumbprints."""
    gone = {normalise_thumbprint(thumbprint) for thumbprint in thumbprints}
    return tuple(server for server in servers if normalise_thumbprint(server.thumbprint) not in gone)


def update_trust(servers: Servers, old: str, new: str) -> Servers:
    """Returns the list with thumbprint `new` instead of `old`; entries that are then equal are kept once."""
    changed = (replace(s, thumbprint=new) if same_thumbprint(s.thumbprint, old) else s for s in servers)
    return tuple(dict.fromkeys(changed))


def forgotten(before: Servers, after: Servers) -> Servers:
    """Returns the entries of `before` of which `after` has none with the same thumbprint and address."""
    return tuple(server for server in before if not any(same_entry(server, left) for left in after))


def keep_addresses(servers: Servers, addresses: Collection[str]) -> Servers:
    """`clear-trusted-servers --keep`: returns the entries that poll one of `addresses` (docs/spec/command-line.md,
    "clear-trusted-servers").
    """
    kept = {normalise_address(address.strip().replace("http://", "https://", 1)) for address in addresses}
    return tuple(s for s in servers if s.address is not None and normalise_address(s.address) in kept)


def make_polling(
    servers: Servers,
    thumbprint: str,
    address: str,
    *,
    https: bool = False,
    ca_file: str | None = None,
    new_id: Callable[[], str] | None = None,
) -> Servers:
    """`server-comms --style=TentacleActive` (docs/spec/command-line.md, "server-comms"): returns the list with
    `address` polled, by `https` with whom `ca_file` vouches for.

    Changes the entry with this address, else one without a style, else adds one.  It keeps its subscription, or takes
    that of another polling entry of this thumbprint, or gets a new one.
    """
    own = tuple(s for s in servers if same_thumbprint(s.thumbprint, thumbprint))
    chosen = next((s for s in own if same_address(s.address, address)), None)
    chosen = chosen or next((s for s in own if s.style is CommunicationStyle.NONE), None)
    shared = next((s.subscription_id for s in own if s.style is CommunicationStyle.TENTACLE_ACTIVE), None)
    subscription = (chosen and chosen.subscription_id) or shared or (new_id or new_subscription_id)()
    named = chosen.thumbprint if chosen else thumbprint
    polling = TrustedServer(named, CommunicationStyle.TENTACLE_ACTIVE, address, subscription, https, ca_file)
    if chosen is not None and not same_address(chosen.address, address):
        return tuple(polling if s is chosen else s for s in servers)
    return add_or_update(servers, polling)


def make_listening(servers: Servers, thumbprint: str) -> Servers:
    """`server-comms --style=TentaclePassive`: returns the list with a listening entry without an address."""
    own = (s for s in servers if same_thumbprint(s.thumbprint, thumbprint) and s.address is None)
    chosen = next(own, None) or TrustedServer(thumbprint, CommunicationStyle.TENTACLE_PASSIVE)
    return add_or_update(servers, replace(chosen, style=CommunicationStyle.TENTACLE_PASSIVE))


def not_trusted(servers: Servers, which: str) -> SettingsError:
    """The error for a thumbprint that no entry has; `which` is read after `No trusted server was found`."""
    known = ", ".join(thumbprints_of(servers))
    hint = f"These are trusted: {known}." if known else "No server is trusted."
    return SettingsError(f"No trusted server was found {which}", hint=hint)


def kind_of(server: TrustedServer) -> str:
    """Returns what `update-trust` calls an entry: `polling tentacle`, `listening tentacle` or nothing."""
    return KINDS.get(server.style, "")


def new_subscription_id(choose: Callable[[str], str] = secrets.choice) -> str:
    """Returns a new name for a polling Tentacle: `poll://`, 20 characters, `/`."""
    return f"poll://{''.join(choose(SUBSCRIPTION_ALPHABET) for _ in range(SUBSCRIPTION_LENGTH))}/"


def parse_servers(text: str) -> Servers:
    """Returns the list that the original writes in JSON (docs/spec/command-line.md, "Trusted servers"); member names in
    any case.

    Raises `SettingsError`, whose text fits behind the name of wherever `text` came from.
    """
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        raise SettingsError("is not valid JSON") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise SettingsError("must be a JSON array of objects")
    servers = []
    for entry in ({str(name).lower(): value for name, value in entry.items()} for entry in entries):
        thumbprint, given = _text(entry, "thumbprint"), entry.get("communicationstyle")
        if not thumbprint or not thumbprint.strip():
            raise SettingsError("holds an entry without a Thumbprint")
        known = isinstance(given, int | str) and not isinstance(given, bool)
        style = CommunicationStyle.NONE if given is None else CommunicationStyle.parse(str(given)) if known else None
        if style is None:
            raise SettingsError(f"holds the CommunicationStyle {given!r:.40}, which is unknown")
        https = _text(entry, "httpsaddress")
        if https and _text(entry, "address"):
            raise SettingsError("holds an entry with both Address and HttpsAddress")
        address = https or _text(entry, "address")
        subscription, ca_file = _text(entry, "subscriptionid"), _text(entry, "cafile")
        servers.append(TrustedServer(thumbprint, style, address, subscription, bool(https), ca_file))
    return tuple(servers)


def _text(entry: Mapping[str, Any], name: str) -> str | None:
    value = entry.get(name)
    if value is not None and not isinstance(value, str):
        raise SettingsError(f"holds an entry whose {name} is not a text")
    return value or None
