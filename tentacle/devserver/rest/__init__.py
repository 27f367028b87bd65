"""The REST API: routes, documents, keys and sessions.

Uses `storage`, `worker` and `tasks`.  This is its door; what lies above imports from here and from no module inside.
"""

from tentacle.devserver.rest.access import VIEW_TASKS, needs_of
from tentacle.devserver.rest.answers import SAFE, NotSignedIn
from tentacle.devserver.rest.app import application
from tentacle.devserver.rest.auth import API_KEY, Authentication, new_api_key
from tentacle.devserver.rest.server import Server, ServerIdentity
