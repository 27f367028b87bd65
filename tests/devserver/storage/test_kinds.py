"""The bodies of resources.  Nothing that comes in may do more than be refused."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tentacle.devserver.rest.answers import http_status
from tentacle.devserver.storage import Invalid
from tentacle.devserver.storage.kinds import KINDS, POLICIES, WORKERS, read_body
from tests.devserver.running_server import worker_body

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=20,
)
MEMBERS = sorted({field.name for kind in KINDS.values() for field in kind.fields})


@given(st.sampled_from(sorted(KINDS)), JSON | st.dictionaries(st.sampled_from(MEMBERS), JSON))
def test_any_document_is_read_or_refused(path: str, given_: Any) -> None:
    try:
        read_body(KINDS[path], given_)
    except Invalid as error:
        assert http_status(error) == 400
        assert error.errors or "must be" in error.message


@given(JSON)
def test_any_endpoint_is_read_or_refused(endpoint: Any) -> None:
    for document in (endpoint, {"CommunicationStyle": "TentaclePassive", "Uri": endpoint, "Thumbprint": "A" * 40}):
        try:
            body = read_body(WORKERS, {**worker_body(), "Endpoint": document})
        except Invalid:
            continue
        assert str(body["Endpoint"]["Uri"]).startswith("https")


def test_what_is_read_is_read_again_unchanged() -> None:
    for kind, body in ((WORKERS, worker_body()), (POLICIES, {"Name": "p"})):
        once = read_body(kind, body)
        assert read_body(kind, once) == once
