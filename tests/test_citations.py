"""Whoever follows a citation arrives: every document that is named exists, and so does every heading.

A citation names a document and headings of it: `docs/spec/NAME.md, "Heading"`, or `..., "One" and "Another"`.  It may
be wrapped over lines.  Every other mention of a Markdown file must at least name one that is in the repository.
Within a specification `see "Heading"` names a heading of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PLACES = ("tentacle", "tests", "benchmarks", "packaging", "docs", "README.md", "Makefile", "pyproject.toml")
NOT_TEXT = {".json", ".pyc"}
NOT_OURS = {".venv", ".git", "__pycache__", "node_modules", "dist"}

# The end of a line, with the indentation or the sign of a comment that the next one begins with.
LINE_END = re.compile(r"[ \t]*\n[ \t]*(?:#:?[ \t]+)?")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#{1,6} +(.+?)[ #]*$", re.MULTILINE)
DOCUMENT = re.compile(r"(?<![\w@/.*-])(?:\.{1,2}/)*([\w.-]+(?:/[\w.-]+)*\.md)(?!\w)")
CITED_HEADINGS = re.compile(r'`?,? *((?:\\?"[^"\n]{1,100}"(?: and )?)+)')
SEE = re.compile(r'\bsee "([^"]+)"')
QUOTED = re.compile(r'"([^"\\]+)\\?"')


def headings(markdown: str) -> list[str]:
    """The headings of a document, in order; what stands in code is none."""
    return HEADING.findall(FENCED.sub("", markdown))


def citations(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every Markdown file that `text` names, with the headings that it names of it."""
    joined = LINE_END.sub(" ", text)
    for found in DOCUMENT.finditer(joined):
        cited: tuple[str, ...] = ()
        if found[1].startswith("docs/") and joined[found.end() :].lstrip("`").startswith(","):
            behind = CITED_HEADINGS.match(joined, found.end())
            cited = tuple(QUOTED.findall(behind[1])) if behind else ()
        yield found[1], cited


def problems(text: str, documents: dict[str, list[str]]) -> list[str]:
    """What is wrong with the citations in `text`; `documents` are the headings of each document by its path.

    A path may be shortened at its beginning, but not one in `docs`.
    """
    wrong = []
    for name, cited in citations(text):
        exists = name in documents or (
            not name.startswith("docs/") and any(path.endswith(f"/{name}") for path in documents)
        )
        if not exists:
            wrong.append(f"there is no {name}")
        else:
            wrong += [f"{name} has no heading {heading!r}" for heading in cited if heading not in documents[name]]
    return wrong


def inner_problems(markdown: str) -> list[str]:
    """What is wrong with the references of a document to itself."""
    own = headings(markdown)
    named = SEE.findall(LINE_END.sub(" ", FENCED.sub("", markdown)))
    return [f"it has no heading {heading!r}" for heading in named if heading not in own]


def twice(found: list[str]) -> list[str]:
    """The headings that a citation could not tell apart."""
    return sorted({heading for heading in found if found.count(heading) > 1})


def our_files() -> Iterator[Path]:
    for place in PLACES:
        path = ROOT / place
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if (
                file.is_file()
                and file.suffix not in NOT_TEXT
                and not NOT_OURS & set(file.parts)
                and file != Path(__file__)
            ):
                yield file


def our_documents() -> dict[str, list[str]]:
    return {
        path.relative_to(ROOT).as_posix(): headings(path.read_text(encoding="utf-8"))
        for path in ROOT.rglob("*.md")
        if not NOT_OURS & set(path.relative_to(ROOT).parts)
    }


