from __future__ import annotations

import os.path
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.scripts.errors import InvalidArgumentError, InvalidFileNameError, InvalidTicketError
from tentacle.scripts.workspace.validation import file_parts, fold, require_arguments, require_ticket


@pytest.mark.parametrize(
    "ticket", ["T-1", "20261123-ServerTasks-1--2", "a b", "ž", "x" * 200, "con", "~", "-rf", "a.b"]
)
def test_good_tickets(ticket: str) -> None:
    assert require_ticket(ticket) == ticket


@pytest.mark.parametrize(
    "ticket", ["", ".", "..", "../x", "/x", "x/", "a\\b", "x" * 201, "a\0", "\x1b[2J", "\ud800", ".x"]
)
def test_bad_tickets_are_told_in_one_line(ticket: str) -> None:
    with pytest.raises(InvalidTicketError) as caught:
        require_ticket(ticket)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 220


@given(st.text(max_size=30))
def test_a_ticket_that_is_taken_stays_in_its_directory(ticket: str) -> None:
    try:
        require_ticket(ticket)
    except InvalidTicketError:
        return
    assert os.path.normpath(f"/srv/{ticket}") == f"/srv/{ticket}"
    assert Path(f"/srv/{ticket}").name == ticket


def test_case_makes_no_difference() -> None:
    assert fold("Ticket-Ž") == fold("tICKET-ž")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a", ("a",)),
        ("a/b.c", ("a", "b.c")),
        ("./a//b", ("a", "b")),
        ("a\\..\\b", ("a\\..\\b",)),
        ("...", ("...",)),
        ("a/Output.log", ("a", "Output.log")),
    ],
)
def test_good_file_names(name: str, parts: tuple[str, ...]) -> None:
    assert file_parts(name) == parts


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "/",
        "/a",
        "..",
        "../a",
        "a/..",
        "a/../b",
        "a/",
        "a/.",
        "a\0b",
        "a\nb",
        "x" * 256,
        "a/" * 1100 + "b",
        "./Bootstrap.sh",
        "Output.log",
        ".tentacle",
        ".tentacle/x",
        "\ud800",
    ],
)
def test_bad_file_names(name: str) -> None:
    with pytest.raises(InvalidFileNameError) as caught:
        file_parts(name)
    assert str(caught.value).isprintable()


@given(st.text(st.sampled_from("./\\ab\0\n"), max_size=12))
def test_a_file_name_that_is_taken_stays_in_the_workspace(name: str) -> None:
    try:
        parts = file_parts(name)
    except InvalidFileNameError:
        return
    assert os.path.normpath(f"/srv/T/{name}") == "/".join(("/srv/T", *parts))


def test_arguments() -> None:
    require_arguments(["", "a\nb", "\x01"])
    with pytest.raises(InvalidArgumentError, match="Argument 2"):
        require_arguments(["a", "\0secret"])
