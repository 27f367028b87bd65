"""One command run as a step of another, through the very code that its own command line goes through.

Knows click's contexts.  Must not know any command.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

from tentacle.cli.frame.command_table import entry_of
from tentacle.cli.frame.credentials import API_KEY_VARIABLE, BEARER_TOKEN_VARIABLE, PASSWORD_VARIABLE
from tentacle.cli.frame.result import Result
from tentacle.cli.frame.session import Session
from tentacle.cli.main import load
from tentacle.octopus.credentials import Credentials


def run_command(session: Session, name: str, arguments: Sequence[str]) -> Generator[str, None, Result]:
    """Gives the command's lines as they come, and its result.  Raises what it raises."""
    command = load(entry_of(name))
    before = session.command_line
    try:
        with command.make_context(name, list(arguments), obj=session) as context:
            outcome = command.invoke(context)
            if isinstance(outcome, Result):
                yield from outcome.lines
                return outcome
            result: Result = yield from outcome
            yield from result.lines
            return result
    finally:
        session.command_line = before


@contextlib.contextmanager
def signed_in(session: Session, credentials: Credentials) -> Iterator[None]:
    """While it is entered, commands find `credentials` where they look for the environment's; nobody else sees them."""
    outer = session.surroundings
    ours = (API_KEY_VARIABLE, BEARER_TOKEN_VARIABLE, PASSWORD_VARIABLE)
    environ = {name: value for name, value in outer.environ.items() if name not in ours}
    secrets = zip(ours, (credentials.api_key, credentials.bearer_token, credentials.password), strict=True)
    environ |= {name: value for name, value in secrets if value}
    session.surroundings = replace(outer, environ=environ)
    try:
        yield
    finally:
        session.surroundings = outer
