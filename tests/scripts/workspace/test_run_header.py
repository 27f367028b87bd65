from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.scripts.shim.clock import BOOT
from tentacle.scripts.workspace.run_header import RunHeader

NUMBERS = st.integers(0, 2**53 - 1) | st.floats(0, 2**53, exclude_max=True)
HEADERS = st.builds(
    RunHeader,
    ticket=st.text(max_size=20),
    task=st.text(max_size=20),
    mutex=st.text(max_size=20),
    isolation=st.sampled_from([0, 1]),
    timeout=st.none() | NUMBERS,
    arguments=st.lists(st.text(max_size=20), max_size=3).map(tuple),
    sealed=st.text(max_size=20),
    limits=st.lists(st.none() | NUMBERS, max_size=3).map(tuple),
    created=st.integers(0, 2**53 - 1),
    since_boot=st.integers(0, 2**53 - 1),
    boot=st.text(max_size=40),
)
HEADER = RunHeader("T", "Task", "M", 1, None, ())
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(HEADERS)
def test_what_is_encoded_is_decoded(header: RunHeader) -> None:
    assert RunHeader.decode(header.encode()) == header


def test_the_order_of_requests_does_not_change_with_the_clock() -> None:
    earlier = RunHeader("T", "Task", "M", 1, None, (), created=2_000_000, since_boot=10)
    later = RunHeader("T", "Task", "M", 1, None, (), created=1_000_000, since_boot=11)
    assert earlier.order < later.order
    # Of another start of the machine nothing else is known.
    assert dataclasses.replace(earlier, boot="").order > dataclasses.replace(later, boot="").order
    values = json.loads(earlier.encode())
    del values["since_boot"]
    assert RunHeader.decode(json.dumps(values).encode()).since_boot == 0, "as an earlier version wrote it"


def changed(**changes: Any) -> bytes:
    return json.dumps({**json.loads(HEADER.encode()), **changes}).encode()


@given(st.dictionaries(st.sampled_from(list(json.loads(HEADER.encode()))), ANYTHING, max_size=4))
def test_any_values_are_a_header_of_the_right_kinds_or_an_error(changes: dict[str, Any]) -> None:
    try:
        found = RunHeader.decode(changed(**changes))
    except ValueError:
        return
    texts = (found.ticket, found.task, found.mutex, found.sealed, found.boot, *found.arguments)
    assert all(isinstance(text, str) for text in texts)
    numbers = [number for number in (found.timeout, *found.limits) if number is not None]
    assert all(isinstance(number, int | float) and 0 <= number < 2**53 for number in numbers)
    assert found.wants.exclusive in (True, False)
    assert found.is_of_this_boot in (True, False)


@given(st.binary(max_size=60) | ANYTHING.map(lambda value: json.dumps(value).encode()))
def test_whatever_else_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        RunHeader.decode(data)


@pytest.mark.parametrize("nothing", ["", [], {}])
@pytest.mark.parametrize("name", ["timeout", "limits"])
def test_an_empty_text_or_list_is_no_number(name: str, nothing: object) -> None:
    with pytest.raises(ValueError, match="another kind"):
        RunHeader.decode(changed(**{name: [nothing] if name == "limits" else nothing}))


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b'{"ticket":' * 100_000,
        b"1" * 10_000,
        changed(more=1),
        changed(isolation=7),
        changed(created="1"),
    ],
)
def test_what_is_deep_long_or_of_another_version_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        RunHeader.decode(data)


def test_a_boot_is_told_by_its_digits() -> None:
    text = BOOT.hex()
    with_dashes = "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
    assert HEADER.is_of_this_boot
    assert RunHeader.decode(changed(boot=with_dashes)).is_of_this_boot
    assert not RunHeader.decode(changed(boot="another")).is_of_this_boot
