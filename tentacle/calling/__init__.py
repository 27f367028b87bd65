"""The calling side: what a server needs to have a worker run scripts and to send and fetch files, on either wire.

The counterpart of `services`: what they answer is asked here.  Uses the contracts and the transport; must not know
who wants it done, nor where anything is stored.  This is its door; `devserver` imports from here.
"""

from tentacle.calling.caller import Comms, ConnectionLimits, Endpoint, TypedCalls, WorkerCaller, WorkerCallFailed
from tentacle.calling.client import Capabilities, WorkerClient
from tentacle.calling.comms import CommsOptions, start_comms
from tentacle.calling.discovery import discovered_thumbprint, discovering
from tentacle.calling.https_polling import AGENTS
from tentacle.calling.retry import (
    LISTENING,
    POLLING,
    CallRetries,
    Report,
    RetryPolicy,
    StatusInterval,
    Time,
    ends_before,
)
from tentacle.calling.script_run import (
    NoNotes,
    Observe,
    ScriptNotes,
    ScriptOrder,
    ScriptOutcome,
    ScriptProgress,
    begin_once,
)
from tentacle.wire.http import FileBody
