"""Everything that this server asks of a worker, over the wire.

Uses `storage`; must not know tasks or HTTP.  This is its door; the folders above import from here and from no module
inside.
"""

from tentacle.devserver.worker.caller import Comms, Endpoint, WorkerCallFailed
from tentacle.devserver.worker.client import WorkerClient, WorkerClients
from tentacle.devserver.worker.comms import CommsOptions, HalibutComms, start_comms
from tentacle.devserver.worker.discover import discovered_thumbprint
from tentacle.devserver.worker.https_polling import AGENTS
from tentacle.devserver.worker.machines import Machines, Policy
from tentacle.devserver.worker.script_calls import ScriptOrder
from tentacle.devserver.worker.script_run import ScriptOutcome
from tentacle.devserver.worker.waiting import Time, ends_before
from tentacle.wire.http import FileBody, HttpReply

__all__ = [
    "AGENTS",
    "Comms",
    "CommsOptions",
    "Endpoint",
    "FileBody",
    "HalibutComms",
    "HttpReply",
    "Machines",
    "Policy",
    "ScriptOrder",
    "ScriptOutcome",
    "Time",
    "WorkerCallFailed",
    "WorkerClient",
    "WorkerClients",
    "discovered_thumbprint",
    "ends_before",
    "start_comms",
]
