"""Registers this machine with an Octopus Server, and deregisters it.

Knows the order of steps and their messages (docs/spec/rest.md, "Steps of a registration" and "A name that is taken" and
"Deregistering").  Knows nothing of where names, thumbprints and addresses come from, or of what is stored afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from enum import Enum

from tentacle.octopus.client import OctopusClient
from tentacle.octopus.errors import NotFound, OctopusError, RegistrationError, UnexpectedAnswer, ValidationFailed
from tentacle.octopus.id_lookup import (
    check_tenant_tags,
    environment_ids,
    find_by_name,
    policy_id,
    pool_ids,
    proxy_id,
    tenant_ids,
)
from tentacle.octopus.json_document import JsonDocument, printable, same_name
from tentacle.octopus.link_templates import expand, parameters_of
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
from tentacle.records import dataclass


class MachineKind(Enum):
    """A worker or a deployment target; the value is the word in messages."""

    WORKER = "worker"
    TARGET = "machine"

    @property
    def link(self) -> str:
        """The name of the link to the collection of this kind."""
        return "Workers" if self is MachineKind.WORKER else "Machines"


@dataclass(frozen=True)
class WorkerRole:
    """What a worker is to belong to: pools by name, slug or id."""

    pools: tuple[str, ...]

    kind = MachineKind.WORKER


@dataclass(frozen=True)
class TargetRole:
    """What a deployment target is to belong to: environments and tenants by name, slug or id."""

    environments: tuple[str, ...]
    roles: tuple[str, ...]
    tenants: tuple[str, ...] = ()
    tenant_tags: tuple[str, ...] = ()
    participation: Participation = Participation.UNTENANTED

    kind = MachineKind.TARGET


@dataclass(frozen=True)
class RegistrationRequest:
    """What is to be registered.

    `policy`, `space` and `proxy` are names; None is the server's default policy, the default space and no proxy.
    `proxy` replaces the `proxy_id` of a listening endpoint.  `force` allows an existing machine to be overwritten.
    `idempotent` allows it where the existing machine has our thumbprint, and then only if something differs.  With
    `adopt` a polling machine keeps the subscription that the server knows.  `server_thumbprint` is that of the server
    where it is known; else the server is asked.
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
    server_thumbprint: str | None = None


@dataclass(frozen=True)
class RegistrationResult:
    """What was registered; `created` is False when the machine existed already.

    `changed` says in words what was overwritten.  `endpoint` is how the server reaches this machine now.
    """

    machine_id: str
    name: str
    server_thumbprint: str
    space_name: str | None
    created: bool
    endpoint: Endpoint
    changed: tuple[str, ...] = ()


@dataclass(frozen=True)
class _KnownToServer:
    """What the server says before it is changed: its thumbprint, the collection, and the machine of that name in it."""

    scope: Scope
    thumbprint: str
    template: str
    existing: JsonDocument | None
    machine: Machine


@dataclass(frozen=True)
class DeregistrationResult:
    """The names of what was deleted; `server_thumbprint` is None when the server did not tell it afterwards."""

    names: tuple[str, ...]
    server_thumbprint: str | None


async def register(
    client: OctopusClient, request: RegistrationRequest, before_change: Callable[[], None] = lambda: None
) -> RegistrationResult:
    """Creates the machine on the server, or overwrites the one of that name when `request` allows it.

    `before_change` is called just before the only request that changes something.  Raises `RegistrationError` with the
    original's messages, and any `OctopusError`.  When it raises, nothing was changed on the server, unless the answer
    to that request was lost.
    """
    known = await _look_up(client, request)
    scope, thumbprint, template = known.scope, known.thumbprint, known.template
    existing, machine = known.existing, known.machine
    if existing is None:
        before_change()
        try:
            identifier = await _create(client, template, machine)
        except ValidationFailed:
            # Another command may have registered this machine since we looked.
            existing = await find_by_name(client, template, request.name) if request.idempotent else None
            if existing is None:
                raise
            _check_overwriting(existing, scope, request)
            kept = _with_known_subscription(replace(request, endpoint=machine.endpoint), existing)
            machine = replace(machine, endpoint=kept.endpoint)
        else:
            return RegistrationResult(identifier, machine.name, thumbprint, scope.space_name, True, machine.endpoint)
    changed = differences(machine, existing)
    if changed or not request.idempotent:
        before_change()
        await client.update(self_link(existing, template), update_body(machine, existing))
    identifier = existing.require("Id")
    return RegistrationResult(identifier, machine.name, thumbprint, scope.space_name, False, machine.endpoint, changed)


async def check_request(client: OctopusClient, request: RegistrationRequest) -> None:
    """Asks the server all that `register` asks before it changes anything.  Raises what that raises."""
    await _look_up(client, request)


async def _look_up(client: OctopusClient, request: RegistrationRequest) -> _KnownToServer:
    scope = await choose_scope(client, request.space)
    check_version(client.version, scope.root)
    thumbprint = request.server_thumbprint or await server_thumbprint(client, scope)
    template = scope.link(request.role.kind.link)
    existing = await find_by_name(client, template, request.name)
    if existing is not None:
        _check_overwriting(existing, scope, request)
        request = _with_known_subscription(request, existing)
    return _KnownToServer(scope, thumbprint, template, existing, await _machine_with_ids(client, scope, request))


