"""The permissions by their names, and the roles and teams that every installation has.

Knows names of the API (docs/spec/rest.md, "Access to the embedded server"); must not know who holds what.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from tentacle.devserver.storage.fields import LIST_LIMIT, Reader
from tentacle.devserver.storage.model import Json

_EVERY_VERB: Final = ("View", "Create", "Edit", "Delete")
SYSTEM_PERMISSIONS: Final = frozenset(
    {
        *("AdministerSystem", "ConfigureServer", "UserView", "UserEdit", "UserInvite", "UserRoleView", "UserRoleEdit"),
        *("EventView", "TaskView", "TaskCreate", "TaskCancel", "TaskEdit"),
        *(kind + verb for kind in ("Space", "Team", "Subscription") for verb in _EVERY_VERB),
    }
)
"""What a role can grant for the whole server."""

_KINDS: Final = (
    "Account ActionTemplate Artifact Certificate Deployment DeploymentFreeze Environment Feed GitCredential Insights "
    "Interruption LibraryVariableSet Lifecycle Machine MachinePolicy Process Project ProjectGroup Proxy Release "
    "Runbook RunbookRun Subscription TagSet Task Team Tenant Trigger Variable Worker"
)
SPACE_PERMISSIONS: Final = frozenset(
    {
        *(kind + verb for kind in _KINDS.split() for verb in _EVERY_VERB),
        *("BuildInformationAdminister", "BuildInformationPush", "BuiltInFeedAdminister", "BuiltInFeedDownload"),
        *("BuiltInFeedPush", "CertificateExportPrivateKey", "DefectReport", "DefectResolve", "EventView"),
        *("InterruptionSubmit", "InterruptionViewSubmitResponsible", "TaskCancel", "VariableEditUnscoped"),
        "VariableViewUnscoped",
    }
)
"""What a role can grant in one space; some of these can be granted for the whole server too."""

ADMINISTRATORS: Final = "teams-administrators"
EVERYONE: Final = "teams-everyone"
_ADMINISTRATOR_ROLE: Final = "userroles-systemadministrator"
BUILT_IN_ROLES: Final[Mapping[str, Json]] = {
    _ADMINISTRATOR_ROLE: {
        "Name": "System Administrator",
        "GrantedSystemPermissions": sorted(SYSTEM_PERMISSIONS),
        "GrantedSpacePermissions": sorted(SPACE_PERMISSIONS),
    },
    "userroles-spacemanager": {"Name": "Space Manager", "GrantedSpacePermissions": sorted(SPACE_PERMISSIONS)},
}
BUILT_IN_TEAMS: Final[Mapping[str, Json]] = {
    ADMINISTRATORS: {"Name": "Octopus Administrators"},
    EVERYONE: {"Name": "Everyone"},
}
"""By id, each with what a client would send to make it."""

BUILT_IN_GRANT: Final[Json] = {"TeamId": ADMINISTRATORS, "UserRoleId": _ADMINISTRATOR_ROLE}


def granted(known: frozenset[str]) -> Reader:
    """A list of permissions, in any case; each is kept as it is written here."""
    names = {name.lower(): name for name in known}

    def read(value: Any) -> list[str]:
        if not isinstance(value, list) or len(value) > LIST_LIMIT:
            raise ValueError("must be a list of permissions")
        unknown = [str(given)[:60] for given in value if str(given).lower() not in names]
        if unknown:
            raise ValueError(f"must not hold {', '.join(unknown[:5])}: there is no such permission here")
        return sorted({names[given.lower()] for given in value})

    return read


def permission_descriptions() -> Json:
    """Returns all permissions by name, with what is to be known of each."""
    return {
        name: {
            "Description": re.sub(r"(?<!^)(?=[A-Z])", " ", name).capitalize(),
            "SupportedRestrictions": [],
            "CanApplyAtSpaceLevel": name in SPACE_PERMISSIONS,
            "CanApplyAtSystemLevel": name in SYSTEM_PERMISSIONS,
        }
        for name in sorted(SPACE_PERMISSIONS | SYSTEM_PERMISSIONS)
    }
