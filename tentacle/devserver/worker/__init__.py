"""Who is asked when this server asks a worker, and machines without an agent; the wire to the others is `calling`.

Uses `storage`; must not know tasks or HTTP.  This is its door; the folders above import from here and from no module
inside.
"""

from tentacle.devserver.worker.built_in import BuiltInClient
from tentacle.devserver.worker.clients import Client, WorkerClients
from tentacle.devserver.worker.machines import Machines, Policy
from tentacle.devserver.worker.ssh import discovered_fingerprint
