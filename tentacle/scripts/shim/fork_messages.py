"""What is said on the sockets of the fork server and of the shims, without what either of them is made of."""

from __future__ import annotations

import struct

ANSWER = struct.Struct("!i")
QUESTION = b"run"
"""The beginning of a request; the path of the cgroup follows, if there is one."""
WHO = b"who"
"""The whole of a request without descriptors; the answer is the number of the process that answers."""
AGAIN, FREE = b"again", b"free"
"""The messages on the socket of a shim: the agent gives it a further run; the shim reports that it is free."""
