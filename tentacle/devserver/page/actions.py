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


# --- a new worker ----------------------------------------------------------------------------------------------


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


# --- one worker ------------------------------------------------------------------------------------------------


def _path(asked: Asked) -> str:
    return f"{asked.path['kind']}/{asked.path['id']}"


async def check_health(asked: Asked) -> str:
    machine = await asked.get(_path(asked))
    arguments = {"MachineIds": [machine["Id"]]}
    return await _begin(asked, "Health", f"Health check of {machine['Name']}", arguments)


async def _begin(asked: Asked, name: str, description: str, arguments: dict[str, Any]) -> str:
    task = await asked.ask("POST", "tasks", {"Name": name, "Description": description, "Arguments": arguments})
    return asked.at(f"tasks/{task['Id']}")


async def save_machine(asked: Asked) -> str:
    changed = _worker(asked) if asked.path["kind"] == "workers" else {"Name": asked.given("name")}
    await asked.ask("PUT", _path(asked), changed)
    return asked.at(f"{_path(asked)}?done=saved")


def disabling(disabled: bool) -> Action:
    async def act(asked: Asked) -> str:
        await asked.ask("PUT", _path(asked), {"IsDisabled": disabled})
        return asked.at(_path(asked))

    return act


async def delete_machine(asked: Asked) -> str:
    await asked.ask("DELETE", _path(asked))
    return asked.at("workers?done=deleted")


# --- pools -----------------------------------------------------------------------------------------------------


def _changing_pool(method: str, done: str, **given: Any) -> Action:
    async def act(asked: Asked) -> str:
        pool = asked.given("id")
        named = {} if given or method == "DELETE" else {"Name": asked.given("name")}
        await asked.ask(method, f"workerpools/{pool}" if pool else "workerpools", {**named, **given})
        return asked.at(f"workerpools?done={done}")

    return act


# --- tasks -----------------------------------------------------------------------------------------------------


async def run_script(asked: Asked) -> str:
    """Runs a script on a pool or on a machine, whose kinds their ids tell."""
    target = asked.given("target")
    kind = {"WorkerPools": "WorkerPools", "Machines": "Machines"}.get(target.partition("-")[0], "Workers")
    where = {"WorkerPoolIds" if kind == "WorkerPools" else "MachineIds": [target] if target else []}
    before = (await asked.get(f"tasks/{again}"))["Arguments"] if (again := asked.given("from")) else {}
    arguments = {name: before[name] for name in ("Packages", "Timeout") if name in before}
    arguments |= {"ScriptBody": asked.given("body"), "Syntax": asked.given("syntax"), "TargetType": kind, **where}
    return await _begin(asked, "AdHocScript", asked.given("description"), arguments)


async def cancel(asked: Asked) -> str:
    await asked.ask("POST", f"tasks/{asked.path['id']}/cancel")
    return asked.at(f"tasks/{asked.path['id']}")


async def run_again(asked: Asked) -> str:
    return asked.at(f"tasks/{(await asked.ask('POST', 'tasks/rerun/' + asked.path['id']))['Id']}")


async def make_key(asked: Asked) -> dict[str, Any]:
    expires = iso(asked.api.server.clock() + KEY_LASTS)
    made = await asked.ask("POST", "users/me/apikeys", {"Purpose": "To register a worker", "Expires": expires})
    return {"key": made["ApiKey"]}


NEW_WORKER: Final[Mapping[str, Action]] = {"discover": discover, "add": add_worker, "account": add_account}
MACHINE: Final[Mapping[str, Action]] = {
    "check": check_health,
    "save": save_machine,
    "disable": disabling(True),
    "enable": disabling(False),
    "delete": delete_machine,
}
POOLS: Final[Mapping[str, Action]] = {
    "add": _changing_pool("POST", "added"),
    "rename": _changing_pool("PUT", "saved"),
    "default": _changing_pool("PUT", "saved", IsDefault=True),
    "delete": _changing_pool("DELETE", "deleted"),
}
SCRIPT: Final[Mapping[str, Action]] = {"run": run_script}
TASK: Final[Mapping[str, Action]] = {"cancel": cancel, "rerun": run_again}
COMMANDS: Final[Mapping[str, Action]] = {"key": make_key}
