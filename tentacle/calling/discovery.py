"""Who answers at an address, before it is trusted."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from tentacle.calling.caller import WorkerCallFailed
from tentacle.octopus.errors import network_reason
from tentacle.thumbprints import thumbprint_of

_LONGEST: Final = 10.0


@asynccontextmanager
async def discovering(host: str, port: int) -> AsyncIterator[str]:
    """Yields the address as people write it.

    Raises `WorkerCallFailed` where the body finds nothing that answers, or not within ten seconds.
    """
    where = f"{host}:{port}"
    try:
        async with asyncio.timeout(_LONGEST):
            yield where
    except TimeoutError as error:
        raise WorkerCallFailed(f"Nothing answered at {where} within {_LONGEST:.0f} seconds.") from error
    except (OSError, UnicodeError) as error:
        raise WorkerCallFailed(f"No connection to {where}: {network_reason(error)}.") from error


async def discovered_thumbprint(host: str, port: int) -> str:
    """Returns the SHA-1 thumbprint of the certificate that is shown at this address.

    Raises `WorkerCallFailed`, as `discovering` does or for something that does not speak TLS.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Whoever answers is looked at and told nothing: the user decides whether to trust the thumbprint.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    async with discovering(host, port) as where:
        try:
            _, writer = await asyncio.open_connection(host, port, ssl=context)
        except ssl.SSLError as error:
            raise WorkerCallFailed(f"What answers at {where} does not speak TLS, so it is no Tentacle.") from error
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return thumbprint_of(shown)
