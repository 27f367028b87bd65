"""Names and texts of unit files; that systemd understands them is shown in tests/e2e/test_systemd.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.host.errors import HostError
from tentacle.host.unit import (
    UnitSettings,
    dependencies,
    is_ours,
    quoted,
    read_template,
    service_name,
    unit_path,
    unit_text,
    user_of,
)

COMMAND = ("/opt/tentacle/bin/Tentacle", "agent", "--instance=I", "--noninteractive")


@pytest.mark.parametrize(
    ("instance", "name"),
    [
        ("Tentacle", "Tentacle"),
        ("OctopusDeploy Tentacle", "OctopusDeploy-Tentacle"),
        (None, "OctopusDeploy-Tentacle"),
        (" two \t words ", "two-words"),
        ("../../etc/passwd", r"\x2e...etcpasswd"),
        (".hidden", r"\x2ehidden"),
        ("a@b%h$c", r"a\x40b\x25h\x24c"),
        ("Größe", r"Gr\xc3\xb6\xc3\x9fe"),
        ("a\nb", "a-b"),
        ("x.service", "x.service"),
    ],
)
def test_a_service_is_named_after_its_instance(instance: str | None, name: str) -> None:
    assert service_name(instance) == name


@pytest.mark.parametrize("instance", ["", "  ", "///", "x" * 300, "ö" * 100])
def test_names_that_leave_nothing_or_too_much_are_refused(instance: str) -> None:
    with pytest.raises(HostError):
        service_name(instance)


@given(st.text(max_size=60))
def test_no_name_leaves_the_directory(instance: str) -> None:
    try:
        name = service_name(instance)
    except HostError:
        return
    assert re.fullmatch(r"[A-Za-z0-9:_.\\-]+", name)
    assert unit_path(Path("/etc/systemd/system"), name).parent == Path("/etc/systemd/system")


@pytest.mark.parametrize("name", ["../x", "a/b", "/etc/x", "a\0b"])
def test_a_path_is_no_name(name: str) -> None:
    with pytest.raises(HostError):
        unit_path(Path("/etc/systemd/system"), name)


def test_the_text_of_a_plain_unit() -> None:
    lines = unit_text(UnitSettings("I", "tentacle", COMMAND)).splitlines()
    assert "ExecStart=/opt/tentacle/bin/Tentacle agent --instance=I --noninteractive" in lines
    assert {"StartLimitIntervalSec=1800", "StartLimitBurst=60"} <= set(lines[: lines.index("[Service]")])
    assert {"Type=notify", "Restart=always", "KillMode=process", "User=tentacle", "Delegate=yes"} <= set(lines)
    assert "After=network.target network-online.target" in lines
    assert "ConditionFileIsExecutable=/opt/tentacle/bin/Tentacle" in lines
    assert not [line for line in lines if line.startswith("Environment")]
    assert not re.search("@[A-Z]+", "".join(lines))


def test_nothing_in_the_unit_takes_sudo_away_from_scripts() -> None:
    text = re.sub("^#.*$", "", unit_text(UnitSettings("I", "tentacle", COMMAND)), flags=re.M)
    implied = "NoNewPrivileges|Protect|Private|Restrict[A-Z]|SystemCall|LockPersonality|MemoryDeny|DynamicUser"
    assert not re.search(f"^({implied})", text, re.M)


def test_everything_that_can_be_told() -> None:
    settings = UnitSettings(
        "I",
        "odd%user",
        ("/opt/a $b/T%n", "agent", '--instance=it\'s "%n" $HOME'),
        after=("a.service", "b.target"),
        environment={"Home": "/x y@USER@"},
    )
    lines = unit_text(settings).splitlines()
    assert "Wants=network-online.target a.service b.target" in lines
    assert "After=network.target network-online.target a.service b.target" in lines
    assert "User=odd%%user" in lines
    assert 'Environment="Home=/x y@USER@"' in lines
    assert "ConditionFileIsExecutable=/opt/a $b/T%%n" in lines
    assert r'ExecStart="/opt/a $b/T%%n" agent "--instance=it' + r"'s \"%%n\" $$HOME" + '"' in lines


def test_the_lines_for_the_systemd_that_is_there() -> None:
    old, new = (unit_text(UnitSettings("I", "u", COMMAND, systemd=version)) for version in (252, 254))
    assert "DelegateSubgroup" not in old
    assert "ExecStopPost=" in old
    assert "\nDelegateSubgroup=agent\n" in new
    assert "ExecStopPost=" not in new


def test_a_program_needs_a_whole_path() -> None:
    with pytest.raises(HostError):
        unit_text(UnitSettings("I", "u", ("tentacle", "agent")))


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_quoting_is_undone_by_what_systemd_does(word: str) -> None:
    text = quoted(word)
    assert "\n" not in text
    assert undone(text) == word


def undone(text: str) -> str:
    """systemd.syntax(7), "Quoting", and specifiers."""
    inner = text[1:-1] if text.startswith('"') else text
    assert text.startswith('"') or not re.search(r"""[\s"'\\]""", text)
    data = re.sub(
        rb'\\x([0-9a-f]{2})|\\(["\\])',
        lambda found: bytes([int(found[1], 16)]) if found[1] else found[2],
        inner.encode(),
    )
    return data.decode().replace("%%", "%")


def test_our_units_and_the_originals_are_known_by_their_description() -> None:
    text = unit_text(UnitSettings("I", "some%one", COMMAND))
    assert is_ours(text)
    assert user_of(text) == "some%one"
    assert is_ours("[Unit]\nDescription=Octopus Deploy: Tentacle deployment agent\nAfter=network.target\n")
    assert not is_ours("[Unit]\nDescription=OpenBSD Secure Shell server\n")
    assert not is_ours("")
    assert user_of("[Service]\nType=simple\n") is None


def test_dependencies() -> None:
    assert dependencies("postgresql nginx.service, x.target") == ("postgresql.service", "nginx.service", "x.target")
    assert dependencies(" ") == ()
    for text in ("a/b", "a\nExecStart=x;y", "%n", "x" * 300):
        with pytest.raises(HostError):
            dependencies(text)


def test_the_template_is_the_one_in_packaging() -> None:
    shown = Path(__file__).parents[2] / "packaging" / "tentacle.service"
    assert shown.read_text(encoding="utf-8") == read_template()
