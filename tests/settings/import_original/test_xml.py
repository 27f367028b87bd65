"""The original's XML: both ways it is written, and everything that somebody could put in its place."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.settings.errors import ConfigurationError
from tentacle.settings.import_original.xml import OriginalValues, parse_configuration
from tests.recorded import VECTORS

SOURCE = Path("/old/tentacle.config")
RECORDED = (VECTORS / "dotnet-instance" / "tentacle-Legacy.config").read_bytes()
BOMB = b"""<?xml version="1.0"?>
<!DOCTYPE octopus-settings [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<octopus-settings><set key="Octopus.Home">&b;</set></octopus-settings>"""
EXTERNAL = b"""<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>
<octopus-settings><set key="K">&e;</set></octopus-settings>"""


def parsed(data: bytes) -> OriginalValues:
    return parse_configuration(data, SOURCE)


def test_the_recorded_instance() -> None:
    values = parsed(RECORDED)
    assert values["octopus.home"] == "/etc/octopus/Legacy"
    assert len(values) == 11
    assert "Tentacle.CertificateThumbprint" in list(values)


@pytest.mark.parametrize(
    "text",
    [
        "<?xml version='1.0' encoding='UTF-8' ?><octopus-settings></octopus-settings>",
        '\ufeff<?xml version="1.0" encoding="utf-8"?><octopus-settings/>',
        "<octopus-settings><other>x</other></octopus-settings>",
    ],
)
def test_one_without_settings(text: str) -> None:
    assert dict(parsed(text.encode())) == {}


def test_blank_is_not_set_and_the_last_of_a_key_wins() -> None:
    values = parsed(b'<octopus-settings><set key="A">1</set><set key="a"> 2 </set><set key="B"/></octopus-settings>')
    assert values.text("A") == " 2 "
    assert values.text("B") is None
    assert values.text("C") is None


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no element found"),
        (RECORDED[: len(RECORDED) // 2], "line 9 is not valid XML"),
        (b"home: /etc\nport: 1\n", "line 1 is not valid XML"),
        (BOMB, "it has a document type declaration"),
        (EXTERNAL, "it has a document type declaration"),
        (b"<octopus-settings>&e;</octopus-settings>", "undefined entity"),
        (b"<configuration/>", "its root is <configuration> and not <octopus-settings>"),
        (b"<octopus-settings><set>x</set></octopus-settings>", "the setting in line 1 has no proper key"),
        (b'<octopus-settings><set key="A"><b/></set></octopus-settings>', "the setting A holds other elements"),
        (b'<?xml version="1.0" encoding="nonsense"?><octopus-settings/>', "it is not valid XML"),
        (b'<?xml version="1.0" encoding="utf-7"?><octopus-settings/>', "valid XML"),
        (b"\x00" * 100, "valid XML"),
        ("<octopus-settings/>".encode("utf-16")[:-3], "valid XML"),
    ],
)
def test_anything_else_is_refused_in_one_line(data: bytes, why: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        parsed(data)
    assert why in refusal.value.message
    assert str(SOURCE) in refusal.value.message
    assert refusal.value.message.isprintable()


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"))


@given(st.dictionaries(texts.filter(lambda key: key.strip() and len(key) <= 100).map(str.lower), texts, max_size=5))
def test_what_was_written_is_read(entries: dict[str, str]) -> None:
    body = "".join(f"<set key={quoteattr(key)}>{escape(text)}</set>" for key, text in entries.items())
    values = parsed(f"<octopus-settings>{body}</octopus-settings>".encode())
    assert {key.lower(): values[key] for key in values} == {key.lower(): text for key, text in entries.items()}


@given(st.binary(max_size=300))
def test_rubbish_is_refused_and_nothing_else_happens(data: bytes) -> None:
    with pytest.raises(ConfigurationError):
        parsed(data)


@given(st.integers(0, len(RECORDED)), st.binary(min_size=1, max_size=4))
def test_a_damaged_one_is_read_or_refused(at: int, rubbish: bytes) -> None:
    try:
        parsed(RECORDED[:at] + rubbish + RECORDED[at + len(rubbish) :])
    except ConfigurationError as error:
        assert error.message.isprintable()
