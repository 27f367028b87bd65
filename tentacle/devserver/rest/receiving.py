"""A file that a client sends: written to disk piece by piece, never in memory, within limits.

Knows what goes wrong on the way; must not know what the file is for.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from tentacle.devserver.rest.answers import Problem

NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
PATIENCE: Final = 60.0
"""Seconds without a byte after which a file does not come any more."""


async def receive(pieces: AsyncIterator[bytes], path: Path, most: int, announced: int | None) -> None:
    """Writes a new file of at most `most` bytes.  Raises `Problem` 413, 507 and, for one that stops coming, 408."""
    size, too_large = announced or 0, Problem(f"A file must not be larger than {most} bytes.", 413)
    if size > most:
        raise too_large
    size = 0
    try:
        with path.open("xb") as file:
            while True:
                async with asyncio.timeout(PATIENCE):
                    piece = await anext(pieces, None)
                if piece is None:
                    return
                size += len(piece)
                if size > most:
                    raise too_large
                await asyncio.to_thread(file.write, piece)
    except TimeoutError as error:
        raise Problem(f"Nothing of the file came for {PATIENCE:g} seconds.", 408) from error
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise Problem("The server has no room left for this file.", 507) from error
