"""TLS to a server whose certificate somebody else vouches for: a proxy that opens TLS connections, and is trusted on
purpose (docs/spec/https.md, "Behind a proxy that ends TLS").

The rules are the web's: a chain to a certificate of the given file and to no other, the host's name, and the dates.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import AsyncExitStack
from pathlib import Path

from tentacle.disk import DiskError, read_bytes
from tentacle.errors import one_line
from tentacle.pem import certificates_in
from tentacle.transport.address import Address
from tentacle.transport.dial import reach
from tentacle.transport.errors import ConnectFailed, TlsFailed, UnexpectedCertificate
from tentacle.transport.proxy_logins import ProxyLogins
from tentacle.transport.stream import TcpStream, limit
from tentacle.transport.timeouts import Timeouts
from tentacle.wire.connect import ascii_host


async def dial_vouched(
    address: Address, ca_file: str, timeouts: Timeouts, logins: ProxyLogins | None = None
) -> TcpStream:
    """A connection inside TLS, without a certificate of ours.  Raises as `dial` does."""
    context = await asyncio.to_thread(_context, ca_file)
    async with AsyncExitStack() as undo:
        tcp = await reach(address, timeouts, logins)
        undo.callback(tcp.abort)
        try:
            async with limit(timeouts.receive, f"the TLS handshake with {address}"):
                await tcp.start_tls(context, ascii_host(address.host).removesuffix("."))
        except ssl.SSLCertVerificationError as error:
            raise UnexpectedCertificate(
                f"the certificate at {address} is not one that {ca_file} vouches for: {error.verify_message}",
                hint="check the file, which must hold the certificate of whoever ends TLS there, or of its authority",
            ) from error
        except (ssl.SSLError, OSError) as error:
            raise TlsFailed(f"no TLS connection with {address}: {getattr(error, 'reason', None) or error}") from error
        undo.pop_all()
    return tcp


def _context(ca_file: str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=certificates_in(read_bytes(Path(ca_file))))
    except (OSError, ValueError, DiskError) as error:
        reason = "a certificate in it is damaged" if isinstance(error, ssl.SSLError) else one_line(error).rstrip(".")
        raise ConnectFailed(
            f"the certificates in {ca_file} cannot be used: {reason}",
            hint="register again with another --ca-file, or make the file readable for the agent's user",
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
