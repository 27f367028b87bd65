"""The original's commands for agents inside Kubernetes, which this is not: listed and described, and always refused.

Knows which options the original declares for them (docs/spec/command-line.md, "Commands for other kinds of hosts").
"""

from __future__ import annotations

from typing import Any, Final, NoReturn

from tentacle.cli.commands.register import register_with, register_worker
from tentacle.cli.frame.command import TentacleCommand, TentacleOption, command, option
from tentacle.cli.frame.options import Decorator, in_order, json_option
from tentacle.errors import TentacleError

_SHARED: Final = (
    *("instance", "config", "server", "apiKey", "bearerToken", "u", "p", "ignoreSslErrors", "name", "policy", "h"),
    *("f", "comms-style", "proxy", "space", "server-comms-port", "server-comms-address", "server-web-socket"),
    *("server-subscription-id", "tentacle-comms-port"),
)
_OF_TARGET: Final = (*_SHARED, "env", "r", "tenant", "tenanttag", "tenanted-deployment-participation")
_OF_WORKER: Final = (*_SHARED, "workerpool")
"""The original's options of `register-with` and `register-worker`, by first name."""

_NAMESPACE: Final = option(
    "--default-namespace",
    help="The default namespace by kubernetes steps if no namespace is supplied (if unset, defaults to 'default')",
)
_TARGET_HINT: Final = "To register this machine as a deployment target, use 'Tentacle register-with'."
_WORKER_HINT: Final = "To register this machine as a worker, use 'Tentacle register-worker'."


def _refused(name: str, hint: str, *options: Decorator) -> TentacleCommand:
    """The command `name`, which takes `options` and is refused whatever they are, with the original's text."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise TentacleError("This command can only be run from within a Kubernetes agent.", hint=hint)

    return command(name)(in_order(*options, json_option)(refuse))


def _refused_like(like: TentacleCommand, names: tuple[str, ...], name: str, hint: str, *own: Any) -> TentacleCommand:
    """As `_refused`, with the options of the command `like` whose first names are `names`, and then `own`."""
    made = _refused(name, hint, *own)
    shared = [one for one in like.params if isinstance(one, TentacleOption) and one.described.names[0] in names]
    made.params[:0] = shared
    return made


register_k8s_cluster = _refused_like(register_with, _OF_TARGET, "register-k8s-cluster", _TARGET_HINT, _NAMESPACE)
register_k8s_target = _refused_like(register_with, _OF_TARGET, "register-k8s-target", _TARGET_HINT, _NAMESPACE)
register_k8s_worker = _refused_like(register_worker, _OF_WORKER, "register-k8s-worker", _WORKER_HINT)

migrate_preinstalled_k8s_config = _refused(
    "migrate-preinstalled-k8s-config",
    "To take over an instance of the original on this machine, use 'Tentacle import-instance'.",
    option("--source-config-map-name", help="The name of the config map created by the pre-installation hook"),
    option("--source-secret-name", help="The name of the secret created by the pre-installation hook"),
    option("--destination-config-map-name", help="The name of the config map of the running agent"),
    option("--destination-secret-name", help="The name of the secret of the running agent"),
    option("--namespace", help="The namespace that holds the config maps and secrets"),
)
