"""Names and texts of unit files; that systemd understands them is shown in tests/e2e/test_systemd.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.host.errors import HostError
from tentacle.host.unit import (
    TEMPLATES,
    UnitSettings,
    dependencies,
    environment_of,
    has_launcher,
    is_ours,
    launcher_socket,
    quoted,
    read_template,
    service_name,
    unit_path,
    unit_texts,
    user_of,
)

NOT_FOR_SCRIPTS = "NoNewPrivileges|Protect|Private|Restrict[A-Z]|SystemCall|LockPersonality|MemoryDeny|DynamicUser"
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
    lines = agent(UnitSettings("I", "tentacle", COMMAND)).splitlines()
    assert "ExecStart=/opt/tentacle/bin/Tentacle agent --instance=I --noninteractive" in lines
    assert {"StartLimitIntervalSec=1800", "StartLimitBurst=60"} <= set(lines[: lines.index("[Service]")])
    assert {"Type=notify", "Restart=always", "KillMode=process", "User=tentacle"} <= set(lines)
    assert "After=network.target network-online.target I@scripts.socket" in lines
    assert "ConditionFileIsExecutable=/opt/tentacle/bin/Tentacle" in lines
    variables = [line for line in lines if line.startswith("Environment")]
    assert variables == ["Environment=TENTACLE_SCRIPT_LAUNCHER=/run/tentacle/I.sock"]
    assert not re.search("@[A-Z]+", "".join(lines))


def test_nothing_takes_sudo_away_from_scripts_and_nothing_gives_the_agent_a_tmp_of_its_own() -> None:
    texts = unit_texts(UnitSettings("I", "tentacle", COMMAND))
    starts = texts["I@scripts.service"]
    assert not re.search(f"^({NOT_FOR_SCRIPTS})", starts, re.M)
    assert {"Delegate=yes", "KillMode=process", "PartOf=I.service", "User=tentacle"} <= set(starts.splitlines())
    assert "ExecStart=/opt/tentacle/bin/Tentacle script-launcher" in starts.splitlines()
    assert len(re.findall(f"^({NOT_FOR_SCRIPTS})", texts["I.service"], re.M)) > 15
    for text in texts.values():
        assert not re.search("^(PrivateTmp|RemoveIPC|PrivateUsers)", text, re.M)
        assert not re.search("@[A-Z]+@", text)


def test_root_keeps_the_rights_that_it_needs_to_give_scripts_users_of_their_own() -> None:
    of_root, of_others = (agent(UnitSettings("I", user, COMMAND)) for user in ("root", "tentacle"))
    for line in ("CapabilityBoundingSet=", "ProtectSystem=yes", "RestrictSUIDSGID=yes", "ReadWritePaths=-/usr/local"):
        assert f"\n{line}\n" in of_others
        assert line not in of_root
    assert "\nProtectClock=yes\n" in of_root


def test_a_low_port_may_be_opened_and_an_instance_below_usr_written() -> None:
    home = Path("/usr/share/a b")
    text = agent(UnitSettings("I", "u", COMMAND, port=443, written=(home, Path("/etc/octopus"))))
    assert text.count("=CAP_NET_BIND_SERVICE\n") == 2
    assert '\nReadWritePaths=-/usr/local "-/usr/share/a b"\n' in text
    assert "CAP_NET_BIND_SERVICE" not in agent(UnitSettings("I", "u", COMMAND, port=1024))


def test_a_key_is_handed_to_the_agent_and_closed_to_what_else_its_user_runs() -> None:
    key = ("LoadCredential", "tentacle.key:/etc/credstore/I.key")
    texts = unit_texts(UnitSettings("I", "u", COMMAND, credential=key, uid=999))
    assert "\nLoadCredential=tentacle.key:/etc/credstore/I.key\n" in texts["I.service"]
    assert texts["I.service"].count("=CAP_SYS_TTY_CONFIG\n") == 2
    closing = re.findall("^ExecStartPre=(.*)$", texts["I@scripts.service"], re.M)
    assert len(closing) == 3
    assert closing[2].startswith("/bin/sh -c 'test ! -x /run/credentials ||"), "not as root"
    assert '"a+ /run/credentials - - - - u:999:---"' in closing[1]
    assert "Credential" not in texts["I@scripts.service"]
    of_root = unit_texts(UnitSettings("I", "root", COMMAND, credential=key, uid=0))
    assert "LoadCredential" in of_root["I.service"]
    assert "ExecStartPre" not in of_root["I@scripts.service"], "root is kept from nothing"
    without = "".join(unit_texts(UnitSettings("I", "u", COMMAND, uid=999)).values())
    assert not re.search("redential|ExecStartPre|TTY", without)


@pytest.mark.parametrize("name", ["I", r"a\x40b", "x" * 200])
def test_the_socket_has_a_path_that_the_system_allows(name: str) -> None:
    socket = unit_texts(UnitSettings(name, "u", COMMAND))[f"{name}@scripts.socket"]
    (path,) = re.findall("^ListenSequentialPacket=(.*)$", socket, re.M)
    assert path == launcher_socket(name)
    assert len(path) < 108
    assert re.fullmatch("[a-zA-Z0-9/.]+", path)
    assert "SocketMode=0600\n" in socket
    assert "SocketUser=u\n" in socket


def agent(settings: UnitSettings) -> str:
    """The text of the agent's own unit."""
    return unit_texts(settings)[f"{settings.name}.service"]


def test_everything_that_can_be_told() -> None:
    settings = UnitSettings(
        "I",
        "odd%user",
        ("/opt/a $b/T%n", "agent", '--instance=it\'s "%n" $HOME'),
        after=("a.service", "b.target"),
        environment={"Home": "/x y@USER@"},
    )
    lines = agent(settings).splitlines()
    assert "Wants=network-online.target I@scripts.socket a.service b.target" in lines
    assert "After=network.target network-online.target I@scripts.socket a.service b.target" in lines
    assert "User=odd%%user" in lines
    assert 'Environment="Home=/x y@USER@"' in lines
    assert "ConditionFileIsExecutable=/opt/a $b/T%%n" in lines
    assert r'ExecStart="/opt/a $b/T%%n" agent "--instance=it' + r"'s \"%%n\" $$HOME" + '"' in lines


def test_the_lines_for_the_systemd_that_is_there() -> None:
    texts = [unit_texts(UnitSettings("I", "u", COMMAND, systemd=version)) for version in (252, 254)]
    old, new = (found["I@scripts.service"] for found in texts)
    assert "DelegateSubgroup" not in old
    assert "ExecStopPost=" in old
    assert "\nDelegateSubgroup=agent\n" in new
    assert "ExecStopPost=" not in new


def test_a_program_needs_a_whole_path() -> None:
    with pytest.raises(HostError):
        unit_texts(UnitSettings("I", "u", ("tentacle", "agent")))


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
    for text in unit_texts(UnitSettings("I", "some%one", COMMAND)).values():
        assert is_ours(text)
    text = agent(UnitSettings("I", "some%one", COMMAND))
    assert user_of(text) == "some%one"
    assert has_launcher(text)
    assert not has_launcher(text.replace("Environment=", "# "))
    assert environment_of(text) == ""
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


def test_the_templates_are_those_in_packaging() -> None:
    for name in TEMPLATES:
        shown = Path(__file__).parents[2] / "packaging" / name
        assert shown.read_text(encoding="utf-8") == read_template(name)
