"""Values of options: any text is read or refused in one line, never anything else."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tentacle.cli.commands.proxy import ProxyOptions, changed_proxy
from tentacle.cli.commands.server_comms import ServerCommsOptions, address_of
from tentacle.cli.frame.values import InvalidValue, output_format, parse_whole_number
from tentacle.cli.registration.registration import normalised_subscription
from tentacle.errors import TentacleError
from tentacle.settings.keys import polling_count
from tentacle.settings.model import ProxySettings


def read_or_refused(read: Any, *arguments: Any) -> Any:
    try:
        return read(*arguments)
    except TentacleError:
        return None


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), (" +7 ", 7), ("-1", -1), ("2147483647", 2**31 - 1), ("0\x1f", 0)]
)
def test_whole_numbers(text: str, number: int) -> None:
    assert parse_whole_number(text, "--x") == number


@pytest.mark.parametrize("text", ["", "1.0", "0x10", "2147483648", "١", "1_0", "9" * 100])
def test_what_is_no_whole_number(text: str) -> None:
    with pytest.raises(InvalidValue, match=r"of --x is not a valid whole number\.$"):
        parse_whole_number(text, "--x")


@given(st.integers(min_value=-(2**31), max_value=2**31 - 1))
def test_every_number_of_32_bits_is_read(number: int) -> None:
    assert parse_whole_number(str(number), "--x") == number


@given(st.text())
@example("0\x1f")
def test_any_text_is_a_value_or_an_error(text: str) -> None:
    read_or_refused(parse_whole_number, text, "--x")
    count = read_or_refused(polling_count, text)
    assert count is None or count > 0
    assert read_or_refused(output_format, text) in (None, "text", "json")


@given(st.text(), st.sampled_from(["", "poll://", "POLL://"]))
def test_a_subscription_is_normal_or_refused(text: str, scheme: str) -> None:
    found = read_or_refused(normalised_subscription, scheme + text)
    assert found is None or re.fullmatch(r"poll://[^/\sA-Z]+/", found)


@given(st.text() | st.sampled_from(["::1", "[::1]", "host"]), st.integers(1, 65535))
def test_an_address_is_one_url_or_refused(host: str, port: int) -> None:
    found = read_or_refused(address_of, ServerCommsOptions("T", "2", host, port, None))
    assert found is None or re.fullmatch(r"https://[^/\s@]+:\d{1,5}", found)


@given(st.text(), st.text())
def test_a_proxy_is_named_or_refused(host: str, port: str) -> None:
    given_options = ProxyOptions(enable=True, username=None, password=None, host=host, port=port)
    found = read_or_refused(changed_proxy, ProxySettings(), given_options, ("host", "port"))
    assert found is None or found[0].use_default is (found[0].host is None)
