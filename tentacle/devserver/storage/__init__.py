"""What the server keeps: resources and tasks as values, the shapes that documents must have, and the database.

The lowest folder of the server: knows none of the others, and neither HTTP nor the wire.  This is its door; the others
import from here and from no module inside.
"""

from tentacle.devserver.storage.database import Database
from tentacle.devserver.storage.fields import (
    Field,
    Invalid,
    choice,
    member,
    optional,
    read_fields,
    seconds,
    text,
    texts,
    time_span,
    whole_number,
)
from tentacle.devserver.storage.kinds import (
    ACCOUNTS,
    ARTIFACTS,
    ENVIRONMENTS,
    KINDS,
    MACHINE_KINDS,
    MACHINES,
    POLICIES,
    POOLS,
    PROXIES,
    SCOPED,
    SPACES,
    TAG_SETS,
    USERS,
    WORKERS,
    Kind,
    communication,
    read_body,
    references,
    same_place,
)
from tentacle.devserver.storage.model import (
    UNSCOPED,
    Activity,
    ActivityStatus,
    Clock,
    HealthStatus,
    Json,
    KeptScript,
    LogElement,
    LogEntry,
    NewTask,
    Resource,
    Task,
    TaskState,
    iso,
    iso_milliseconds,
)
from tentacle.devserver.storage.policies import POLICY_DEFAULTS, next_by_cron, read_script
from tentacle.devserver.storage.store import ApiKey, Store
from tentacle.devserver.storage.task_store import TaskStore
