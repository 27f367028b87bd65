from __future__ import annotations

from pathlib import Path

import pytest

from tentacle.scripts.disk import file_size, require_free, with_margin
from tentacle.scripts.errors import NotEnoughSpaceError


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (-1, "0 B"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KB"),
        (4301, "4.2 KB"),
        (1_540_000_000, "1.434 GB"),
        (576_716_800 + 1_048_576, "551 MB"),
        (2**40, "1 TB"),
        (2**50, "1 PB"),
        (2**63, "8 EB"),
    ],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert file_size(size) == text


def test_a_tenth_and_a_mebibyte_more() -> None:
    assert with_margin(500 * 1024 * 1024) == 550 * 1024 * 1024 + 1024 * 1024


def test_the_message_has_all_the_numbers(tmp_path: Path) -> None:
    require_free(tmp_path, 0)
    with pytest.raises(NotEnoughSpaceError) as caught:
        require_free(tmp_path, 2**60)
    text = str(caught.value)
    assert text.startswith("The drive '/")
    assert f"containing the directory '{tmp_path}' on machine '" in text
    assert "does not have enough free disk space available for this operation to proceed. The disk only has " in text
    assert text.endswith(" available; please free up at least 1.1 EB.")
