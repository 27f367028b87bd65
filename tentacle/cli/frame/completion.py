"""Completion scripts for bash, zsh and fish, made from the commands and their options.

Knows how the three shells complete, and what kinds of values options take.  The scripts ask for the names of instances
when they need them, by `list-instances`; names are only ever compared and inserted, never evaluated.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from tentacle.cli.frame.command import TentacleCommand, TentacleOption
from tentacle.cli.frame.given_values import ArgumentKind
from tentacle.cli.frame.help_text import HELP_OPTION
from tentacle.cli.frame.values import shown_name, true_or_false
from tentacle.records import dataclass

FILES, FOLDERS, INSTANCES = "(files)", "(folders)", "(instances)"
"""Kinds of values that the shell or `list-instances` knows; any other value stands for itself."""

_OFFERED: Final = {ArgumentKind.FILE: (FILES,), ArgumentKind.FOLDER: (FOLDERS,), ArgumentKind.INSTANCE: (INSTANCES,)}
_PROGRAMS: Final = ("tentacle", "Tentacle")


@dataclass(frozen=True)
class Choice:
    """An option of a command: the name that is offered, with dashes, what it is for, and its values.

    `values` is `None` where it takes none; `names` are all of its names.
    """

    name: str
    about: str
    values: tuple[str, ...] | None
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Branch:
    """A command: the words that mean it, what it is for, its options and the words that may follow it."""

    name: str
    about: str
    options: tuple[Choice, ...]
    words: tuple[str, ...] = ()


def branch_of(command: TentacleCommand, words: Iterable[str] = ()) -> Branch:
    """What may be typed behind one command."""
    options = [param for param in command.params if isinstance(param, TentacleOption) and not param.hidden]
    choices = (*map(_choice, options), Choice("--help", HELP_OPTION.description, None))
    return Branch(command.entry.name, _sentence(command.entry.description), choices, tuple(words))


def _choice(option: TentacleOption) -> Choice:
    name = shown_name(option)
    values: tuple[str, ...] | None
    if option.is_flag:
        values = None
    elif option.callback is true_or_false:
        values = ("true", "false")
    else:
        values = option.values or _OFFERED.get(option.kind, ())
    return Choice(name, _sentence(option.help or ""), values, tuple(option.opts))


def _sentence(text: str) -> str:
    """The first sentence of a help text: shells show one line."""
    head = text.split(". ", maxsplit=1)[0].split("; ", maxsplit=1)[0].split(" - e.g.", maxsplit=1)[0]
    return head.rstrip(".")[:100]


def bash(branches: Sequence[Branch]) -> str:
    """For bash 4 and newer, with or without the package bash-completion."""
    options = "".join(f"    {one.name}) words=({_words(o.name for o in one.options)}) ;;\n" for one in branches)
    after = "".join(f"    {one.name}) words+=({_words(one.words)}) ;;\n" for one in branches if one.words)
    return _BASH.format(
        commands=_words(one.name for one in branches),
        options=options.rstrip("\n"),
        after=after.rstrip("\n") or "    -) ;;",
        values=_cases(branches, "    {names}) {action} ;;\n", _BASH_ACTIONS, "words=({words})").rstrip("\n"),
        programs=" ".join(_PROGRAMS),
    )


def zsh(branches: Sequence[Branch]) -> str:
    """For zsh: a file `_tentacle` in `$fpath`, or sourced after `compinit`."""
    commands = "\n".join(f"    {shlex.quote(f'{one.name}:{one.about}')}" for one in branches)
    options = "\n".join(
        f"    {one.name}) options=(\n"
        + "".join(f"      {shlex.quote(f'{each.name}:{each.about}')}\n" for each in one.options)
        + "    ) ;;"
        for one in branches
    )
    after = "\n".join(f"    {one.name}) after=({_words(one.words)}) ;;" for one in branches if one.words)
    return _ZSH.format(
        commands=commands,
        options=options,
        after=after or "    -) ;;",
        values=_cases(branches, "    {names}) {action} ;;\n", _ZSH_ACTIONS, "compadd -- {words}").rstrip("\n"),
        programs=" ".join(_PROGRAMS),
    )


def fish(branches: Sequence[Branch]) -> str:
    """For fish: a file in `~/.config/fish/completions`."""
    lines = [_FISH]
    for program in _PROGRAMS:
        start = f"complete -c {program}"
        lines.append(f"{start} -f")
        for one in branches:
            lines.append(f"{start} -n __fish_use_subcommand -a {one.name} -d {_fish_quoted(one.about)}")
            when = f"-n '__fish_seen_subcommand_from {one.name}'"
            lines += [f"{start} {when} -a '{' '.join(one.words)}'"] if one.words else []
            for option in one.options:
                values = ""
                if option.values in ((FILES,), (FOLDERS,)):
                    values = " -r -F"
                elif option.values == (INSTANCES,):
                    values = " -x -a '(__tentacle_instances)'"
                elif option.values is not None:
                    values = f" -x -a {_fish_quoted(' '.join(option.values))}"
                name = option.name.lstrip("-")
                lines.append(f"{start} {when} -l {name} -d {_fish_quoted(option.about)}{values}")
    return "\n".join(lines) + "\n"


def _fish_quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _words(words: Iterable[str]) -> str:
    return " ".join(shlex.quote(word) for word in words)


def _cases(branches: Sequence[Branch], form: str, actions: dict[str, str], otherwise: str) -> str:
    """Options by the values that they take, in the syntax of a shell's `case`."""
    by_values: dict[tuple[str, ...], dict[str, None]] = {}
    for branch in branches:
        for option in branch.options:
            if option.values is not None:
                by_values.setdefault(option.values, {}).update(dict.fromkeys(map(str.lower, option.names)))
    return "".join(
        form.format(
            names="|".join(names), action=actions.get("".join(values)) or otherwise.format(words=_words(values))
        )
        for values, names in sorted(by_values.items())
    )


