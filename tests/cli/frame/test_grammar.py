"""The option syntax: every spelling of the original, and properties that hold for any arguments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.cli.frame.grammar import Given, Option, OptionSyntaxError, parse

PORT = Option(("port",), takes_value=True)
NAME = Option(("n", "name"), takes_value=True)
FORCE = Option(("f", "force"), takes_value=False)
QUIET = Option(("q",), takes_value=False)
ALL = (PORT, NAME, FORCE, QUIET)


def given_in(*arguments: str) -> list[tuple[str, str | None]]:
    parsed = parse(arguments, ALL)
    assert parsed.extra == ()
    return [(one.name, one.value) for one in parsed.given]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port=1"],
        ["-port=1"],
        ["/port=1"],
        ["--port:1"],
        ["--port", "1"],
        ["-port", "1"],
        ["/port", "1"],
        ["--PORT=1"],
    ],
)
def test_all_spellings_mean_the_same(arguments: list[str]) -> None:
    assert given_in(*arguments) == [("port", "1")]


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("--name=https://x:1", "https://x:1"),
        ("--name:y=z", "y=z"),
        ("--name=", ""),
        ("-nVALUE", "VALUE"),
        ("-n value", " value"),
        ("-nA=B", "A=B"),
        ("--name=two\nlines", "two\nlines"),
    ],
)
def test_only_the_first_separator_splits(argument: str, value: str) -> None:
    assert given_in(argument) == [("n", value)]


@pytest.mark.parametrize("value", ["--port=2", "-f", "/etc/passwd", "", "--", "--unknown"])
def test_a_value_is_the_next_argument_whatever_it_looks_like(value: str) -> None:
    assert given_in("--name", value, "--force") == [("n", value), ("f", None)]


@pytest.mark.parametrize("argument", ["--force", "--force=false", "-f", "/force", "--force-", "--force+", "--FORCE:0"])
def test_a_flag_is_on_whatever_is_attached(argument: str) -> None:
    assert given_in(argument) == [("f", None)]


def test_letters_are_bundled_and_the_first_with_a_value_takes_the_rest() -> None:
    assert given_in("-fq") == [("f", None), ("q", None)]
    assert given_in("-fqnrest") == [("f", None), ("q", None), ("n", "rest")]
    assert given_in("-fn", "rest") == [("f", None), ("n", "rest")]


def test_repeats_are_all_told_in_order() -> None:
    assert given_in("--port=1", "--name", "a", "--port=2") == [("port", "1"), ("n", "a"), ("port", "2")]


def test_a_later_letter_that_is_unknown_is_an_error() -> None:
    with pytest.raises(OptionSyntaxError, match=r"^Cannot bundle unregistered option '-x'\.$"):
        parse(["-fx"], ALL)


@pytest.mark.parametrize("argument", ["--port", "-port", "-n", "-fn"])
def test_a_value_that_is_missing_at_the_end_is_an_error(argument: str) -> None:
    with pytest.raises(OptionSyntaxError, match="Missing required value for option"):
        parse(["--force", argument], ALL)


@pytest.mark.parametrize("argument", ["word", "--unknown=x", "/usr/bin/x", "-", "/", "--=x", "-xq", "--f-orce", ""])
def test_what_is_no_option_is_left_over(argument: str) -> None:
    parsed = parse(["--force", argument, "--port", "1"], ALL)
    assert parsed.extra == (argument,)
    assert [one.name for one in parsed.given] == ["f", "port"]


def test_a_lone_double_dash_has_no_effect() -> None:
    assert given_in("--", "--port=1") == [("port", "1")]


@given(st.lists(st.text(max_size=8) | st.sampled_from(["--port", "-n", "/force", "-fq", "--", "-", "--name=x"])))
def test_any_arguments_are_read_or_refused(arguments: list[str]) -> None:
    try:
        parsed = parse(arguments, ALL)
    except OptionSyntaxError:
        return
    assert len(parsed.extra) <= len(arguments)
    for one in parsed.given:
        option = next(option for option in ALL if option.name == one.name)
        assert (one.value is not None) == option.takes_value


@given(st.lists(st.tuples(st.sampled_from([PORT, NAME]), st.text())), st.sampled_from(["--", "-", "/"]), st.booleans())
def test_what_is_written_is_read_again(pairs: list[tuple[Option, str]], prefix: str, attached: bool) -> None:
    arguments = [
        text
        for option, value in pairs
        for text in ([f"{prefix}{option.names[-1]}={value}"] if attached else [f"{prefix}{option.names[-1]}", value])
    ]
    assert parse(arguments, ALL).given == tuple(Given(option.name, value) for option, value in pairs)


@given(st.text(alphabet=st.characters(exclude_characters="-/"), min_size=1))
def test_words_are_never_options(word: str) -> None:
    assert parse([word], ALL).extra == (word,)
