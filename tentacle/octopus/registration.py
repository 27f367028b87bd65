"""Registering this machine with an Octopus Server and taking it off again: the conversations as a whole.

Knows the order of steps and their messages (tentacle-cli.md 5.3, 5.6, 5.8).  Knows nothing of where names, thumbprints
and addresses come from, or of what is stored afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from tentacle.octopus.client import OctopusClient
from tentacle.octopus.document import Document, shown
from tentacle.octopus.errors import NotFound, OctopusError, RegistrationError, UnexpectedAnswer, ValidationFailed
from tentacle.octopus.links import expand, parameters_of
from tentacle.octopus.lookups import (
    check_tenant_tags,
    environment_ids,
    find_by_name,
    policy_id,
    pool_ids,
    proxy_id,
    same,
    tenant_ids,
)
from tentacle.octopus.resources import (
    Endpoint,
    ListeningEndpoint,
    Machine,
    Participation,
    PollingEndpoint,
    TargetMembership,
    WorkerMembership,
    create_body,
    differences,
    has_thumbprint,
    subscription_uri,
    update_body,
)
from tentacle.octopus.spaces import Scope, choose_scope


class MachineKind(Enum):
    """A worker or a deployment target; the value is the word messages use."""

    WORKER = "worker"
    TARGET = "machine"

    @property
    def link(self) -> str:
        """The link to the collection of this kind."""
        return "Workers" if self is MachineKind.WORKER else "Machines"


@dataclass(frozen=True)
class WorkerRole:
    """Wanted of a worker: pools by name, slug or id."""

    pools: tuple[str, ...]

    kind = MachineKind.WORKER


@dataclass(frozen=True)
class TargetRole:
    """Wanted of a deployment target: environments and tenants by name, slug or id."""

    environments: tuple[str, ...]
    roles: tuple[str, ...]
    tenants: tuple[str, ...] = ()
    tenant_tags: tuple[str, ...] = ()
    participation: Participation = Participation.UNTENANTED

    kind = MachineKind.TARGET


@dataclass(frozen=True)
class RegistrationRequest:
    """What shall be registered.

    `policy`, `space` and `proxy` are names, None for the server's default, the default space and no proxy; `proxy` is
    for a listening endpoint, whose `proxy_id` it replaces.  `force` allows an existing machine to be overwritten.
    `idempotent` allows it where the existing machine has our thumbprint, and then only if something differs;
    with `adopt` a polling machine keeps the subscription under which the server knows it.
    """

    name: str
    endpoint: Endpoint
    role: WorkerRole | TargetRole
    policy: str | None = None
    space: str | None = None
    proxy: str | None = None
    force: bool = False
    idempotent: bool = False
    adopt: bool = False


@dataclass(frozen=True)
class RegistrationResult:
    """What was registered; `created` is False when there was an existing machine.

    `changed` says in words what was overwritten of it.  `endpoint` is how the server knows this machine now.
    """

    machine_id: str
    name: str
    server_thumbprint: str
    space_name: str | None
    created: bool
    endpoint: Endpoint
    changed: tuple[str, ...] = ()


@dataclass(frozen=True)
class DeregistrationResult:
    """The names of what was deleted; `server_thumbprint` is None when the server no longer told it."""

    names: tuple[str, ...]
    server_thumbprint: str | None


async def register(
    client: OctopusClient, request: RegistrationRequest, before_change: Callable[[], None] = lambda: None
) -> RegistrationResult:
    """Creates the machine on the server, or overwrites the one of that name when `request` allows it.

    `before_change` is called just before the one request that changes something.  Raises `RegistrationError` with the
    original's messages, and any `OctopusError`.  Nothing has been changed on the server when it raises, unless the
    answer to the very last request was lost for good.
    """
    scope = await choose_scope(client, request.space)
    check_version(client.version, scope.root)
    thumbprint = await server_thumbprint(client, scope)
    template = scope.link(request.role.kind.link)
    existing = await find_by_name(client, template, request.name)
    if existing is not None:
        _check_overwriting(existing, scope, request)
        request = _adopting(request, existing)
    machine = await _described(client, scope, request)
    if existing is None:
        before_change()
        try:
            identifier = await _create(client, template, machine)
        except ValidationFailed:
            # Taken since we looked?  By another of us, at the same time: then there is what was wanted.
            existing = await find_by_name(client, template, request.name) if request.idempotent else None
            if existing is None:
                raise
            _check_overwriting(existing, scope, request)
            described = replace(request, endpoint=machine.endpoint)
            machine = replace(machine, endpoint=_adopting(described, existing).endpoint)
        else:
            return RegistrationResult(identifier, machine.name, thumbprint, scope.space_name, True, machine.endpoint)
    changed = differences(machine, existing)
    if changed or not request.idempotent:
        before_change()
        await client.update(self_link(existing, template), update_body(machine, existing))
    identifier = existing.need("Id")
    return RegistrationResult(identifier, machine.name, thumbprint, scope.space_name, False, machine.endpoint, changed)


async def deregister(
    client: OctopusClient,
    kind: MachineKind,
    thumbprint: str,
    space: str | None,
    multiple: bool,
    on_delete: Callable[[str], None],
) -> DeregistrationResult:
    """Deletes the machines of this kind whose endpoint has `thumbprint`; more than one only with `multiple`.

    `on_delete` gets the line that announces each deletion.  Whatever the server lists, only machines with this very
    thumbprint are deleted.  Raises `RegistrationError` with the original's messages, and any `OctopusError`.
    """
    scope = await choose_scope(client, space)
    template = scope.link(kind.link)
    found = await machines_with(client, template, thumbprint)
    if not found:
        raise RegistrationError(f"No {kind.value} was found matching this Tentacle's thumbprint.")
    if len(found) > 1 and not multiple:
        subject = "worker" if kind is MachineKind.WORKER else "Tentacle"
        raise RegistrationError(
            f"The {subject} matches more than one machine on the server. To deregister all of these machines specify "
            "the --multiple flag."
        )
    names = []
    for machine in found:
        name = shown(machine.text("Name") or machine.need("Id"))
        on_delete(f"Deleting {kind.value} '{name}' from the Octopus Server...")
        await client.delete(self_link(machine, template))
        names.append(name)
    try:
        trusted: str | None = await server_thumbprint(client, scope)
    except OctopusError:
        # What was asked for is done; not being told whom we trusted does not undo it.
        trusted = None
    return DeregistrationResult(tuple(names), trusted)


async def server_thumbprint(client: OctopusClient, scope: Scope) -> str:
    """The thumbprint of the certificate that the server shows on the Halibut wire: 40 digits in upper case.

    Raises `UnexpectedAnswer` when the server gives none, and any `OctopusError`.
    """
    link = scope.link("CertificateConfiguration", "Certificates")
    certificate = await client.get(expand(link, id="certificate-global"))
    thumbprint = certificate.need("Thumbprint").strip()
    if not re.fullmatch(r"[0-9A-Fa-f]{40}", thumbprint):
        raise UnexpectedAnswer("The thumbprint of the Octopus Server's certificate is not 40 hexadecimal digits.")
    return thumbprint.upper()


def check_version(own: str, root: Document) -> None:
    """Raises `RegistrationError` when the server is too old for this agent (tentacle-cli.md 5.3, step 10)."""
    version = root.text("Version") or ""
    major = re.match(r"\s*v?(\d{1,9})\b", version)
    if major is None:
        raise RegistrationError("Unable to determine the Octopus Server version.")
    ours, theirs = own.partition(".")[0], int(major[1])
    if ours != "0" and 0 < theirs < 3:
        raise RegistrationError(f"You cannot register a {ours}.* Octopus Tentacle with a {theirs}.* Octopus Server.")


def _check_overwriting(existing: Document, scope: Scope, request: RegistrationRequest) -> None:
    word = request.role.kind.value
    if request.idempotent and not request.force:
        _check_ours(existing, request)
    elif not request.force:
        raise RegistrationError(
            f"A {word} named '{request.name}' already exists in the environment. "
            f"Use the 'force' parameter if you intended to update the existing {word}."
        )
    space = existing.text("SpaceId")
    if space is not None and scope.space_id is not None and space != scope.space_id:
        raise RegistrationError(
            f"The {word} named '{request.name}' belongs to the space {shown(space)} and not to {scope.space_id}.",
            hint="Name the right space with --space.",
        )


def _check_ours(existing: Document, request: RegistrationRequest) -> None:
    if not has_thumbprint(existing, request.endpoint.thumbprint):
        word = request.role.kind.value
        raise RegistrationError(
            f"A {word} named '{request.name}' already exists, and it is another machine: its thumbprint is not ours, "
            f"{request.endpoint.thumbprint}.",
            hint=f"Give this machine another --name, or take the {word} over with --force.",
        )


def _adopting(request: RegistrationRequest, existing: Document) -> RegistrationRequest:
    """`request` with the subscription that the server knows, where it may be kept: ours is new and nobody polls it."""
    endpoint, known = request.endpoint, existing.object("Endpoint").text("Uri") or ""
    ours = has_thumbprint(existing, endpoint.thumbprint) and known.lower().startswith("poll://")
    if request.adopt and ours and isinstance(endpoint, PollingEndpoint):
        return replace(request, endpoint=replace(endpoint, subscription=subscription_uri(known)))
    return request


async def _described(client: OctopusClient, scope: Scope, request: RegistrationRequest) -> Machine:
    """The machine with every name replaced by the server's id."""
    endpoint, role = request.endpoint, request.role
    if request.proxy and isinstance(endpoint, ListeningEndpoint):
        endpoint = replace(endpoint, proxy_id=await proxy_id(client, scope, request.proxy))
    policy = await policy_id(client, scope, request.policy) if request.policy else None
    membership: WorkerMembership | TargetMembership
    match role:
        case WorkerRole(pools):
            membership = WorkerMembership(await pool_ids(client, scope, pools))
        case TargetRole():
            await check_tenant_tags(client, scope, role.tenant_tags)
            membership = TargetMembership(
                await environment_ids(client, scope, role.environments),
                role.roles,
                role.participation,
                await tenant_ids(client, scope, role.tenants),
                role.tenant_tags,
            )
    return Machine(request.name, scope.space_id, endpoint, membership, policy)


async def _create(client: OctopusClient, template: str, machine: Machine) -> str:
    async def ours() -> Document | None:
        return await client.find(
            expand(template, name=machine.name),
            lambda item: same(item.text("Name"), machine.name) and has_thumbprint(item, machine.endpoint.thumbprint),
        )

    return (await client.create(expand(template), create_body(machine), already=ours)).need("Id")


async def machines_with(client: OctopusClient, template: str, thumbprint: str) -> list[Document]:
    """The machines of a collection that have this very thumbprint, whatever the server lists."""
    try:
        found = await client.collection(expand(template, id="all", thumbprint=thumbprint))
    except NotFound:
        if "id" not in parameters_of(template):
            raise
        found = await client.collection(expand(template, thumbprint=thumbprint))
    return [machine for machine in found if has_thumbprint(machine, thumbprint)]


def self_link(machine: Document, template: str) -> str:
    """Where one machine lives: by its own link, else by the template of its collection."""
    link = machine.link("Self")
    if link is not None:
        return link
    if "id" not in parameters_of(template):
        return machine.need_link("Self")
    return expand(template, id=machine.need("Id"))
