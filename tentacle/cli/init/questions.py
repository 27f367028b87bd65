"""Questions to a person, each of which an option answers too.

Asks on a terminal only.  Elsewhere it collects the options that are missing, so that all are named at once.  Must not
know what is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TextIO, TypeVar

from tentacle.errors import TentacleError
from tentacle.observe.text import visible

T = TypeVar("T")

EXIT_INTERRUPTED: Final = 130
"""What a shell shows for a program that SIGINT ended."""
_ATTEMPTS: Final = 5
_LONGEST_ANSWER: Final = 4096


class Unanswered(TentacleError):
    """Answers that nobody gave."""


class Wizard:
    """`defaults`: every question that has a default is answered by it, and nobody is asked.

    `terminal`: whether there is somebody to ask.
    """

    def __init__(self, stdin: TextIO, stdout: TextIO, *, defaults: bool, terminal: bool | None = None) -> None:
        self._stdin, self._stdout = stdin, stdout
        there = stdin.isatty() and stdout.isatty() if terminal is None else terminal
        self.asks = there and not defaults
        self._defaults = defaults
        self._missing: list[str] = []

    def answer(
        self, option: str, given: str | None, question: str, check: Callable[[str], T], *, default: str | None = None
    ) -> T | None:
        """What `check` makes of the option, of the answer, or of the default; `None` for what is missing.

        Raises what `check` raises for an option or a default, and for an answer that stays wrong.
        """
        if given is not None and given.strip():
            return check(given)
        if self.asks:
            return self._ask(question, check, default)
        if self._defaults and default is not None:
            return check(default)
        self.miss(option)
        return None

    def agrees(self, question: str, *, default: bool) -> bool:
        """Yes or no; the default where nobody is asked."""
        if not self.asks:
            return default
        answer = self._ask(f"{question} (yes/no)", _yes_or_no, "yes" if default else "no")
        return bool(answer)

    def miss(self, option: str) -> None:
        """Notes that an option is needed."""
        self._missing.append(option)

    def need_all(self) -> None:
        """Raises `Unanswered` when anything was missing, with all of it."""
        if not self._missing:
            return
        if self._defaults:
            raise Unanswered(
                f"There is no default for: {', '.join(self._missing)}", hint="Give it on the command line."
            )
        raise Unanswered(
            f"This is not a terminal, and these options are missing: {', '.join(self._missing)}",
            hint="Give them, or --yes for the defaults of those that have one.",
        )

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Ctrl-C ends everything, as it does in every program, but here it is said that nothing has happened."""
        try:
            yield
        except KeyboardInterrupt:
            if not self.asks:
                raise
            self._stdout.write("\n")
            raise Unanswered("Interrupted; nothing was changed.", exit_code=EXIT_INTERRUPTED) from None

    def tell(self, lines: Sequence[str]) -> None:
        """Shows lines to whoever is asked."""
        if self.asks:
            self._stdout.writelines(f"{visible(line)}\n" for line in lines)
            self._stdout.flush()

    def _ask(self, question: str, check: Callable[[str], T], default: str | None) -> T:
        for attempt in range(_ATTEMPTS):
            line = self._reply(f"{question}{f' [{default}]' if default else ''}: ")
            if not line:
                self._stdout.write("\n")
                raise Unanswered("The input ended before all questions were answered; nothing was changed.")
            try:
                return check(line.strip() or default or "")
            except TentacleError as error:
                if attempt == _ATTEMPTS - 1:
                    raise
                self.tell([f"  {text}" for text in (error.message, error.hint) if text])
        raise AssertionError("the last attempt returns or raises")

    def _reply(self, prompt: str) -> str:
        with self.interruptible():
            self._stdout.write(visible(prompt))
            self._stdout.flush()
            return self._stdin.readline(_LONGEST_ANSWER)


def _yes_or_no(text: str) -> bool:
    if text.lower() in {"y", "yes"}:
        return True
    if text.lower() in {"n", "no"}:
        return False
    raise TentacleError(f"'{text:.40}' is neither yes nor no.")
