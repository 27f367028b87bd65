"""What the forms of the pages do: each is a request or two to the API.

Knows the API's requests; must not know HTTP.  An action returns the address of the page to go to, or, where the same
page goes on, what it shows in addition.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Final

from tentacle.devserver.page.asked import Asked
from tentacle.devserver.storage import Invalid, iso

Action = Callable[[Asked], Awaitable[str | dict[str, Any]]]

KEY_LASTS: Final = timedelta(days=1)
"""A key that is made to register a machine is not needed for longer."""


def _asking(method: str, path: str, then: str, document: Mapping[str, Any] | None = None, **given: str) -> Action:
    """Returns the action that makes one request and goes on to the page `then`.

    Members of the `document` are also those that the form has under the names `given`.  In braces are the parameters of
    the page's address, or the form's `id`, and in `then` members of what is answered.
    """

    async def act(asked: Asked) -> str:
        sent = {**(document or {}), **{member: asked.given(name) for member, name in given.items()}}
        known = {"id": asked.given("id"), **asked.path}
        answered = await asked.ask(method, path.format_map(known), sent)
        return asked.at(then.format_map({**answered, **known}))

    return act


async def discover(asked: Asked) -> dict[str, Any]:
    where = {name: asked.given(name) for name in ("host", "port", "type")}
    return {"found": (await asked.get("workers/discover", **where))["Endpoint"]}


async def add_worker(asked: Asked) -> str:
    """Adds the machine that was found and whose proof was compared."""
    if "confirmed" not in asked.form:
        raise Invalid("Compare the two first, and say that they are the same.")
    endpoint: dict[str, Any] = {"CommunicationStyle": asked.given("type")}
    if asked.given("type") == "Ssh":
        port = asked.given("port")
        endpoint |= {"Host": asked.given("host"), "Port": int(port) if port.isdecimal() else port}
        endpoint |= {"AccountId": asked.given("account"), "Fingerprint": asked.given("proof")}
    else:
        endpoint |= {"Uri": asked.given("uri"), "Thumbprint": asked.given("proof")}
    made = await asked.ask("POST", "workers", {**_worker(asked), "Endpoint": endpoint})
    return asked.at(f"workers/{made['Id']}")


def _worker(asked: Asked) -> dict[str, Any]:
    policy = asked.given("policy") or None
    return {"Name": asked.given("name"), "WorkerPoolIds": list(asked.form.get("pool", ())), "MachinePolicyId": policy}


async def add_account(asked: Asked) -> str:
    key = asked.given("key")
    proof = {"PrivateKeyFile": key.strip() + "\n"} if key else {"Password": asked.given("password")}
    kind = "SshKeyPair" if key else "UsernamePassword"
    if key and asked.given("password"):
        proof["PrivateKeyPassphrase"] = asked.given("password")
    secrets = {name: {"HasValue": True, "NewValue": value} for name, value in proof.items()}
    account = {"Name": asked.given("name"), "Username": asked.given("username"), "AccountType": kind, **secrets}
    made = await asked.ask("POST", "accounts", account)
    return asked.at(f"workers/new?style=ssh&account={made['Id']}")


async def check_health(asked: Asked) -> str:
    machine = await asked.get("{kind}/{id}".format_map(asked.path))
    arguments = {"MachineIds": [machine["Id"]]}
    return await _begin(asked, "Health", f"Health check of {machine['Name']}", arguments)


async def _begin(asked: Asked, name: str, description: str, arguments: dict[str, Any]) -> str:
    task = await asked.ask("POST", "tasks", {"Name": name, "Description": description, "Arguments": arguments})
    return asked.at(f"tasks/{task['Id']}")


async def save_machine(asked: Asked) -> str:
    changed = _worker(asked) if asked.path["kind"] == "workers" else {"Name": asked.given("name")}
    path = "{kind}/{id}".format_map(asked.path)
    await asked.ask("PUT", path, changed)
    return asked.at(f"{path}?done=saved")


async def run_script(asked: Asked) -> str:
    """Runs a script on a pool or on a machine, whose kinds their ids tell."""
    target = asked.given("target")
    kind = {"WorkerPools": "WorkerPools", "Machines": "Machines"}.get(target.partition("-")[0], "Workers")
    where = {"WorkerPoolIds" if kind == "WorkerPools" else "MachineIds": [target] if target else []}
    before = (await asked.get(f"tasks/{again}"))["Arguments"] if (again := asked.given("from")) else {}
    arguments = {name: before[name] for name in ("Packages", "Timeout") if name in before}
    arguments |= {"ScriptBody": asked.given("body"), "Syntax": asked.given("syntax"), "TargetType": kind, **where}
    return await _begin(asked, "AdHocScript", asked.given("description"), arguments)


async def make_key(asked: Asked) -> dict[str, Any]:
    expires = iso(asked.api.server.clock() + KEY_LASTS)
    made = await asked.ask("POST", "users/me/apikeys", {"Purpose": "To register a worker", "Expires": expires})
    return {"key": made["ApiKey"]}


NEW_WORKER: Final[Mapping[str, Action]] = {"discover": discover, "add": add_worker, "account": add_account}
MACHINE: Final[Mapping[str, Action]] = {
    "check": check_health,
    "save": save_machine,
    "disable": _asking("PUT", "{kind}/{id}", "{kind}/{id}", {"IsDisabled": True}),
    "enable": _asking("PUT", "{kind}/{id}", "{kind}/{id}", {"IsDisabled": False}),
    "delete": _asking("DELETE", "{kind}/{id}", "workers?done=deleted"),
}
POOLS: Final[Mapping[str, Action]] = {
    "add": _asking("POST", "workerpools", "workerpools?done=added", Name="name"),
    "rename": _asking("PUT", "workerpools/{id}", "workerpools?done=saved", Name="name"),
    "default": _asking("PUT", "workerpools/{id}", "workerpools?done=saved", {"IsDefault": True}),
    "delete": _asking("DELETE", "workerpools/{id}", "workerpools?done=deleted"),
}
TASK: Final[Mapping[str, Action]] = {
    "cancel": _asking("POST", "tasks/{id}/cancel", "tasks/{id}"),
    "rerun": _asking("POST", "tasks/rerun/{id}", "tasks/{Id}"),
}
