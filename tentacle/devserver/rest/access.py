"""What a request needs and what a user may: permissions, from the roles of the teams that the user is in.

Knows resources and permissions; must not know HTTP.  A route that says nothing of what it needs is for administrators.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tentacle.devserver.rest.answers import Forbidden
from tentacle.devserver.storage import UNSCOPED, Kind, Resource, Store, kinds, permissions


class Who(enum.Enum):
    """Who may use a route: everybody, who is signed in, or who holds a permission."""

    ANYBODY = enum.auto()
    SIGNED_IN = enum.auto()
    HOLDER = enum.auto()


@dataclass(frozen=True)
class Needs:
    """What a route needs.  One of `permissions` is enough; who has none is told the first.

    They must be held in the space of the request; where it names none, in the default one, or with `anywhere` in any.
    With `oneself` they are not needed for a request that is about the user who sends it.
    """

    permissions: tuple[str, ...] = ()
    who: Who = Who.HOLDER
    anywhere: bool = False
    oneself: bool = False


ADMINISTRATOR: Final = Needs(("AdministerSystem",))
ANYBODY: Final = Needs(who=Who.ANYBODY)
SIGNED_IN: Final = Needs(who=Who.SIGNED_IN)
VIEW_TASKS: Final = Needs(("TaskView",), anywhere=True)

_VERBS: Final = {"GET": "View", "POST": "Create", "PUT": "Edit", "DELETE": "Delete"}
_FAMILIES: Final = {"WorkerPools": "Worker", "ScopedUserRoles": "Team", "Packages": "Feed"}
"""What permissions call a kind, where that is not the kind's name."""

_SAID_OTHERWISE: Final = {
    "TagSetView": "TenantView",
    **{one + verb: f"{one}Edit" for one in ("Worker", "User", "UserRole") for verb in ("Create", "Delete")},
}


def needs_of(kind: Kind, method: str, *, anywhere: bool = False, oneself: bool = False) -> Needs:
    """Returns what a change or a look at a resource of this kind needs."""
    if kind is kinds.SPACES and method == "GET":
        # Everybody sees the spaces in which they may do something, and no others.
        return SIGNED_IN
    permission = _FAMILIES.get(kind.prefix, kind.singular) + _VERBS[method]
    permission = _SAID_OTHERWISE.get(permission, permission)
    also = ("ConfigureServer",) if permission.startswith("Worker") else ()
    return Needs((permission, *also), anywhere=anywhere, oneself=oneself)


@dataclass(frozen=True)
class Rights:
    """A user and what the user may do: `system` for the whole server, `spaces` by the id of a space.

    The permissions of the space `UNSCOPED` hold in every one.
    """

    user: Resource
    system: frozenset[str] = frozenset()
    spaces: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def in_space(self, space: str) -> frozenset[str]:
        return self.system | self.spaces.get(UNSCOPED, frozenset()) | self.spaces.get(space, frozenset())

    def holds(self, needs: Needs, space: str | None) -> bool:
        """Returns whether the user may do that in `space`, or with `None` in any space."""
        if needs.who is not Who.HOLDER:
            return True
        held = self.in_space(space) if space is not None else self.system.union(*self.spaces.values())
        return not held.isdisjoint(needs.permissions)

    def require(self, needs: Needs, space: str | None) -> None:
        """Raises `Forbidden`, which names what is missing."""
        if not self.holds(needs, space):
            raise missing(needs.permissions[0])

    def sees(self, space: str) -> bool:
        """Returns whether the user may do anything in a space, or see all of them."""
        return bool(self.spaces.get(space) or self.spaces.get(UNSCOPED)) or "SpaceView" in self.system

    def require_all_of(self, other: Rights) -> None:
        """Raises `Forbidden` unless the user may do whatever `other` may: nobody can give away more than they have."""
        beyond = other.system - self.system
        for space, given in other.spaces.items():
            beyond |= given - self.in_space(space)
        if beyond:
            raise missing("AdministerSystem" if "AdministerSystem" in beyond else min(beyond))


def missing(permission: str) -> Forbidden:
    """The refusal, in the original's words."""
    return Forbidden(
        "You do not have permission to perform this action. Please contact your Octopus administrator. "
        f"Missing permission: {permission}"
    )


async def rights_of(store: Store, user: Resource) -> Rights:
    """Returns what a user may, by all the teams that hold the user."""
    teams = {
        team.id
        for team in await store.all(kinds.TEAMS, UNSCOPED)
        if team.id == permissions.EVERYONE or user.id in team.body["MemberUserIds"]
    }
    rights = await rights_of_teams(store, user, teams)
    managed = {
        space.id: permissions.SPACE_PERMISSIONS
        for space in await store.all(kinds.SPACES, UNSCOPED)
        if user.id in space.body.get("SpaceManagersTeamMembers", ())
        or teams & set(space.body.get("SpaceManagersTeams", ()))
    }
    return Rights(user, rights.system, {**rights.spaces, **managed})


async def rights_of_teams(store: Store, user: Resource, teams: set[str]) -> Rights:
    """Returns what the roles of these teams give."""
    roles = {role.id: role.body for role in await store.all(kinds.USER_ROLES, UNSCOPED)}
    found = Rights(user)
    for grant in await store.all(kinds.SCOPED_ROLES, UNSCOPED):
        role = roles.get(grant.body["UserRoleId"])
        if role is not None and grant.body["TeamId"] in teams:
            more = role_rights(user, role, grant.body["SpaceId"] or UNSCOPED)
            spaces = {space: found.spaces.get(space, frozenset()) | given for space, given in more.spaces.items()}
            found = Rights(user, found.system | more.system, {**found.spaces, **spaces})
    return found


def role_rights(user: Resource, role: Mapping[str, Any], space: str) -> Rights:
    """Returns what a role gives in one space; where it holds everywhere, also for the whole server."""
    system = frozenset(role["GrantedSystemPermissions"]) if space == UNSCOPED else frozenset()
    return Rights(user, system, {space: frozenset(role["GrantedSpacePermissions"])})


async def rights_of_user(store: Store, user: str) -> Rights | None:
    """Returns what the user with this id may, or `None` when there is no such user, or no active one."""
    found = await store.get(kinds.USERS, UNSCOPED, user)
    return await rights_of(store, found) if found is not None and found.body["IsActive"] else None
