"""What the administrator of a host allows servers to do on it: the rules, and their form in a file (docs/monitoring.md,
"The host's veto").

A file that says something that is not understood allows nothing: a rule with a mistyped name would be no rule.  Must
not know where the file lies, or how a call looks.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Final

from tentacle.contracts.services import SERVICE_METHODS
from tentacle.records import dataclass
from tentacle.settings.document import Section, parse
from tentacle.settings.errors import ConfigurationError, SettingsError

KEYS: Final = ("format", "services", "upload-roots", "download-roots", "peers", "rate-limits", "when-audit-fails")
RATES: Final = ("scripts-per-minute", "transfers-per-minute", "calls-per-minute")
_REFUSE, _CONTINUE = "refuse-scripts", "continue"
_MOST: Final = 1_000_000
_LONGEST_LIST: Final = 1000
_EVERYTHING: Final = "*"
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z-]{0,30}")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class HostPolicy:
    """Rules; `None`, and a rate that is missing, is no rule.

    `methods` are the allowed `service.method`s, with our own names; `peers` are networks and names of hosts in lower
    case; `rates` are calls a minute of each peer, by one of `RATES`.  `refuse_unaudited`: no script is started of which
    the audit record cannot tell.  `source` is the file; with a `problem` the file cannot be used, and nothing new is
    allowed.
    """

    methods: frozenset[str] | None = None
    upload_roots: tuple[Path, ...] | None = None
    download_roots: tuple[Path, ...] | None = None
    peers: tuple[Network | str, ...] | None = None
    rates: Mapping[str, int] = field(default_factory=dict)
    refuse_unaudited: bool = False
    source: Path | None = None
    problem: str = ""

    @classmethod
    def broken(cls, source: Path, problem: str) -> HostPolicy:
        """What stands for a file that cannot be used."""
        return cls(upload_roots=(), download_roots=(), refuse_unaudited=True, source=source, problem=problem)

    def lines(self) -> list[str]:
        """The rules in words."""
        if self.problem:
            return [f"nothing new is allowed: {self.problem}"]
        said = []
        if self.methods is not None:
            said.append(f"allowed: {', '.join(sorted(self.methods)) or 'nothing'}")
        for what, roots in (("uploads", self.upload_roots), ("downloads", self.download_roots)):
            if roots is not None:
                said.append(f"{what} below {', '.join(map(str, roots))}" if roots else f"no {what}")
        if self.peers is not None:
            said.append(f"peers {', '.join(map(str, self.peers)) or 'none'}")
        said += [f"{count} {name.replace('-', ' ')} of each peer" for name, count in self.rates.items()]
        if self.refuse_unaudited:
            said.append("no script without an audit record")
        return said or ["everything is allowed"]


def parse_policy(text: str, source: Path) -> HostPolicy:
    """The policy in a file's text.  Raises `SettingsError`, which names the line where there is one."""
    try:
        document = parse(text, source)
        _require_known(document, document.values, KEYS)
        if not set(document.values) - {"format"}:
            raise SettingsError(
                f"The policy file '{source}' holds no rule.", hint="Remove it, or write down what is allowed."
            )
        rates = document.section("rate-limits")
        if rates is not None:
            _require_known(rates, rates.values, RATES)
        return HostPolicy(
            methods=_methods(document),
            upload_roots=_roots(document, "upload-roots"),
            download_roots=_roots(document, "download-roots"),
            peers=_peers(document),
            rates={} if rates is None else {name: _rate(rates, name) for name in RATES if name in rates.values},
            refuse_unaudited=_choice(document, "when-audit-fails", (_CONTINUE, _REFUSE)) == _REFUSE,
            source=source,
        )
    except ConfigurationError as error:
        said = error.message.replace("The configuration file", "The policy file", 1)
        raise SettingsError(said, hint="Correct it: until then nothing new is allowed.") from None


def _require_known(section: Section, values: Mapping[Any, Any], known: tuple[str, ...]) -> None:
    for name in values:
        if name not in known:
            # The file may be another one than was meant, and its words are no business of whoever reads this.
            shown = name if isinstance(name, str) and _WORD.fullmatch(name) else "a key"
            raise section.wrong(shown, f"is not known; there are {', '.join(known)}")
        if values[name] is None:
            raise section.wrong(str(name), "has no value")


def _texts(section: Section, key: str) -> list[tuple[str, str]] | None:
    """Each entry of a list of texts with the name by which it is told of, or None when there is no such list."""
    value = section.values.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > _LONGEST_LIST:
        raise section.wrong(key, f"must be a list of at most {_LONGEST_LIST}")
    found = []
    for number, entry in enumerate(value):
        name = f"{key}[{number}]"
        if not isinstance(entry, str) or not entry.strip() or not entry.isprintable():
            raise section.wrong(name, "must be a text")
        found.append((name, entry.strip()))
    return found


def _methods(document: Section) -> frozenset[str] | None:
    given = _texts(document, "services")
    if given is None:
        return None
    names = {service.lower(): service for service in SERVICE_METHODS}
    found: set[str] = set()
    for name, entry in given:
        service, _, method = entry.partition(".")
        known = SERVICE_METHODS.get(names.get(service.lower(), ""))
        if known is None:
            raise document.wrong(name, f"is no service of this agent; there are {', '.join(SERVICE_METHODS)}")
        if method in ("", _EVERYTHING) and not entry.endswith("."):
            found |= {f"{names[service.lower()]}.{one.name}" for one in known.values()}
        elif method.lower() in known:
            found.add(f"{names[service.lower()]}.{known[method.lower()].name}")
        else:
            methods = ", ".join(one.name for one in known.values())
            raise document.wrong(name, f"is no method of {names[service.lower()]}; it has {methods}")
    return frozenset(found)


def _roots(document: Section, key: str) -> tuple[Path, ...] | None:
    given = _texts(document, key)
    if given is None:
        return None
    for name, entry in given:
        if not entry.startswith("/") or ".." in entry.split("/"):
            raise document.wrong(name, "must be an absolute path without '..'")
    return tuple(Path("/" + os.path.normpath(entry).lstrip("/")) for _, entry in given)


def _peers(document: Section) -> tuple[Network | str, ...] | None:
    given = _texts(document, "peers")
    return None if given is None else tuple(_peer(document, name, entry) for name, entry in given)


def _peer(document: Section, name: str, entry: str) -> Network | str:
    text = entry.strip("[]")
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        if any(c in text for c in "/:*") or text.replace(".", "").isdigit():
            raise document.wrong(
                name, f"must be an address, a network such as 10.0.0.0/8, or a host: {error}"
            ) from None
    return text.lower()


def _rate(section: Section, name: str) -> int:
    value = section.whole(name)
    if value is None or not 1 <= value <= _MOST:
        raise section.wrong(name, f"must be a whole number from 1 to {_MOST}")
    return value


def _choice(section: Section, key: str, choices: tuple[str, ...]) -> str:
    value = section.values.get(key, choices[0])
    if value not in choices:
        raise section.wrong(key, f"must be {' or '.join(choices)}")
    return str(value)
