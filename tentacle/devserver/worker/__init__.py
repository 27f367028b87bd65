"""Everything that this server asks of a worker, over the wire.

Uses `storage`; must not know tasks or HTTP.  This is its door; the folders above import from here and from no module
inside.
"""

from tentacle.devserver.worker.built_in import BuiltInClient
from tentacle.devserver.worker.caller import Comms, Endpoint, WorkerCallFailed
from tentacle.devserver.worker.client import Client, WorkerClients
from tentacle.devserver.worker.comms import CommsOptions, HalibutComms, discovered_thumbprint, start_comms
from tentacle.devserver.worker.https_polling import AGENTS
from tentacle.devserver.worker.machines import Machines, Policy
from tentacle.devserver.worker.retry import Time, ends_before
from tentacle.devserver.worker.script_run import ScriptOrder, ScriptOutcome, ScriptProgress
from tentacle.devserver.worker.ssh import discovered_fingerprint
from tentacle.wire.http import FileBody
