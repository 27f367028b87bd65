"""What `doctor` makes of shells, services and proxy variables."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentacle.cli.doctor.examined import ExaminedInstance
from tentacle.cli.doctor.finding import Level
from tentacle.cli.doctor.machine import bash, environment_proxies, host, systemd, without_userinfo
from tentacle.host.systemctl import Systemctl

OURS = '# Written by "tentacle service"; "--reconfigure" writes it anew.\n'


def test_bash(tmp_path: Path) -> None:
    assert bash()[0].level is Level.OK
    assert bash(tmp_path / "bash")[0].level is Level.FAIL
    (tmp_path / "old").write_text("#!/bin/sh\necho 'GNU bash, version 3.2.57(1)-release'\n")
    (tmp_path / "old").chmod(0o755)
    assert bash(tmp_path / "old")[0].level is Level.WARN
    (tmp_path / "odd").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "odd").chmod(0o755)
    assert bash(tmp_path / "odd")[0].level is Level.FAIL


def test_proxy_variables_are_shown_without_their_passwords() -> None:
    [found] = environment_proxies({"https_proxy": "http://u:p@ss@proxy:3128", "NO_PROXY": "a,b", "PATH": "x"})
    assert found.found.endswith("NO_PROXY=a,b, https_proxy=http://********@proxy:3128")


@given(st.text(), st.text(alphabet="abc:@", min_size=1))
def test_no_password_stays_in_an_address(before: str, secret: str) -> None:
    assert f"://{secret}@" not in without_userinfo(f"{before} http://{secret}@host/")


def test_the_service_of_instances_without_a_name_is_that_of_the_one_it_runs(tmp_path: Path) -> None:
    unit = tmp_path / "OctopusDeploy-Tentacle.service"
    unit.write_text("[Service]\nExecStart=/opt/Tentacle agent --config=/srv/here.config --noninteractive\n")
    program = tmp_path / "systemctl"
    program.write_text(
        "#!/bin/sh\n"
        '[ "$6" = OctopusDeploy-Tentacle.service ] || exit 1\n'
        f"printf 'LoadState=loaded\\nActiveState=failed\\nSubState=failed\\nFragmentPath={unit}\\n'\n"
    )
    program.chmod(0o755)
    systemctl = Systemctl(str(program))
    [here] = systemd(ExaminedInstance(config=Path("/srv/here.config")), booted=tmp_path, systemctl=systemctl)
    [there] = systemd(ExaminedInstance(config=Path("/srv/there.config")), booted=tmp_path, systemctl=systemctl)
    assert here.level is Level.FAIL
    assert (here.advice or "").endswith("then: systemctl start OctopusDeploy-Tentacle")
    assert (there.level, there.found) == (Level.OK, "running; no service runs this instance, which has no name")


@pytest.mark.parametrize("answer", ["Result=start-limit-hit", "Result=exit-code\\nStartLimitBurst=60\\nNRestarts=60"])
def test_a_service_that_systemd_starts_no_more_is_explained(tmp_path: Path, answer: str) -> None:
    program, unit = tmp_path / "systemctl", tmp_path / "I.service"
    unit.write_text("ExecStart=/opt/Tentacle agent --config=/srv/here.config --noninteractive")
    program.write_text(
        "#!/bin/sh\necho LoadState=loaded\necho ActiveState=failed\necho SubState=failed\n"
        f"echo FragmentPath={unit}\nprintf '{answer}\\n'\n"
    )
    program.chmod(0o755)
    systemctl = Systemctl(str(program))
    [found] = systemd(ExaminedInstance(name="I", config=unit), booted=tmp_path, systemctl=systemctl)
    assert found.level is Level.FAIL
    assert found.found.endswith("; it ended too often right after its start, and systemd starts it no more")
    assert found.advice == "journalctl -u I -n 50; then: tentacle service --instance=I --start"
    unnamed = ExaminedInstance(config=Path("/srv/here.config"))
    [found] = systemd(unnamed, booted=tmp_path, systemctl=systemctl)
    start = "systemctl reset-failed OctopusDeploy-Tentacle; systemctl start OctopusDeploy-Tentacle"
    assert (found.advice or "").endswith(f"then: {start}")


@pytest.mark.parametrize(
    ("unit", "socket", "level", "found", "advice"),
    [
        (OURS + "Environment=TENTACLE_SCRIPT_LAUNCHER=/x\n", "active", Level.OK, "I@scripts starts the scripts", ""),
        (
            OURS + "Environment=TENTACLE_SCRIPT_LAUNCHER=/x\n",
            *("failed", Level.FAIL, "no script can be started"),
            "tentacle service --instance=I --restart; if that does not help: journalctl -u I@scripts.service -n 50",
        ),
        (OURS, "inactive", Level.WARN, "an earlier version", "tentacle service --instance=I --reconfigure --start"),
        ("[Service]\n", "inactive", None, "", ""),
    ],
)
def test_what_starts_the_scripts_of_a_service_is_looked_at(
    tmp_path: Path, unit: str, socket: str, level: Level | None, found: str, advice: str
) -> None:
    program, file = tmp_path / "systemctl", tmp_path / "I.service"
    file.write_text(unit)
    shown = f"LoadState=loaded\\nSubState=x\\nUser=u\\nFragmentPath={file}\\n"
    program.write_text(
        f"#!/bin/sh\nstate=active\ncase $* in *@scripts.socket) state={socket} ;; esac\n"
        f'printf "ActiveState=$state\\n{shown}"\n'
    )
    program.chmod(0o755)
    instance = ExaminedInstance(name="I", config=file)
    first, *others = systemd(instance, booted=tmp_path, systemctl=Systemctl(str(program)))
    assert first.level is Level.OK
    assert [one.level for one in others] == ([] if level is None else [level])
    for one in others:
        assert found in one.found
        assert (one.advice or "") == advice


def test_what_the_host_lacks_is_a_warning_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    lacking = host({"HOME": f"{tmp_path}/file/home"})
    assert [(one.level, one.check) for one in lacking] == [(Level.WARN, "host")]
    assert lacking[0].found.startswith(f"HOME is '{tmp_path}/file/home', where this user cannot write")
    assert lacking[0].advice == "Set HOME to a directory of the agent's user."
    assert [one.level for one in host({"HOME": str(tmp_path)})] == [Level.OK]
