"""Old and modern servers, told apart by their recorded requests."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tentacle.wire.generations import Generation, shown_by_request, shown_by_tls
from tentacle.wire.limits import Limits
from tentacle.wire.messages import Request, decode_message
from tests.recorded import messages


def requests() -> list[tuple[str, Request]]:
    decoded = [(name, decode_message(data, Limits())) for name, data in messages()]
    return [(name, message) for name, message in decoded if isinstance(message, Request)]


def is_old(name: str) -> bool:
    """Whether the conversation was recorded with a Halibut whose number is in its name, before 7."""
    number = re.search(r"halibut-(\d+)\.", name)
    return number is not None and int(number[1]) < 7


@pytest.mark.parametrize(("name", "request_"), requests(), ids=[name for name, _ in requests()])
def test_a_recorded_server_is_known_by_each_of_its_requests(name: str, request_: Request) -> None:
    assert shown_by_request(request_) is (Generation.OLD if is_old(name) else Generation.MODERN)


def test_both_kinds_were_recorded() -> None:
    assert {is_old(name) for name, _ in requests()} == {True, False}


def test_half_a_sign_is_none() -> None:
    modern = next(request for name, request in requests() if not is_old(name))
    assert modern.endpoint is not None
    for doubtful in (
        replace(modern, id="anything"),
        replace(modern, id=modern.id.replace("Async[", "[")),
        replace(modern, endpoint=None),
        replace(modern, endpoint={}),
        replace(modern, endpoint={**modern.endpoint, "PollingRequestMaximumMessageProcessingTimeout": "00:10:00"}),
    ):
        assert shown_by_request(doubtful) is Generation.OLD


@pytest.mark.parametrize(
    ("version", "shown"), [("TLSv1.3", Generation.MODERN), ("TLSv1.2", Generation.OLD), ("", Generation.OLD)]
)
def test_only_modern_agents_have_todays_tls(version: str, shown: Generation) -> None:
    assert shown_by_tls(version) is shown
