"""`show-thumbprint` (docs/spec/command-line.md, "show-thumbprint")."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("instance")


def thumbprint(tentacle: Any) -> str:
    return str(tentacle.ok("show-thumbprint", "--instance=I").out)


def test_without_a_certificate_there_is_nothing_to_show(tentacle: Any) -> None:
    assert tentacle.ok("show-thumbprint").out == ""
    assert tentacle.ok("show-thumbprint", "--format=JSON").out == '{"Thumbprint":null}'
    assert tentacle("show-thumbprint", "--format=xml").err == ("The format 'xml' is not supported. Try text or json.\n")


def test_the_thumbprint_goes_to_a_file(tentacle: Any) -> None:
    tentacle.ok("new-certificate")
    assert tentacle.ok("show-thumbprint", "-e", "thumb.txt").out == ""
    assert (tentacle.cwd / "thumb.txt").read_text() == thumbprint(tentacle)
