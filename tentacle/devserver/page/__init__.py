"""The pages for people: everything outside `/api`.

Uses `rest`, and asks its API what to show and to do, as the user who is signed in: no rule is here that is not there.
This is its door.
"""

from tentacle.devserver.page.commands import first_steps, port_of
from tentacle.devserver.page.site import Site
