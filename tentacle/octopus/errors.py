"""What can go wrong between this machine and an Octopus Server.

Knows the wording only: one line each, with what to do next.  No message holds a key, a token or a password: text that a
server sent has gone through `Credentials.redact` before.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterable

from tentacle.errors import EXIT_INTERNAL, TentacleError, one_line
from tentacle.wire.connect import sign_in_advice

PROXY_RULES = (
    "Whoever runs the proxy has to allow CONNECT to that host and port; in an internal network the right way may be "
    "without it."
)


class OctopusError(TentacleError):
    """Any failure of a conversation with an Octopus Server."""


class InvalidAddress(OctopusError):
    """An address of a server, a proxy or a machine that cannot be used."""


class CredentialsError(OctopusError):
    """Credentials that cannot be sent: none, several kinds at once, or characters that no header can carry."""


class ConnectionFailed(OctopusError):
    """No answer: refused, unresolved, cut, or silent for too long."""


class ProxyRefused(OctopusError):
    """The proxy does not accept our credentials, or does not allow the connection.

    This is not tried again: the answer would be the same, and repeating a wrong password locks accounts.  `offers` are
    the values of the proxy's `Proxy-Authenticate` headers.
    """

    def __init__(self, proxy: str, status: int = 407, target: str = "", *, offers: Iterable[str] = ()) -> None:
        shown = f"The proxy{f' {proxy}' if proxy else ''}"
        if status == 407:
            super().__init__(
                f"{shown} wants other credentials (HTTP status 407).",
                hint=sign_in_advice(offers)
                or "Correct its user name and password with 'Tentacle polling-proxy' or 'Tentacle proxy', or in the "
                "environment's HTTP_PROXY and HTTPS_PROXY.",
            )
        else:
            super().__init__(f"{shown} refused to connect to {target} (HTTP status {status}).", hint=PROXY_RULES)


class NameUnresolved(ConnectionFailed):
    """The name of the server, or of the proxy, cannot be resolved: probably mistyped, so that waiting rarely helps."""


class NoTls(OctopusError):
    """One side speaks TLS and the other does not, or none that both speak; that stays so, and is not tried again."""


class CertificateRefused(OctopusError):
    """The server's TLS certificate is not accepted; `pinned` when exactly one, known by its thumbprint, would be."""

    def __init__(
        self, where: str, reason: str, subject: str | None, thumbprint: str | None, *, pinned: bool = False
    ) -> None:
        shown = f" It names {subject} and has the SHA-1 thumbprint {thumbprint}." if thumbprint else ""
        super().__init__(
            f"The TLS certificate of {where} was refused: {reason}.{shown}",
            hint="Either the server's certificate has changed, or something between here and there answers for it."
            if pinned
            else "If it is the right certificate, add its issuer to the certificates this machine trusts, name it by "
            "--ca-file or --serverThumbprint, or repeat the command with --ignoreSslErrors.",
        )
        self.subject = subject
        self.thumbprint = thumbprint


class NotAnOctopusServer(OctopusError):
    """What answers does not speak the Octopus REST interface."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(
            f"{where} does not answer like an Octopus Server: {reason}.",
            hint="Give --server the address at which the Octopus web portal opens, for example http://octopus.",
        )


class RedirectRefused(OctopusError):
    """The server redirects to where the credentials must not go."""

    def __init__(self, where: str, target: str) -> None:
        super().__init__(
            f"{where} redirects to {target}; credentials are not sent there.",
            hint=f"If that is the right server, use --server={target}",
        )


class AccessRefused(OctopusError):
    """401 or 403: the server does not accept these credentials, or they do not permit this."""

    def __init__(self, message: str, *, hint: str, status: int) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class NotFound(OctopusError):
    """404: the server has nothing at this address."""


class ValidationFailed(OctopusError):
    """400 or 409: the server refuses the request; its message and list of errors say why."""


class ServerFailed(OctopusError):
    """Any other failure that the server reports: its own, or of something in front of it."""

    default_exit_code = EXIT_INTERNAL


class UnexpectedAnswer(OctopusError):
    """An answer in a shape that the interface does not have: not JSON, a list for an object, a missing link."""

    default_exit_code = EXIT_INTERNAL


class RegistrationError(OctopusError):
    """The server's state does not allow the request: no such pool, the name is taken, no machine matches."""


def is_tls_nonsense(error: BaseException | None) -> bool:
    """Whether a peer answered a TLS handshake with something else, rather than that it went away meanwhile."""
    return isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)


def network_reason(error: BaseException) -> str:
    """Why the network failed, in words, without addresses, which the message around it names already."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or one_line(error)).lower().replace("_", " ").rstrip(".")
    if isinstance(error, ConnectionError) and error.errno:
        return os.strerror(error.errno)
    # asyncio puts several failures, one per address of a name, into one text without a number of its own.
    numbers = [] if getattr(error, "errno", None) else re.findall(r"\[Errno ([0-9]+)\]", str(error))
    if numbers:
        return " / ".join(dict.fromkeys(os.strerror(int(number)) for number in numbers))
    return (getattr(error, "strerror", None) or one_line(error)).rstrip(".")
