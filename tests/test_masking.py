"""The one matcher, against a reference that is too simple to be wrong."""

from __future__ import annotations

import base64
import html
import itertools
import json
import re
import shlex
import subprocess
import textwrap
import time
from collections.abc import Callable, Iterator
from itertools import accumulate
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape as xml_text
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tentacle.masking import MASK, Mask, cover, merged, password_in, worth_masking
from tests.pki import pem

VALUES = st.lists(st.text(alphabet="abc", min_size=1, max_size=6), max_size=5)
TEXTS = st.text(alphabet="abcd", max_size=40)
LINES = st.lists(st.text(alphabet="abcd", max_size=8), max_size=10)


def hidden(text: str, values: list[str]) -> list[bool]:
    """By character, whether it belongs to an occurrence of a value: every place is tried."""
    found = [False] * len(text)
    for value in values:
        for start in range(len(text) - len(value) + 1):
            if text[start : start + len(value)] == value:
                found[start : start + len(value)] = [True] * len(value)
    return found


def seen(covered: str) -> str:
    return covered.replace(MASK, "")


@given(VALUES, TEXTS)
@example(["pass", "password"], "my password")
@example(["aa"], "aaaaa")
@example(["abab", "baba"], "ababab")
def test_exactly_what_belongs_to_a_value_is_covered(values: list[str], text: str) -> None:
    mask = Mask(values)
    marks = hidden(text, values)
    assert seen(mask.cover(text)) == "".join(c for c, is_hidden in zip(text, marks, strict=True) if not is_hidden)
    assert mask.is_in(text) is any(marks)
    assert (MASK in mask.cover(text)) is any(marks)


@given(VALUES, LINES, TEXTS, TEXTS)
def test_lines_are_covered_as_the_text_is_that_they_make(
    values: list[str], lines: list[str], before: str, after: str
) -> None:
    covered = Mask(values).cover_lines(lines, before, after)
    marks = hidden(before + "".join(lines) + after, values)
    borders = list(accumulate(map(len, lines), initial=len(before)))
    for line, shown, start in zip(lines, covered, borders, strict=False):
        own = marks[start : start + len(line)]
        assert seen(shown) == "".join(c for c, is_hidden in zip(line, own, strict=True) if not is_hidden)
        assert (MASK in shown) is any(own)


@given(VALUES, LINES, TEXTS, TEXTS)
def test_what_lies_out_of_reach_does_not_matter(values: list[str], lines: list[str], before: str, after: str) -> None:
    mask = Mask(values)
    near = (before[-mask.reach :] if mask.reach else "", after[: mask.reach])
    assert mask.cover_lines(lines, *near) == mask.cover_lines(lines, before, after)


@given(LINES, TEXTS, TEXTS, st.integers(0, 60))
def test_an_end_can_be_hidden(lines: list[str], before: str, after: str, length: int) -> None:
    covered = Mask(["abc"]).cover_lines(lines, before, after, hidden_end=length)
    text = before + "".join(lines)
    marks = hidden(text + after, ["abc"])[: len(text)]
    marks[max(len(text) - length, 0) :] = [True] * min(length, len(text))
    shown = [c for c, is_hidden in zip(text, marks, strict=True) if not is_hidden]
    in_front = len([is_hidden for is_hidden in marks[: len(before)] if not is_hidden])
    assert "".join(map(seen, covered)) == "".join(shown[in_front:])


@given(VALUES, TEXTS)
def test_an_open_end_is_the_longest_beginning_of_a_value(values: list[str], text: str) -> None:
    lengths = [n for value in values for n in range(1, len(value)) if text.endswith(value[:n])]
    assert Mask(values).open_end(text) == max(lengths, default=0)


def test_very_long_values_are_covered_too() -> None:
    value = "".join(chr(0x4E00 + number) for number in range(1000))
    mask = Mask([value])
    assert seen(mask.cover(f"before {value} after")) == "before  after"
    assert mask.reach < 300
    assert seen(mask.cover(value[:600])) == value[512:600]


def test_spans_that_touch_stay_two_and_those_that_overlap_become_one() -> None:
    assert merged([(2, 4), (0, 2), (3, 6)]) == [(0, 2), (2, 6)]
    assert cover("0123456", [(1, 3), (5, 6)]) == f"0{MASK}34{MASK}6"


def test_a_mask_does_not_show_its_values() -> None:
    mask = Mask(["hunter2"])
    assert "hunter2" not in f"{mask!r} {mask}"
    assert mask
    assert not Mask()
    assert Mask().cover("anything") == "anything"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, []), ("", []), ("abc", []), ("a\r\nb", []), ("abcd", ["abcd"]), ("ab\ncd\r\n", ["ab\ncd\r\n"])],
)
def test_which_values_are_worth_masking(value: str | None, expected: list[str]) -> None:
    assert list(worth_masking([value])) == expected


