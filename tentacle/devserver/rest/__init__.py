"""The REST API: routes, documents, keys and sessions.

Uses `storage`, `worker` and `tasks`.  This is its door; what lies above imports from here and from no module inside.
"""

from tentacle.devserver.rest.access import Rights, rights_of_user
from tentacle.devserver.rest.answers import (
    SAFE,
    Forbidden,
    NotSignedIn,
    Problem,
    ResourceNotFound,
    http_status,
    problem_texts,
    waiting_time,
)
from tentacle.devserver.rest.app import MAX_BODY, Api, application
from tentacle.devserver.rest.auth import API_KEY, Authentication, new_api_key
from tentacle.devserver.rest.routing import ApiRequest, segments_of, whole_body, without_space
from tentacle.devserver.rest.server import Server, ServerIdentity
