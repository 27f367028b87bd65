"""`polling-proxy`: the HTTP proxy through which a polling Tentacle reaches its servers (tentacle-cli.md 3.10)."""

from __future__ import annotations

from tentacle.cli.frame.command import command
from tentacle.cli.frame.options import facts_option, instance_options
from tentacle.cli.frame.proxy_options import ProxyWishes, extra_proxy_options, proxy_options, set_proxy
from tentacle.cli.frame.result import Result
from tentacle.cli.frame.session import InstanceOptions, Session


@command("polling-proxy")
@instance_options
@proxy_options
@extra_proxy_options
@facts_option
def polling_proxy(session: Session, *, where: InstanceOptions, wishes: ProxyWishes) -> Result:
    """Without `--proxyEnable=true` the proxy is off."""
    return set_proxy(session, where, wishes, polling=True)
