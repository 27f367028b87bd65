"""The program as it comes from whoever started it: hostile variables, directories, signals and descriptors."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tentacle import __version__
from tests.cli.conftest import PROGRAM
from tests.patience import PATIENCE

MODULE = (sys.executable, "-m", "tentacle")
FOREIGN = "import os; os.write(2, b'foreign code has run')"
NAMES = ("sitecustomize", "usercustomize", "tentacle", "click", "cryptography", "logging", "re", "typing", "site")


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A directory of modules that have the names of ours, of libraries and of Python's own."""
    directory = tmp_path / "trap"
    directory.mkdir()
    for name in NAMES:
        (directory / f"{name}.py").write_text(FOREIGN)
    return directory


def said(tentacle: Any, *command: str | Path, cwd: Any = None, **variables: str) -> tuple[int, str, str]:
    done = subprocess.run(
        command,
        cwd=cwd or tentacle.cwd,
        env=tentacle.environ | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("name", ["tentacle", "Tentacle"])
def test_no_variable_leads_to_foreign_code(tentacle: Any, trap: Path, name: str) -> None:
    variables = {
        "PYTHONPATH": str(trap),
        "PYTHONSTARTUP": str(trap / "re.py"),
        "PYTHONUSERBASE": str(trap),
        "PYTHONWARNINGS": "error::click.Foreign",
        "PYTHONINSPECT": "1",
        "PYTHONBREAKPOINT": "re.foreign",
        "HOME": str(trap),
    }
    ended = said(tentacle, PROGRAM.with_name(name), "version", cwd=trap, **variables)
    assert ended == (0, __version__, "")


def test_another_python_s_home_hurts_nobody(tentacle: Any, tmp_path: Path) -> None:
    assert said(tentacle, PROGRAM, "version", PYTHONHOME=str(tmp_path)) == (0, __version__, "")


def test_what_openssl_would_load_by_a_variable_is_not_loaded(tentacle: Any, tmp_path: Path, instance: Path) -> None:
    settings = tmp_path / "openssl.cnf"
    settings.write_text("openssl_conf = x\n[x]\nproviders = p\n[p]\ndefault = d\nlegacy = l\n[d]\nactivate = 0\n[l]\n")
    ended = said(tentacle, PROGRAM, "new-certificate", "--instance=I", OPENSSL_CONF=str(settings))
    assert (ended[0], ended[2]) == (0, "")


def test_as_a_module_it_takes_nothing_from_the_current_directory(tentacle: Any, trap: Path) -> None:
    """But for what Python itself imports there before it comes to us."""
    for name in ("sitecustomize", "usercustomize", "tentacle", "site"):
        (trap / f"{name}.py").unlink()
    assert said(tentacle, *MODULE, "version", cwd=trap) == (0, __version__, "")
    assert said(tentacle, *MODULE, "version", PYTHONPATH=str(trap)) == (0, __version__, "")


@pytest.mark.parametrize("locale", ["C", "POSIX", "de_DE.ISO-8859-1", "ja_JP.eucJP", "nonsense"])
def test_names_arguments_and_paths_are_utf_8_whatever_the_locale_is(tentacle: Any, tmp_path: Path, locale: str) -> None:
    config = tmp_path / "Überall" / "größe.config"
    variables = {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1", "PYTHONCOERCECLOCALE": "0"}
    made = said(tentacle, PROGRAM, "create-instance", "--instance=Größe", f"--config={config}", **variables)
    assert (made[0], made[2]) == (0, "")
    assert f"Creating empty configuration file: {config}" in made[1]
    assert config.exists()
    assert "größe" in said(tentacle, PROGRAM, "list-instances", **variables)[1]


def test_it_is_found_by_links_and_started_by_name(tentacle: Any, tmp_path: Path) -> None:
    (tmp_path / "first").symlink_to(PROGRAM)
    (tmp_path / "second").symlink_to("first")
    beside = PROGRAM.parent
    for command, cwd in (
        ([tmp_path / "second"], None),
        (["sh", "tentacle"], beside),
        (["bash", "tentacle"], beside),
        (["./tentacle"], beside),
        ([sys.executable, PROGRAM], None),
    ):
        assert said(tentacle, *command, "version", cwd=cwd) == (0, __version__, ""), command


def test_below_a_prefix_it_finds_the_python_that_it_was_installed_for(tentacle: Any, tmp_path: Path) -> None:
    """As with `pip install --user`: no interpreter beside it, and a directory where an isolated one does not look."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    packages = tmp_path / "prefix" / "lib" / version / "site-packages" / "tentacle"
    program = tmp_path / "prefix" / "bin" / "tentacle"
    (packages / "cli").mkdir(parents=True)
    (packages / "cli" / "entry.py").write_text("import sys\nenter = lambda: print(sys.flags.isolated, sys.argv[1:])\n")
    (tmp_path / "elsewhere").mkdir()
    bare = Path(sys.base_prefix, "bin", version)
    (tmp_path / "elsewhere" / version).symlink_to(bare)
    program.parent.mkdir()
    program.write_bytes(PROGRAM.read_bytes())
    program.chmod(0o755)
    variables = {"PATH": f"{tmp_path / 'elsewhere'}:{os.environ['PATH']}", "PYTHONPATH": "/nowhere"}
    assert said(tentacle, program, "a b", **variables) == (0, "1 ['a b']\n", "")
    packages.rename(packages.with_name("other"))
    code, out, err = said(tentacle, program, "a b", **variables)
    assert (code, out) == (100, "")
    assert err.startswith("The Python that Tentacle was installed for is not to be found near")


def test_a_virtual_environment_whose_python_cannot_be_run_is_not_run_by_another(tentacle: Any, tmp_path: Path) -> None:
    """As where root made it with a Python below /root: the packages of one Python break in another."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    program = tmp_path / "venv" / "bin" / "tentacle"
    (tmp_path / "venv" / "lib" / version / "site-packages" / "tentacle").mkdir(parents=True)
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    program.parent.mkdir()
    program.write_bytes(PROGRAM.read_bytes())
    program.chmod(0o755)
    (program.parent / "python3").symlink_to("/root/nowhere/python3")
    (tmp_path / version).symlink_to(Path(sys.base_prefix, "bin", version))
    code, out, err = said(tentacle, program, "version", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert (code, out) == (100, "")
    assert f"{program.parent / 'python3'}', cannot be run by " in err
    assert "it leads to '/root/nowhere/python3'" in err


HOSTILE_START = """\
import os, signal, sys
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
for _ in range(int(sys.argv[1])):
    os.set_inheritable(os.open("/dev/null", os.O_RDWR), True)
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.parametrize("descriptors", ["0", "900"])
def test_signals_that_were_blocked_and_ignored_and_descriptors_that_were_left_open(
    tentacle: Any, instance: Path, descriptors: str
) -> None:
    """`useradd` and `systemctl` have exit codes, and SIGTERM ends a command."""
    command = (sys.executable, "-c", HOSTILE_START, descriptors, str(PROGRAM))
    _, out, err = said(tentacle, *command, "doctor", "--instance=I")
    assert "bash" in out, err
    with subprocess.Popen(
        [*command, "agent", "--instance=I", "--wait=60000"], env=tentacle.environ, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "Sleeping for 60000ms...\n"
        process.terminate()
        assert process.wait(PATIENCE) == -signal.SIGTERM


@pytest.mark.parametrize("limit", ["--as", "--data"])
@pytest.mark.parametrize("megabytes", [5, 10, 17, 22])
def test_an_interpreter_that_would_not_even_start_is_not_started(tentacle: Any, limit: str, megabytes: int) -> None:
    code, out, err = said(tentacle, "prlimit", f"{limit}={megabytes * 1000 * 1000}", "--core=0", PROGRAM, "version")
    told = err.splitlines()
    assert (code, out) == (1, "") or (code, limit, err) == (0, "--data", ""), err
    assert len(told) < 3 and not any("Traceback" in line or "Fatal" in line for line in told), err


@pytest.mark.parametrize("megabytes", range(30, 130, 10))
def test_too_little_memory_is_said_without_a_traceback(tentacle: Any, tmp_path: Path, megabytes: int) -> None:
    for arguments in (
        ("create-instance", "--instance=M", f"--config={tmp_path}/M/M.cfg"),
        ("new-certificate", "--instance=M"),
        ("configure", "--instance=M", "--listenIpAddress=192.0.2.1", f"--app={tmp_path}/apps"),
    ):
        assert tentacle(*arguments).code == 0
    limited = ("prlimit", f"--as={megabytes * 1000 * 1000}", "--core=0")
    code, _, err = said(tentacle, *limited, PROGRAM, "agent", "--instance=M", "--noninteractive")
    assert (code, "Traceback" in err, "Unexpected error" in err) == (1, False, False), err
    assert "memory" in err or "cannot listen on 192.0.2.1" in err


def test_what_starts_scripts_is_not_started_by_hand(tentacle: Any) -> None:
    code, out, err = said(tentacle, PROGRAM, "script-launcher")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == "Install both as services: tentacle service --install"


def test_what_starts_scripts_takes_the_socket_that_systemd_has_passed_to_it(tentacle: Any) -> None:
    door, path = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET), f"\0tentacle-test-{os.getpid()}"
    with door, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as agent:
        door.bind(path)
        door.listen()
        script = 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@" 3<&"$0" 0</dev/null'
        command = ["bash", "-c", script, str(door.fileno()), str(PROGRAM), "script-launcher"]
        process = subprocess.Popen(command, pass_fds=(door.fileno(),), env=tentacle.environ)
        try:
            agent.settimeout(PATIENCE)
            agent.connect(path)
            agent.send(b"who")
            # Where all processes share one cgroup, there is nothing by which it could tell us from a script.
            assert agent.recv(4) in (process.pid.to_bytes(4, "big"), b"")
            assert Path(f"/proc/{process.pid}/comm").read_text() == "tentacle-launch\n"
            assert b"LISTEN_FDS" not in Path(f"/proc/{process.pid}/environ").read_bytes()
        finally:
            process.kill()
            process.wait()
