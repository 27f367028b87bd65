"""Questions to a person, each of which an option answers too.

They are asked on a terminal only.  Elsewhere the options that are missing are collected, so that one error names them
all.  A person may go back from each question to the one before.  Must not know what is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TextIO, TypeVar

from tentacle.cli.frame.result import EXIT_INTERRUPTED
from tentacle.errors import TentacleError
from tentacle.observe.text import visible

T = TypeVar("T")

BACK: Final = "back"
"""The answer to any question that leads to the one before."""
INPUT_ENDED: Final = "The input ended before all questions were answered; nothing was changed."
_ATTEMPTS: Final = 5
_LONGEST_ANSWER: Final = 4096


class Unanswered(TentacleError):
    """A question without an answer."""


class GoBack(Exception):
    """A person wants to answer the question before this one again."""


class Questions:
    """With `defaults` no question is asked, and the default is the answer.

    `terminal` says whether there is a person to ask; None: where both streams are a terminal.
    """

    def __init__(self, stdin: TextIO, stdout: TextIO, *, defaults: bool, terminal: bool | None = None) -> None:
        self._stdin, self._stdout = stdin, stdout
        there = stdin.isatty() and stdout.isatty() if terminal is None else terminal
        self.asks = there and not defaults
        self._defaults = defaults
        self._missing: list[str] = []
        self._before: dict[str, str] = {}
        """What was answered to each question; asked again, that is the default."""
        self._settled: list[tuple[str, Any]] = []
        """What was asked, in order, and what came of each; the first `_at` of them were asked again by now."""
        self._at = 0

    def answer(
        self, option: str, given: str | None, question: str, check: Callable[[str], T], *, default: str | None = None
    ) -> T | None:
        """What `check` returns for the option `given`, else for the person's answer, else for the default.

        None where there is none of them; the option is then missing.  Raises what `check` raises for an option or a
        default, and for an answer that stays wrong.
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
        """Yes or no; the default where no questions are asked."""
        if not self.asks:
            return default

        def check(text: str) -> bool:
            if text.lower() not in {"y", "yes", "n", "no"}:
                raise TentacleError(f"'{text:.40}' is neither yes nor no.")
            return text.lower() in {"y", "yes"}

        return self._ask(f"{question} (yes/no)", check, "yes" if default else "no")

    def settled(self, question: str, ask: Callable[[], T]) -> T:
        """What `ask` returns, which asks a person; on the way back to an earlier question it is not asked again."""
        at = self._at
        if at == len(self._settled):
            self._settled.append((question, ask()))
        elif self._settled[at][0] != question:
            raise AssertionError(f"{question!r} is not what was asked before")
        self._at = at + 1
        found: T = self._settled[at][1]
        return found

    def all_of(self, ask: Callable[[], T]) -> T:
        """What `ask` returns, which asks all questions in order.

        Who answers `back` is asked the question before again; what was answered before that one stays.
        """
        while True:
            self._at = 0
            try:
                return ask()
            except GoBack:
                del self._settled[max(self._at - 1, 0) :]

    def miss(self, option: str) -> None:
        """Notes that the option is missing."""
        self._missing.append(option)

    def need_all(self) -> None:
        """Raises `Unanswered` when options are missing, with their names."""
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
        """Turns Ctrl-C into an error that says that nothing has happened, where a person is asked."""
        try:
            yield
        except KeyboardInterrupt:
            if not self.asks:
                raise
            self._stdout.write("\n")
            raise Unanswered("Interrupted; nothing was changed.", exit_code=EXIT_INTERRUPTED) from None

    def tell(self, lines: Sequence[str]) -> None:
        """Shows lines to the person, where questions are asked, unless they were shown on the way here before."""
        if self.asks and self._at == len(self._settled):
            self._stdout.writelines(f"{visible(line)}\n" for line in lines)
            self._stdout.flush()

    def _ask(self, question: str, check: Callable[[str], T], default: str | None) -> T:
        return self.settled(question, lambda: self._asked(question, check, default))

    def _asked(self, question: str, check: Callable[[str], T], default: str | None) -> T:
        default = self._before.get(question, default)
        for attempt in range(_ATTEMPTS):
            with self.interruptible():
                self._stdout.write(visible(f"{question}{f' [{default}]' if default else ''}: "))
                self._stdout.flush()
                line = self._stdin.readline(_LONGEST_ANSWER)
            if not line:
                self._stdout.write("\n")
                raise Unanswered(INPUT_ENDED)
            if line.strip().lower() == BACK:
                raise GoBack
            try:
                answer = check(line.strip() or default or "")
            except TentacleError as error:
                if attempt == _ATTEMPTS - 1:
                    raise
                self.tell([f"  {text}" for text in (error.message, error.hint) if text])
            else:
                self._before[question] = line.strip() or default or ""
                return answer
        raise AssertionError("the last attempt returns or raises")
