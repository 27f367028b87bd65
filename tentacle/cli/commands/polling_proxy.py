"""`polling-proxy`: the HTTP proxy through which a polling Tentacle reaches its servers (tentacle-cli.md 3.10)."""

from __future__ import annotations

from dataclasses import replace

from tentacle.cli.command import command, order_given
from tentacle.cli.options import facts_option, instance_options
from tentacle.cli.proxy_settings import (
    ProxyWishes,
    changed_proxy,
    extra_proxy_options,
    proxy_facts,
    proxy_options,
    warn_of_unused,
    with_password,
)
from tentacle.cli.result import Result
from tentacle.cli.session import InstanceOptions, Session


@command("polling-proxy")
@instance_options
@proxy_options
@extra_proxy_options
@facts_option
def polling_proxy(session: Session, *, where: InstanceOptions, wishes: ProxyWishes) -> Result:
    """Without `--proxyEnable=true` the proxy is off."""
    file = session.choose(where)
    wishes, order = with_password(session, wishes, order_given())
    changed, lines = changed_proxy(file.load().polling_proxy, wishes, order)
    file.update(lambda s: replace(s, polling_proxy=changed_proxy(s.polling_proxy, wishes, order)[0]))
    warn_of_unused(wishes, order)
    return Result(tuple(lines), facts=proxy_facts(changed))
