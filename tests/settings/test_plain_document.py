"""A text that is understood without the YAML library means what that makes of it; every other one is left to it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.sealing import Sealer
from tentacle.settings import certificates, document, yaml_document
from tentacle.settings.errors import ConfigurationError
from tentacle.settings.model import CommunicationStyle, ProxySettings, Settings, TrustedServer
from tentacle.settings.plain_document import read_plain

SOURCE = Path("/c.config")
FULL = """\
# Of an instance.
format: 1
home: /srv/home
port: 10933
listen-ip: 127.0.0.1
no-listen: false
trusted-servers:
- thumbprint: 0123456789ABCDEF0123456789ABCDEF01234567
  style: TentacleActive
  address: https://server:10943/
- thumbprint: '1234567890123456789012345678901234567890'
  style: TentaclePassive
certificate:
  thumbprint: ABC
  certificate: |
    -----BEGIN CERTIFICATE-----
    MIIC/+==
    -----END CERTIFICATE-----
  private-key: sealed:1:3Ve0/+w==
"""


def as_yaml(text: str) -> object:
    """What the library makes of a text; None where it refuses."""
    try:
        return yaml_document.read(text, SOURCE)
    except ConfigurationError:
        return None


def test_what_our_commands_write_is_plain() -> None:
    made = certificates.generate()
    values = Settings(
        home=Path("/srv/home"),
        listen_ip="127.0.0.1",
        servers=(
            TrustedServer("1234567890" * 4, CommunicationStyle.TENTACLE_ACTIVE, "https://server:10943/", "poll://a1/"),
            TrustedServer("01234567E9" * 4, CommunicationStyle.TENTACLE_PASSIVE),
        ),
        certificate=made,
        next_certificate=made,
        proxy=ProxySettings(True, "proxy", 80, "somebody", "secret"),
    )
    text = document.render(values, document.parse("", SOURCE), Sealer(bytes(32)).seal)
    plain = read_plain(text)
    assert plain is not None
    assert plain == as_yaml(text)


def test_nothing_and_comments_are_an_empty_document() -> None:
    for text in ("", "# nothing\n", document.HEADER):
        assert read_plain(text) == ({}, {})
        assert as_yaml(text) == ({}, {})


def test_each_key_and_entry_is_at_its_line() -> None:
    plain = read_plain(FULL)
    assert plain is not None
    assert plain == as_yaml(FULL)
    assert plain.lines["trusted-servers[1]"] == 11
    assert plain.lines["certificate.private-key"] == 19


pieces = st.sampled_from(
    [
        *("a", "b-2", "certificate", "no", "y", "null", "on", "Key", "true", "True", "~", "/", "/p/q", "e:f", "x:"),
        *("0", "12", "007", "-1", "1.5", "12e4", "0x1F", "1.2.3.4", "1:2:3", "2026-01-02", "0123456789" * 4, "1E" * 20),
        *("'", "'q'", "'1'", "''", "it''s", '"', "|", "|-", "|2", ">", "#", " #", "&a", "*a", "!!int", "[", "{", "="),
        *(": ", ":", "\n", "\n", "\n", "\n  ", "\n    ", "\n- ", "\n -", "- ", " ", "  ", "    ", "\t", "\r", "---"),
        *("...", "\x01", "\x85", "\u2028", "ü", "\ufeff", "%", "@", "`", ",", "?", "? ", "<<"),
    ]
)  # fmt: skip


@given(st.lists(pieces, max_size=12).map("".join))
def test_whatever_is_understood_means_the_same_to_the_library(text: str) -> None:
    for one in (text, text + "\n"):
        plain = read_plain(one)
        assert plain is None or plain == as_yaml(one)


@given(st.integers(0, len(FULL)), st.integers(0, 12), st.lists(pieces, max_size=3).map("".join))
def test_a_document_that_somebody_has_changed_means_the_same_to_both(at: int, less: int, more: str) -> None:
    text = FULL[:at] + more + FULL[at + less :]
    plain = read_plain(text)
    assert plain is None or plain == as_yaml(text)


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\na: 2\n",
        "a: 1\n# why\nb: 2\n",
        "a: 1\n\nb: 2\n",
        "a: b\n  c\n",
        "a:\n",
        "a:\n  b:\n    c: 1\n",
        "a: |\n    b\n   c\n",
        "a: |\n  b",
        "a: 'it''s'\n",
        "a: \"b\"\n",
        "a: {}\n",
        "on: 1\n",
        "7: seven\n",
        "a: ünïcode\n",
        "a: 0123456789012345678901234567890123456789\n",
    ],
)  # fmt: skip
def test_what_needs_a_reader_of_yaml_is_left_to_it(text: str) -> None:
    assert read_plain(text) is None


def test_the_library_is_not_loaded_for_what_is_plain() -> None:
    code = (
        "import sys; from pathlib import Path; from tentacle.settings import document\n"
        "for text in ('port: 1\\n', 'port: {}\\n'):\n"
        "    document.parse(text, Path('/c')); print('yaml' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