def test_values_that_overlap_themselves_everywhere_are_few_spans() -> None:
    """A line of a million equal characters, and values made of them."""
    mask = Mask(["x" * length for length in range(4, 9)])
    assert list(mask.spans("x" * 1_000_000)) == [(0, 1_000_000)] * 5
    assert mask.cover("y" + "x" * 1_000_000 + "y") == f"y{MASK}y"


def test_a_long_text_without_a_value_is_looked_through_quickly() -> None:
    mask = Mask([f"secret-{number}-value" for number in range(10)])
    text = "an ordinary line of a deployment's output, step 17 of 80; " * 20_000
    began = time.process_time()
    assert mask.cover_lines([text]) == [text]
    assert time.process_time() - began < 1


SECRETS = ["hunter2!", "p&ss wörd'/ÄÖ!\"$`+<\\", "12345", "two lines\nof 'one' secret/+\n", "A+/=" * 40]


def by_shell(script: str, secret: str) -> str:
    """What bash makes of a secret that it is given as an argument."""
    command = ["bash", "-c", script, "bash", secret]
    return subprocess.run(command, capture_output=True, text=True, env=SHELL, check=True).stdout


SHELL = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
WRITTEN: dict[str, Callable[[str], str]] = {
    "as it is": lambda secret: f"<{secret}>",
    "in a URL": lambda secret: f"http://u:{quote(secret, safe='')}@h",
    "in a query": lambda secret: f"p={quote_plus(secret)}&",
    "in a URL, lower case": lambda secret: re.sub("%..", lambda found: found[0].lower(), quote(secret, safe="")),
    "as JSON": lambda secret: json.dumps({"a": secret}),
    "as JSON, not ASCII": lambda secret: json.dumps({"a": secret}, ensure_ascii=False),
    "as JSON of PHP": lambda secret: json.dumps({"a": secret}).replace("/", "\\/"),
    "as XML": lambda secret: f"<a>{xml_text(secret)}</a>",
    "as an attribute": lambda secret: f"<a b={quoteattr(secret)}/>",
    "as HTML": lambda secret: html.escape(secret),
    "quoted by Python": shlex.quote,
    "quoted by bash": lambda secret: by_shell('echo "${1@Q}"; declare -p 1 2>/dev/null; x=$1; declare -p x', secret),
    "traced by bash": lambda secret: by_shell('exec 2>&1; set -x; : "$1"', secret),
    "by printf %q": lambda secret: by_shell('printf "%q" "$1"', secret),
    "in colours": lambda secret: f"\x1b[1;31m{secret[:3]}\x1b[0m\x1b[K{secret[3:]}\x1b[m",
    "in colours that were made visible": lambda secret: f"\\x1b[31m{secret[:3]}\\x1b[0m{secret[3:]}",
    "a character each": lambda secret: "\x1b[0m".join(secret),
    "in UTF-16": lambda secret: secret.encode("utf-16-le").decode("latin-1"),
    "indented": lambda secret: secret.replace("\n", "\n    "),
    "in hexadecimal": lambda secret: secret.encode().hex(),
    "in hexadecimal capitals": lambda secret: secret.encode().hex().upper(),
    "in hexadecimal of UTF-16": lambda secret: secret.encode("utf-16-le").hex(),
}


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("way", WRITTEN)
def test_a_secret_is_covered_however_it_is_written(way: str, secret: str) -> None:
    text = WRITTEN[way](secret)
    covered = Mask.of_secrets([secret]).cover(text)
    assert MASK in covered
    rest = covered.replace(MASK, "")
    assert not [part for part in windows(text_of(secret)) if part in rest]


@pytest.mark.parametrize("change", [str.upper, str.lower, lambda secret: secret[::-1]])
def test_a_secret_is_covered_in_other_cases_and_backwards_unless_that_may_be_a_word(
    change: Callable[[str], str],
) -> None:
    for secret in ("S3cr3t-Of-Mine", "ÄÖ-Straße-1", "API-abcDEF123456"):
        assert Mask.of_secrets([secret]).cover(f"<{change(secret)}>") == f"<{MASK}>"
    for word in ("Password", "Deploying", "Pass-1"):
        text = f"<{change(word)}>"
        assert Mask.of_secrets([word]).cover(text) == text or change(word) == word


def test_a_command_that_powershell_was_given_encoded_is_covered() -> None:
    secret = "hunter2-of-Production"
    for before in ("", "$", "$p=", "Set-It '"):
        command = f"{before}{secret}'; exit"
        encoded = base64.b64encode(command.encode("utf-16-le")).decode()
        rest = Mask.of_secrets([secret]).cover(f"powershell -EncodedCommand {encoded}").replace(MASK, "")
        assert len(rest) < len(encoded) + 27 - 2 * len(secret) * 8 // 6 + 4
        assert MASK in Mask.of_secrets([secret]).cover(encoded)


def windows(text: str) -> Iterator[str]:
    """All pieces of five characters."""
    return (text[at : at + 5] for at in range(max(len(text) - 4, 1)))


def text_of(secret: str) -> str:
    return secret.replace("\n", "")


