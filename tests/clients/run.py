"""Runs real clients of Octopus Deploy against the embedded server: `make test-clients`.

They come from their registry, so they are no part of `make test`, whose tests send the same requests.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tentacle.devserver.main import DevServerOptions, running

HERE = Path(__file__).parent


async def main(modules: Path) -> int:
    async with running(DevServerOptions()) as up:
        client = await asyncio.create_subprocess_exec(
            *("node", str(HERE / "npm_client.js"), up.rest.rstrip("/"), up.api_key),
            env={"NODE_PATH": str(modules), "PATH": "/usr/local/bin:/usr/bin:/bin"},
        )
        failed = await client.wait()
    print("@octopusdeploy/api-client:", "FAIL" if failed else "ok")
    return failed


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]))))
