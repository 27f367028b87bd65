"""What the host's policy says of a call: nothing, or a refusal that names the rule.

What was begun is told of to its end: GetStatus, CancelScript and CompleteScript are held up neither by a rate nor by a
policy file that cannot be used.  Knows calls and rules.  Must not know where rules come from, nor a wire.
"""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tentacle.contracts.script_v2 import StartScriptCommandV2
from tentacle.path_walk import Place
from tentacle.scripts.errors import InvalidTicketError
from tentacle.scripts.workspace.validation import require_ticket
from tentacle.services.dispatch import SeenCall
from tentacle.services.errors import AccessDenied, RefusedByPolicy
from tentacle.settings.policy import HostPolicy

FOLLOW_UPS: Final = frozenset(("GetStatus", "CancelScript", "CompleteScript"))
START: Final = "StartScript"
HTTPS: Final = "HTTPS"
"""Stands for the service of requests by HTTPS that are no calls of one."""
_RATES_OF: Final = {
    START: ("scripts-per-minute", "calls-per-minute"),
    "UploadFile": ("transfers-per-minute", "calls-per-minute"),
    "DownloadFile": ("transfers-per-minute", "calls-per-minute"),
}
_MOST_BUCKETS: Final = 4096
_MINUTE: Final = 60.0


class Veto:
    """Says no to calls.  `is_known` tells of a ticket whether it has been started before: asking again is no new start.

    Use from one event loop.  `clock` is in seconds.
    """

    def __init__(
        self,
        policy: Callable[[], HostPolicy],
        is_known: Callable[[str], bool] = lambda _: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy = policy
        self._is_known = is_known
        self._clock = clock
        self._buckets: dict[tuple[str, str], tuple[float, float]] = {}
        """Of each peer and rate: how many calls are left, and when that was so."""

    def require(self, call: SeenCall) -> None:
        """Raises `RefusedByPolicy`."""
        policy = self._policy()
        if policy.source is None:
            return
        wanted = call.serves if call.service == HTTPS else (f"{call.service}.{call.method}",)
        if policy.problem and call.method not in FOLLOW_UPS and wanted:
            raise _refused("its policy file cannot be used, so nothing new is allowed")
        if policy.methods is not None and wanted and policy.methods.isdisjoint(wanted):
            what = f"what {call.method} is for" if call.service == HTTPS else wanted[0]
            raise _refused(f"{what} is not allowed")
        if policy.peers is not None and not _is_among(policy, call.context.address):
            raise _refused(f"calls from {call.context.address or 'an unknown address'} are not allowed")
        if policy.rates and call.method not in FOLLOW_UPS and not self._is_repeated(call):
            self._count(policy, call)

    def _is_repeated(self, call: SeenCall) -> bool:
        first = call.arguments[0] if call.arguments else None
        if not isinstance(first, StartScriptCommandV2):
            return False
        try:
            return self._is_known(require_ticket(first.script_ticket.task_id))
        except InvalidTicketError:
            return False

    def _count(self, policy: HostPolicy, call: SeenCall) -> None:
        now, who = self._clock(), call.context.thumbprint
        left = {}
        for name in _RATES_OF.get(call.method, ("calls-per-minute",)):
            if (limit := policy.rates.get(name)) is None:
                continue
            had, since = self._buckets.get((who, name), (float(limit), now))
            left[name] = min(had + (now - since) * limit / _MINUTE, limit)
            if left[name] < 1:
                raise _refused(f"a peer may make {limit} {name.replace('-', ' ')}, and no more")
        for name, count in left.items():
            self._buckets.pop((who, name), None)
            self._buckets[who, name] = count - 1, now
        while len(self._buckets) > _MOST_BUCKETS:
            del self._buckets[next(iter(self._buckets))]


class TransferRoots:
    """Where files may be written and read.  Looks at where a path leads, by what is open there, and not at its text.

    No file in the directory `credentials` is read for anybody, whatever the policy says: a script, whose user may not
    open it, could have a server fetch it.
    """

    def __init__(self, policy: Callable[[], HostPolicy] = HostPolicy, credentials: Path | None = None) -> None:
        self._policy = policy
        found = [] if credentials is None else [path.stat() for path in credentials.iterdir()]
        self._closed = frozenset((status.st_dev, status.st_ino) for status in found)

    def require_upload(self, descriptor: int) -> None:
        """Raises `RefusedByPolicy` for an open directory in which nothing may be made."""
        _require(self._policy().upload_roots, _path_of(descriptor), "written")

    def require_writable(self, path: str) -> None:
        """As `require_upload`, for a path as it is now: before the bytes of its file come."""
        _require(self._policy().upload_roots, Path(os.path.realpath(Path(path).parent)), "written")

    def require_readable(self, path: str) -> None:
        """Raises `RefusedByPolicy` for a path that may not be read now, whether or not anything is there."""
        _require(self._policy().download_roots, Path(os.path.realpath(path)).parent, "read")

    def require_download(self, place: Place) -> None:
        """As `require_readable`, for what has been reached; also raises `AccessDenied`."""
        found = place.status() if self._closed else None
        if found is not None and (found.st_dev, found.st_ino) in self._closed:
            raise AccessDenied(f"Access to the path '{place.path}' is denied: systemd hands it to the agent alone.")
        _require(self._policy().download_roots, _path_of(place.directory), "read")


def _require(roots: tuple[Path, ...] | None, directory: Path, what: str) -> None:
    if roots is None or any(directory.is_relative_to(os.path.realpath(root)) for root in roots):
        return
    raise _refused(f"in {directory} no file may be {what}")


def _path_of(descriptor: int) -> Path:
    """Where an open directory is, without links."""
    return Path(f"/proc/self/fd/{descriptor}").readlink()


def _is_among(policy: HostPolicy, address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]").lower()
    try:
        parsed = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host in (policy.peers or ())
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    found = mapped or parsed
    return any(not isinstance(one, str) and found in one for one in policy.peers or ())


def _refused(rule: str) -> RefusedByPolicy:
    return RefusedByPolicy(f"Refused by the policy of this host: {rule}.")
