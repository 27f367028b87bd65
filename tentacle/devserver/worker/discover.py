"""Who listens at an address: the certificate that a worker shows there, before it is trusted.

Knows TLS; must not know tasks, storage or HTTP.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from typing import Final

from tentacle.devserver.worker.caller import WorkerCallFailed

_LIMIT: Final = 10.0


async def discovered_thumbprint(host: str, port: int) -> str:
    """Returns the SHA-1 thumbprint of the certificate that is shown at this address.

    Raises `WorkerCallFailed` where nothing answers within ten seconds, or something that does not speak TLS.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Whoever answers is looked at and told nothing: the user decides whether to trust the thumbprint.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    where = f"{host}:{port}"
    try:
        async with asyncio.timeout(_LIMIT):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except TimeoutError as error:
        raise WorkerCallFailed(f"Nothing answered at {where} within {_LIMIT:.0f} seconds.") from error
    except ssl.SSLError as error:
        raise WorkerCallFailed(f"What answers at {where} does not speak TLS, so it is no Tentacle.") from error
    except (OSError, UnicodeError) as error:
        raise WorkerCallFailed(f"No connection to {where}: {error}") from error
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return hashlib.sha1(shown, usedforsecurity=False).hexdigest().upper()
