"""Commands for Kubernetes: refused in a line that says what to do instead (docs/spec/command-line.md,
"Commands for other kinds of hosts").
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.refusals import refusal


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "name", ["migrate-preinstalled-k8s-config", "register-k8s-cluster", "register-k8s-target", "register-k8s-worker"]
)
def test_it_says_what_to_do_instead(tentacle: Any, name: str, form: str) -> None:
    ended = tentacle(name, f"--format={form}")
    assert ended.code == 1
    text, hint = refusal(ended, form)
    assert text == "This command can only be run from within a Kubernetes agent."
    assert "'Tentacle " in hint