def test_every_citation_leads_somewhere() -> None:
    documents = our_documents()
    wrong = [
        f"{file.relative_to(ROOT)}: {problem}"
        for file in our_files()
        for problem in problems(file.read_text(encoding="utf-8", errors="replace"), documents)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_citation_goes_by_a_number() -> None:
    """A number is no heading, so nobody would notice when it leads nowhere any more."""
    numbered = re.compile(r"\bsections? \d", re.IGNORECASE)
    assert not [file for file in our_files() if numbered.search(file.read_text(encoding="utf-8", errors="replace"))]


def test_every_reference_within_a_specification_leads_somewhere() -> None:
    wrong = [
        f"{path.name}: {problem}"
        for path in sorted((ROOT / "docs" / "spec").glob("*.md"))
        for problem in inner_problems(path.read_text(encoding="utf-8"))
    ]
    assert not wrong, "\n".join(wrong)


def test_every_heading_of_a_specification_is_one_of_a_kind() -> None:
    ambiguous = {path: twice(found) for path, found in our_documents().items() if path.startswith("docs/spec/")}
    assert ambiguous
    assert not {path: found for path, found in ambiguous.items() if found}


# --- the checker itself ----------------------------------------------------------------------------------------------

SPEC = "# One\n\n## Exit codes\n\n```\n# no heading\n```\n\n### Log entries around a script\n"
KNOWN = {
    "docs/spec/a.md": headings(SPEC),
    "docs/spec/b.md": ["What it's for", "x and y"],
    "tests/vectors/README.md": [],
}


def test_headings() -> None:
    assert headings(SPEC) == ["One", "Exit codes", "Log entries around a script"]
    assert twice(["a", "b", "a"]) == ["a"]


def test_references_within_a_document() -> None:
    assert inner_problems(f'{SPEC}as told; see "Exit\ncodes".') == []
    assert inner_problems(f'{SPEC}see "Exit" there, see "no heading"') == [
        "it has no heading 'Exit'",
        "it has no heading 'no heading'",
    ]


@pytest.mark.parametrize(
    "text",
    [
        'See docs/spec/a.md, "Exit codes".',
        'codes (docs/spec/a.md, "Exit codes" and "Log entries around a script"): more',
        'codes (docs/spec/a.md, "Exit codes" and docs/spec/b.md, "x and y").',
        '    """Codes (docs/spec/a.md,\n    "Log entries around\n    a script").\n    """',
        '    # Codes (docs/spec/a.md, "Log entries\n    # around a script").',
        'in Markdown: `docs/spec/a.md`, "Exit codes"',
        "no heading: docs/spec/a.md, which is short; `vectors/README.md`, README.md",
        'quoted text behind it is none: docs/spec/a.md says "whatever"',
        'in a text: "docs/spec/a.md, \\"Exit codes\\" and so on"',
        "b.mdx and https://example.com/nothing.md and *.md and NAME.mdown",
        'docs/spec/b.md, "What it\'s for"',
    ],
)
def test_what_is_right(text: str) -> None:
    assert problems(text, KNOWN) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('docs/spec/a.md, "Exit code"', "docs/spec/a.md has no heading 'Exit code'"),
        ('docs/spec/a.md, "exit codes"', "docs/spec/a.md has no heading 'exit codes'"),
        ('docs/spec/a.md, "Exit codes" and "Nothing"', "docs/spec/a.md has no heading 'Nothing'"),
        ('docs/spec/a.md, "Exit codes" and docs/spec/b.md, "One"', "docs/spec/b.md has no heading 'One'"),
        ('    # (docs/spec/a.md, "Log\n    # entries")', "docs/spec/a.md has no heading 'Log entries'"),
        ('(docs/spec/a.md,\n    "no heading").', "docs/spec/a.md has no heading 'no heading'"),
        ('`docs/spec/a.md`, "Nothing"', "docs/spec/a.md has no heading 'Nothing'"),
        ('"docs/spec/a.md, \\"Nothing\\""', "docs/spec/a.md has no heading 'Nothing'"),
        ("(old-notes.md 3.6, 1 to 3)", "there is no old-notes.md"),
        ("`spec/a.md.md`", "there is no spec/a.md.md"),
        ("docs/a.md", "there is no docs/a.md"),
        ("docs/spec/c.md", "there is no docs/spec/c.md"),
        ("../shared/notes.md", "there is no shared/notes.md"),
    ],
)
def test_what_is_wrong(text: str, problem: str) -> None:
    assert problems(text, KNOWN) == [problem]


def test_that_the_files_are_looked_at() -> None:
    names = {file.relative_to(ROOT).as_posix() for file in our_files()}
    assert {"README.md", "tentacle/wire/rules.py", "packaging/tentacle.service", "tests/vectors/README.md"} <= names


def test_every_test_that_a_document_names_exists() -> None:
    named = {
        (document, file, name)
        for document in (ROOT / "docs").rglob("*.md")
        for file, name in re.findall(r"((?:packaging/)?tests/[\w/]+\.py)::(\w+)", document.read_text(encoding="utf-8"))
    }
    assert len(named) > 10
    for document, file, name in named:
        assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE), f"{document}: {name}"
