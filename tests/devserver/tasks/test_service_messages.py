"""Service messages and categories."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.contracts.script import ProcessOutput, ProcessOutputSource
from tentacle.devserver.tasks.service_messages import (
    MAX_LINE,
    MOST_VARIABLES,
    Artifact,
    OutputParser,
    ServiceMessage,
    messages_of,
)
from tests.recorded import load_vector

OUT, ERR, DEBUG = ProcessOutputSource.STD_OUT, ProcessOutputSource.STD_ERR, ProcessOutputSource.DEBUG
SOURCES = {"StdOut": OUT, "StdErr": ERR, "Debug": DEBUG}


def categories(*lines: tuple[ProcessOutputSource, str]) -> list[tuple[str, str]]:
    parsed = OutputParser().parse([ProcessOutput(source, 0, text) for source, text in lines])
    return [(entry.category, entry.text) for entry in parsed]


def test_each_stream_has_its_own_category_until_it_is_told_otherwise() -> None:
    assert categories(
        (OUT, "a"),
        (ERR, "b"),
        (DEBUG, "c"),
        (OUT, "##octopus[stdout-verbose]"),
        (OUT, "d"),
        (OUT, "##octopus[stdout-highlight]"),
        (OUT, "e"),
        (ERR, "##octopus[stderr-progress]"),
        (ERR, "f"),
        (OUT, "##octopus[stdout-ignore]"),
        (OUT, "gone"),
        (OUT, "##octopus[stdout-default]"),
        (OUT, "g"),
        (ERR, "##octopus[stderr-default]"),
        (ERR, "h"),
    ) == [
        ("Info", "a"),
        ("Error", "b"),
        ("Verbose", "c"),
        ("Verbose", "d"),
        ("Highlight", "e"),
        ("Verbose", "f"),
        ("Info", "g"),
        ("Error", "h"),
    ]


def test_categories_are_kept_between_pages() -> None:
    parser = OutputParser()
    parser.parse([ProcessOutput(OUT, 0, "##octopus[stdout-warning]")])
    assert [e.category for e in parser.parse([ProcessOutput(OUT, 0, "x")])] == ["Warning"]


@pytest.mark.parametrize(
    "line",
    ["##octopus[", "##octopus[]", "##octopus[a b]", "##octopus[a k='v]", "##octopus[a k=\"v']", "##octopus[1]"],
)
def test_what_only_looks_like_a_message_is_a_line(line: str) -> None:
    assert list(messages_of(line)) == [line]
    assert categories((OUT, line)) == [("Info", line)]


def only_message(line: str) -> ServiceMessage:
    (message,) = messages_of(line)
    assert isinstance(message, ServiceMessage)
    return message


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_messages_for_others_are_shown_as_verbose() -> None:
    line = "##octopus[create-azurewebapptarget name='YQ==']"
    assert categories((OUT, line)) == [("Verbose", line)]
    message = only_message(line)
    assert (message.name, message.attributes) == ("create-azurewebapptarget", {"name": "a"})


@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_message_has_either_quote_and_underscores(quote: str) -> None:
    line = f"##octopus[my_message my_key={quote}YQ=={quote}  other={quote}]'{quote}]"
    if quote == "'":
        line = line.replace("]'", "]")
    message = only_message(line)
    assert message.attributes == {"my_key": "a", "other": "]'" if quote == '"' else "]"}


def test_messages_are_found_anywhere_in_a_line_and_several_in_one() -> None:
    line = "before ##octopus[stdout-warning] between ##octopus[stdout-default]##octopus[stdout-error]after"
    assert categories((OUT, line), (OUT, "next")) == [
        ("Info", "before"),
        ("Warning", "between"),
        ("Error", "after"),
        ("Error", "next"),
    ]


def test_output_variables_are_told_and_a_sensitive_one_is_secret_from_then_on() -> None:
    parser = OutputParser()
    plain = f"##octopus[setVariable name='{base64_of('a')}' value='{base64_of('b')}']"
    secret = (
        f'##octopus[setVariable name="{base64_of("c")}" value="{base64_of("hush")}" sensitive="{base64_of("True")}"]'
    )
    assert [e.text for e in parser.parse([ProcessOutput(OUT, 0, plain), ProcessOutput(OUT, 0, secret)])] == [
        "Output variable 'a' is set to 'b'.",
        "Output variable 'c' is set to a sensitive value.",
    ]
    assert parser.secrets == ["hush"]
    assert parser.variables == {"a": "b", "c": None}
    assert "hush" not in repr(parser.variables)
    for size, told in ((MOST_VARIABLES, "is not kept"), (MOST_VARIABLES - 10, "is set"), (10, "is not kept")):
        large = f"##octopus[setVariable name='n{size}' value='{base64_of('x' * size)}']"
        assert told in parser.parse([ProcessOutput(OUT, 0, large)])[0].text


def test_what_is_to_be_masked_and_what_is_to_be_kept_is_remembered() -> None:
    parser = OutputParser()
    mask = f"##octopus[mask value='{base64_of('swordfish')}']"
    artifact = f"##octopus[createArtifact path='{base64_of('/tmp/a.txt')}' length='MQ==']"
    shown = parser.parse([ProcessOutput(OUT, 0, mask), ProcessOutput(OUT, 0, artifact)])
    assert [e.text for e in shown] == ["The artifact 'a.txt' is collected."]
    assert (parser.secrets, parser.artifacts) == (["swordfish"], [Artifact("/tmp/a.txt", "a.txt")])


def test_progress_is_kept_and_not_shown() -> None:
    parser = OutputParser()
    text = "##octopus[progress percentage='{}' message='{}']"
    encoded = [base64.b64encode(t.encode()).decode() for t in ("250", "nearly — done")]
    assert parser.parse([ProcessOutput(OUT, 0, text.format(*encoded))]) == []
    assert parser.progress == (100, "nearly — done")
    wrong = text.format("bm90IGEgbnVtYmVy", "")
    assert [e.text for e in parser.parse([ProcessOutput(OUT, 0, wrong)])] == [wrong]


def test_a_very_long_line_is_cut() -> None:
    ((_, text),) = categories((OUT, "x" * (MAX_LINE + 5)))
    assert text == "x" * MAX_LINE + "... (cut)"


def test_the_recorded_logs_have_three_categories_and_no_message_left() -> None:
    for run in load_vector("script-runs")["runs"]:
        outputs = [ProcessOutput(SOURCES[line["source"]], 0, line["text"]) for line in run["logs"]]
        entries = OutputParser().parse(outputs)
        assert not any(entry.text.startswith("##octopus[std") for entry in entries)
        if outputs[0].text == "##octopus[stdout-verbose]":
            assert entries[0].category == "Verbose"


names = st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_-]{0,20}\Z")


@given(
    names,
    st.sampled_from("'\""),
    st.dictionaries(names.map(str.lower), st.text(st.characters(exclude_categories=["Cs"]))),
)
def test_every_message_is_read_as_it_was_written(name: str, quote: str, attributes: dict[str, str]) -> None:
    coded = {key: base64.b64encode(value.encode()).decode() for key, value in attributes.items()}
    written = "".join(f" {key}={quote}{value}{quote} " for key, value in coded.items())
    line = f"##octopus[{name}{written}]"
    message = only_message(line)
    assert (message.name, dict(message.attributes)) == (name.lower(), attributes)


@given(st.text(), st.sampled_from([OUT, ERR, DEBUG]), st.integers(-(2**63), 2**63 - 1))
def test_any_line_is_read(text: str, source: ProcessOutputSource, occurred: int) -> None:
    for prefix in ("", "##octopus[", "##octopus[progress "):
        OutputParser().parse([ProcessOutput(source, occurred, prefix + text)])
