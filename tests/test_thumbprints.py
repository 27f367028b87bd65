"""Thumbprints as people paste them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.thumbprints import clean_thumbprint, doubt_about, is_thumbprint

DIGITS = "679ddd8527cce15fe45a5dacd92ea7c0364198d3"
PAIRS = [DIGITS[at : at + 2] for at in range(0, 40, 2)]


@pytest.mark.parametrize(
    "pasted",
    [
        DIGITS,
        f" {DIGITS.upper()}\r\n",
        ":".join(PAIRS),
        " ".join(PAIRS),
        "\u00a0".join(PAIRS),
        "-".join(PAIRS),
        "\u200e" + " ".join(PAIRS),
        "\ufeff" + DIGITS + "\u200b",
        "sha1 Fingerprint=" + ":".join(PAIRS),
        "SHA1 Fingerprint=" + ":".join(PAIRS).upper(),
        "SHA-1 Thumbprint: " + DIGITS,
        "Thumbprint:" + DIGITS,
        "sha1:" + DIGITS,
        f'"{DIGITS}"',
    ],
)
def test_what_is_around_the_digits_is_left_out(pasted: str) -> None:
    assert clean_thumbprint(pasted) == DIGITS.upper()
    assert doubt_about(pasted) is None


@pytest.mark.parametrize(
    ("given", "clean"),
    [("https://octopus:443/", "https://octopus:443/"), (" AA ", "AA"), ("\u200eT", "T"), (DIGITS[1:], DIGITS[1:])],
)
def test_what_is_none_stays_as_it_is_and_is_doubted(given: str, clean: str) -> None:
    assert clean_thumbprint(given) == clean
    assert "40 hexadecimal digits" in (doubt_about(given) or "")


def test_a_sha256_is_named() -> None:
    assert "SHA-256" in (doubt_about("sha256 Fingerprint=" + ":".join(["ab"] * 32)) or "")


@given(st.text())
def test_cleaning_twice_changes_nothing(text: str) -> None:
    once = clean_thumbprint(text)
    assert clean_thumbprint(once) == once
    assert not is_thumbprint(once) or once == once.upper()