async def deregister(
    client: OctopusClient,
    kind: MachineKind,
    thumbprint: str,
    space: str | None,
    multiple: bool,
    on_delete: Callable[[str], None],
) -> DeregistrationResult:
    """Deletes the machines of this kind whose endpoint has `thumbprint`; more than one only with `multiple`.

    `on_delete` gets a line before each deletion.  Raises `RegistrationError` with the original's messages, and any
    `OctopusError`.
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
        name = printable(machine.text("Name") or machine.require("Id"))
        on_delete(f"Deleting {kind.value} '{name}' from the Octopus Server...")
        await client.delete(self_link(machine, template))
        names.append(name)
    try:
        trusted: str | None = await server_thumbprint(client, scope)
    except OctopusError:
        # The machines are deleted all the same.
        trusted = None
    return DeregistrationResult(tuple(names), trusted)


async def server_thumbprint(client: OctopusClient, scope: Scope) -> str:
    """The thumbprint of the certificate that the server shows on the Halibut wire, 40 digits in upper case.

    Raises `UnexpectedAnswer` when the server gives none, and any `OctopusError`.
    """
    link = scope.link("CertificateConfiguration", "Certificates")
    certificate = await client.get(expand(link, id="certificate-global"))
    thumbprint = certificate.require("Thumbprint").strip()
    if not re.fullmatch(r"[0-9A-Fa-f]{40}", thumbprint):
        raise UnexpectedAnswer("The thumbprint of the Octopus Server's certificate is not 40 hexadecimal digits.")
    return thumbprint.upper()


def check_version(own: str, root: JsonDocument) -> None:
    """Raises `RegistrationError` when the server is too old for this agent (docs/spec/rest.md, "Version check")."""
    version = root.text("Version") or ""
    major = re.match(r"\s*v?(\d{1,9})\b", version)
    if major is None:
        raise RegistrationError("Unable to determine the Octopus Server version.")
    ours, theirs = own.partition(".")[0], int(major[1])
    if ours != "0" and 0 < theirs < 3:
        raise RegistrationError(f"You cannot register a {ours}.* Octopus Tentacle with a {theirs}.* Octopus Server.")


def _check_overwriting(existing: JsonDocument, scope: Scope, request: RegistrationRequest) -> None:
    word = request.role.kind.value
    if request.idempotent and not request.force:
        if not has_thumbprint(existing, request.endpoint.thumbprint):
            raise RegistrationError(
                f"A {word} named '{request.name}' already exists, and it is another machine.",
                hint=f"Give this machine another --name, or take the {word} over with --force.",
            )
    elif not request.force:
        raise RegistrationError(
            f"A {word} named '{request.name}' already exists in the environment. "
            f"Use the 'force' parameter if you intended to update the existing {word}."
        )
    space = existing.text("SpaceId")
    if space is not None and scope.space_id is not None and space != scope.space_id:
        raise RegistrationError(
            f"The {word} named '{request.name}' belongs to the space {printable(space)} and not to {scope.space_id}.",
            hint="Name the right space with --space.",
        )


def _with_known_subscription(request: RegistrationRequest, existing: JsonDocument) -> RegistrationRequest:
    """`request` with the subscription that the server knows, where `adopt` allows it: nobody polls ours, it is new."""
    endpoint, known = request.endpoint, existing.object("Endpoint").text("Uri") or ""
    ours = has_thumbprint(existing, endpoint.thumbprint) and known.lower().startswith("poll://")
    if request.adopt and ours and isinstance(endpoint, PollingEndpoint):
        return replace(request, endpoint=replace(endpoint, subscription=subscription_uri(known)))
    return request


async def _machine_with_ids(client: OctopusClient, scope: Scope, request: RegistrationRequest) -> Machine:
    """The requested machine, with every name replaced by the server's id."""
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
    async def already() -> JsonDocument | None:
        return await client.find(
            expand(template, name=machine.name),
            lambda item: (
                same_name(item.text("Name"), machine.name) and has_thumbprint(item, machine.endpoint.thumbprint)
            ),
        )

    return (await client.create(expand(template), create_body(machine), already=already)).require("Id")


async def machines_with(client: OctopusClient, template: str, thumbprint: str) -> list[JsonDocument]:
    """The machines of a collection that have exactly this thumbprint; the server may list others too."""
    try:
        found = await client.collection(expand(template, id="all", thumbprint=thumbprint))
    except NotFound:
        if "id" not in parameters_of(template):
            raise
        found = await client.collection(expand(template, thumbprint=thumbprint))
    return [machine for machine in found if has_thumbprint(machine, thumbprint)]


def self_link(machine: JsonDocument, template: str) -> str:
    """The link to one machine: its own, else from the template of its collection."""
    link = machine.link("Self")
    if link is not None:
        return link
    if "id" not in parameters_of(template):
        return machine.require_link("Self")
    return expand(template, id=machine.require("Id"))