@given(
    st.text(min_size=4, max_size=40).filter(lambda text: len(text_of(text).replace("\r", "")) > 3),
    st.binary(max_size=8),
    st.binary(max_size=8),
)
def test_base64_is_covered_wherever_the_secret_begins_in_it(secret: str, before: bytes, after: bytes) -> None:
    secret = secret.encode("utf-8", "replace").decode()
    mask = Mask.of_secrets([secret])
    for encode, charset in itertools.product(
        (base64.b64encode, base64.urlsafe_b64encode), ("utf-8", "utf-16-le", "utf-16-be")
    ):
        covered = mask.cover(encode(before + secret.encode(charset) + after).decode())
        # Of the digits that belong to the secret and to what is around it, one each remains.
        assert len(covered.replace(MASK, "")) <= (len(before) * 8 + 5) // 6 + (len(after) + 2) * 8 // 6 + 3


def test_the_lines_of_a_key_are_covered_whatever_stands_around_them() -> None:
    key = pem("masked")[1].decode()
    mask = Mask.of_secrets([key])
    for text in (
        textwrap.indent(key, "    "),
        textwrap.indent(key, "> "),
        "".join(f"{number:4} {line}\n" for number, line in enumerate(key.splitlines())),
        json.dumps({"key": key}),
        "\n".join(textwrap.wrap("".join(key.splitlines()[1:-1]), 76)),
        base64.b64encode(b"tls.key: " + key.encode()).decode(),
        "\n".join(textwrap.wrap(base64.b64encode(key.encode()).decode(), 76)),
    ):
        rest = mask.cover(text).replace(MASK, "")
        assert not [line for line in (*key.splitlines()[1:-1], base64.b64encode(key.encode()).decode()) if line in rest]
        assert len(rest) < 200


@pytest.mark.parametrize(
    "text",
    [
        " " * 1_000_000,
        "\x1b[" * 500_000,
        "\x1b]" * 500_000,
        "\\x1b[1" * 200_000,
        " \n" * 500_000,
        "\0" * 1_000_000,
        "a\0" * 500_000,
        "hunte" * 200_000,
    ],
)
def test_what_may_stand_within_a_secret_costs_little(text: str) -> None:
    mask = Mask.of_secrets(SECRETS)
    began = time.process_time()
    assert not mask.is_in(text)
    mask.cover(text)
    mask.cover(f"{text}hun\0ter2")
    assert time.process_time() - began < 2


@given(VALUES, st.lists(st.tuples(st.sampled_from(["", "\0", "\0\0", " \r\n ", "\x1b[0m"]), st.sampled_from("abcd"))))
@example(["abc"], [("\0", "d"), ("\0\0", "a"), ("", "b"), ("\x1b[0m", "c"), ("\0", "d")])
def test_what_stands_within_a_value_is_covered_with_it_and_nothing_else(
    values: list[str], cells: list[tuple[str, str]]
) -> None:
    plain = "".join(char for _, char in cells)
    marks = hidden(plain, values)
    # A gap lies within a value that begins before it and ends after it.
    within = [
        any(plain.startswith(value, start) for value in values for start in range(max(at - len(value) + 1, 0), at))
        for at in range(len(cells))
    ]
    left = "".join(
        ("" if inside else gap) + ("" if is_hidden else char)
        for (gap, char), inside, is_hidden in zip(cells, within, marks, strict=True)
    )
    assert seen(Mask(values).cover("".join(gap + char for gap, char in cells))) == left


@given(st.lists(st.text(alphabet="ab \t\v", min_size=1, max_size=4), max_size=3), st.text(alphabet="ab \t\v\r\n"))
@example(["ab"], "a \t\r\n\r\n\v b")
@example(["a\r"], "a\r\r\n")
def test_a_value_is_in_a_text_where_there_is_something_to_cover(values: list[str], text: str) -> None:
    mask = Mask(values)
    assert mask.is_in(text) is any(True for _ in mask.spans(text))


def test_lines_without_codes_cost_little() -> None:
    """They are most of what scripts write."""
    mask = Mask.of_secrets(["hunter2-Passw0rd!"])
    text = "some ordinary line of a build, with C:\\\\path and numbers\n" * 1_000_000
    began = time.process_time()
    assert not mask.is_in(text)
    assert time.process_time() - began < 2


def test_masks_together_cover_what_each_of_them_covers() -> None:
    both = Mask(others=(Mask(["abcdef"]), Mask(["efgh"])))
    assert both.cover("xabcdefghx") == f"x{MASK}x"
    assert (both.reach, both.open_end("xabc"), both.open_end("xef"), bool(both)) == (5, 3, 2, True)
    assert both.is_in("efgh")
    assert not Mask(others=(Mask(),))


@pytest.mark.parametrize(
    ("address", "password"),
    [
        ("http://me:pw@h:1", "pw"),
        ("http://me:12/34@h", "12/34"),
        ("http://me:12?#@h", "12?#"),
        ("http://h:80/a", None),
        ("me", None),
    ],
)
def test_the_password_in_an_address(address: str, password: str | None) -> None:
    assert password_in(address) == password
