"""A configuration file as YAML, by the library: reads what `plain_document.py` does not, and writes all.

An error names the line.  Must not know what a document is about.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tentacle.errors import one_line
from tentacle.settings.errors import CORRECT_IT, ConfigurationError

TEXT_TAG = "tag:yaml.org,2002:str"


class Block(str):
    """A text that is written as a block of lines."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """No references are written, as none are read."""
        return True


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuses references: with them a small file can grow without bound, and a rewrite would lose them."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "references (*name) are not supported", mark)
        return super().compose_node(parent, index)


def _write_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # PyYAML folds rare line separators when it writes them unescaped; between double quotes it escapes them.
    style = "|" if isinstance(text, Block) else None if text.isprintable() else '"'
    return dumper.represent_scalar(TEXT_TAG, text, style=style)


_Dumper.add_representer(str, _write_text)
_Dumper.add_representer(Block, _write_text)


def read(text: str, source: Path) -> tuple[dict[Any, Any], dict[str, int]]:
    """Returns the values of the document in `text`, and the number of the line of each key and each entry of a list,
    three levels deep.  Raises `ConfigurationError`.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        lines = dict(_lines(node, source))
        values = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        raise _damaged(source, error.problem_mark or error.context_mark, error.problem) from None
    except (yaml.YAMLError, ValueError, ArithmeticError, LookupError, AttributeError, TypeError) as error:
        # All but the first are how PyYAML takes a value that is not what its tag says.
        raise _damaged(source, None, type(error).__name__) from None
    except RecursionError:
        raise _damaged(source, None, "it is nested too deeply") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise _damaged(source, None, "it must hold keys with values")
    return values, lines


def written(document: Mapping[Any, Any]) -> str:
    """Returns the text of a document; a `Block` in it is written as lines."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=math.inf)


def _damaged(source: Path, mark: yaml.Mark | None, problem: str | None) -> ConfigurationError:
    line = "" if mark is None else f", line {mark.line + 1}"
    what = one_line(ValueError(problem or "it is no YAML"))
    return ConfigurationError(
        f"The configuration file '{source}'{line} is not valid YAML: {what}.",
        hint=CORRECT_IT,
    )


def _lines(node: yaml.Node | None, source: Path, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, int]]:
    """Yields each key with its line, three levels deep.  Raises `ConfigurationError` for a key that is there twice."""
    if depth > 3:
        return
    if isinstance(node, yaml.SequenceNode):
        for number, entry in enumerate(node.value):
            yield f"{prefix}[{number}]", entry.start_mark.line + 1
            yield from _lines(entry, source, f"{prefix}[{number}].", depth + 1)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if name and name in seen:
                raise _damaged(source, key.start_mark, f"the key {name!r:.60} is there twice")
            seen.add(name)
            yield f"{prefix}{name}", key.start_mark.line + 1
            inner = f"{prefix}{name}" if isinstance(value, yaml.SequenceNode) else f"{prefix}{name}."
            yield from _lines(value, source, inner, depth + 1)
