"""The readers of a document's members."""

from __future__ import annotations

from typing import Any

import pytest

from tentacle.devserver.storage import fields


@pytest.mark.parametrize(
    "uri",
    [
        "https://h:0/",
        "https://h:99999/",
        "http://h:1/",
        "https:///",
        "https://user@h:1/",
        "https://[::1",
        "h:1",
        5,
        None,
    ],
)
def test_a_listening_address_is_one(uri: Any) -> None:
    with pytest.raises(ValueError, match=r"must (be|have)"):
        fields.listening_uri(uri)


def test_a_slug_is_never_empty() -> None:
    assert [fields.slug(n) for n in ("Default Worker Pool", " A--b!c ", "!!!")] == ["default-worker-pool", "a-b-c", "x"]
