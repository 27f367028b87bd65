"""What the server keeps: resources and tasks as values, the shapes that documents must have, and the database.

The lowest folder of the server: knows none of the others, and neither HTTP nor the wire.  This is its door; the others
import from here and from no module inside but the three that are tables: `fields`, `kinds` and `permissions`.
"""

from tentacle.devserver.storage import fields, kinds, permissions
from tentacle.devserver.storage.database import Database
from tentacle.devserver.storage.fields import Invalid
from tentacle.devserver.storage.kinds import Kind
from tentacle.devserver.storage.model import (
    UNSCOPED,
    Activity,
    ActivityStatus,
    Clock,
    HealthStatus,
    Json,
    LogElement,
    LogEntry,
    NewTask,
    Resource,
    Task,
    TaskState,
    iso,
    iso_milliseconds,
)
from tentacle.devserver.storage.packages import Packages, received_name
from tentacle.devserver.storage.policies import POLICY_DEFAULTS, next_by_cron, read_script
from tentacle.devserver.storage.store import ApiKey, Event, Store
from tentacle.devserver.storage.task_store import TaskStore