_BASH_ACTIONS: Final = {
    "": "return",
    FILES: "_tentacle_paths -f; return",
    FOLDERS: "_tentacle_paths -d; return",
    INSTANCES: 'mapfile -t words < <(_tentacle_instances "${COMP_WORDS[0]}")',
}
_ZSH_ACTIONS: Final = {
    "": "_message value",
    FILES: "_files",
    FOLDERS: "_files -/",
    INSTANCES: 'found=(${(f)"$(_tentacle_instances)"}); compadd -- $found',
}

_BASH: Final = """\
# Completion of tentacle for bash.  Try it:  source <(tentacle completion bash)
# For good:  tentacle completion bash > /etc/bash_completion.d/tentacle, or without root
#            > ~/.local/share/bash-completion/completions/tentacle

_tentacle_instances() {{
  "$1" list-instances 2>/dev/null | sed -n "s/^Instance '\\(.*\\)' uses configuration '.*'\\.$/\\1/p"
}}

_tentacle_paths() {{
  local path
  compopt -o filenames 2>/dev/null
  while IFS= read -r path; do COMPREPLY+=("$path"); done < <(compgen "$1" -- "$cur")
}}

_tentacle() {{
  local cur="${{COMP_WORDS[COMP_CWORD]}}" prev="${{COMP_WORDS[COMP_CWORD-1]}}" command="" word at quote=1
  local -a words=()
  COMPREPLY=()
  # Bash takes the = of --name=value for a word of its own.
  if [[ $cur == = ]]; then
    cur=""
  elif [[ $prev == = ]]; then
    prev="${{COMP_WORDS[COMP_CWORD-2]}}"
  fi
  for ((at = 1; at < COMP_CWORD; at++)); do
    word="${{COMP_WORDS[at]}}"
    if [[ $word != -* && $word != = ]]; then command="$word"; break; fi
  done
  case "${{prev,,}}" in
{values}
    *) quote=0 ;;
  esac
  if ((quote == 0)); then
    if [[ -z $command ]]; then
      words=({commands})
    else
      case "${{command,,}}" in
{options}
      esac
      case "${{command,,}}" in
{after}
      esac
    fi
  fi
  for word in "${{words[@]}}"; do
    if [[ "${{word,,}}" == "${{cur,,}}"* ]]; then
      if ((quote)); then printf -v word %q "$word"; fi
      COMPREPLY+=("$word")
    fi
  done
}}

complete -F _tentacle {programs}
"""

_ZSH: Final = """\
#compdef tentacle Tentacle
# Completion of tentacle for zsh.  Try it:  source <(tentacle completion zsh)
# For good:  tentacle completion zsh > "${{fpath[1]}}/_tentacle"

_tentacle_instances() {{
  "$words[1]" list-instances 2>/dev/null | sed -n "s/^Instance '\\(.*\\)' uses configuration '.*'\\.$/\\1/p"
}}

_tentacle_values() {{
  local -a found
  case "${{1:l}}" in
{values}
    *) return 1 ;;
  esac
  return 0
}}

_tentacle() {{
  local command word
  local -a commands options after
  commands=(
{commands}
  )
  for word in "${{(@)words[2,CURRENT-1]}}"; do
    if [[ $word != -* ]]; then command="${{word:l}}"; break; fi
  done
  if [[ $PREFIX == --*=* ]]; then
    word="${{PREFIX%%=*}}"
    compset -P '*='
    _tentacle_values "$word"
    return
  fi
  if [[ -z $command ]]; then
    _describe -t commands command commands
    return
  fi
  if [[ $words[CURRENT-1] == --* && $words[CURRENT-1] != *=* ]] && _tentacle_values "$words[CURRENT-1]"; then
    return
  fi
  case "$command" in
{options}
  esac
  case "$command" in
{after}
  esac
  (( $#after )) && [[ $PREFIX != -* ]] && compadd -- $after
  _describe -t options option options
}}

if [[ "${{funcstack[1]}}" == _tentacle ]]; then
  _tentacle "$@"
else
  compdef _tentacle {programs}
fi
"""

_FISH: Final = """\
# Completion of tentacle for fish.  Try it:  tentacle completion fish | source
# For good:  tentacle completion fish > ~/.config/fish/completions/tentacle.fish

function __tentacle_instances
    set -l program (commandline -opc)[1]
    $program list-instances 2>/dev/null | string replace -rf "^Instance '(.*)' uses configuration '.*'\\\\.\\$" '$1'
end
"""

SHELLS: Final[dict[str, Callable[[Sequence[Branch]], str]]] = {"bash": bash, "zsh": zsh, "fish": fish}
