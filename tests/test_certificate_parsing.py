"""Certificates that no library would make are read, or refused by one kind of error and without a warning."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from tentacle.certificate_parsing import parse_certificate
from tests.odd_certificates import RECIPES, as_pem, odd_der

UNREADABLE = {
    "version 4", "version 1 written out", "lengths with leading zeros", "critical FALSE",
    "a date that does not exist", "a date that is no date",
}  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_an_odd_certificate_is_read_or_a_value_error(name: str) -> None:
    der = odd_der(name)
    for data in (der, as_pem(der)):
        if name in UNREADABLE:
            with pytest.raises(ValueError):
                parse_certificate(data)
        else:
            assert parse_certificate(data).public_bytes(Encoding.DER) == der


@given(at=st.integers(0, 2000), byte=st.integers(0, 255))
def test_a_byte_that_is_another_one_is_no_other_error(at: int, byte: int) -> None:
    data = bytearray(odd_der("an unknown critical extension"))
    data[at % len(data)] = byte
    try:
        parse_certificate(bytes(data))
    except ValueError:
        return
