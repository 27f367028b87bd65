"""The engine of an instance: its options and the environment of scripts, from settings and surroundings."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from tentacle.agent.housekeeping import duration_from
from tentacle.agent.sensitive import known_values
from tentacle.agent.surroundings import Surroundings
from tentacle.disk import user_home
from tentacle.home_layout import WORK
from tentacle.scripts.engine import EngineOptions, ScriptEngine
from tentacle.scripts.sandbox.cgroups import ScriptLimits
from tentacle.scripts.sandbox.sandbox import Mode, SandboxOptions
from tentacle.scripts.sandbox.uids import UidRange
from tentacle.services.environment import AgentProperties, script_environment
from tentacle.settings.certificates import signature_algorithm_name
from tentacle.settings.model import Settings, resolved_home
from tentacle.settings.scripts import ScriptSettings

GRACE_VARIABLE = "TENTACLE_CANCEL_GRACE"
_DEFAULT_GRACE = timedelta(seconds=EngineOptions().cancel_grace)


def make_engine(settings: Settings, surroundings: Surroundings) -> ScriptEngine:
    """The engine of an instance."""
    home, environment = resolved_home(settings, surroundings.config_path), surroundings.environment
    return ScriptEngine(
        home / WORK,
        environment=script_variables(settings, home, surroundings.instance_name, surroundings.executable, environment),
        options=engine_options(settings.scripts, environment, settings.application_directory, surroundings.launcher),
        known=known_to(settings, surroundings),
        watch=surroundings.redactor.watch,
    )


def known_to(settings: Settings, surroundings: Surroundings) -> frozenset[str]:
    """What scripts' logs must not show, whoever has told us of it."""
    return known_values(settings, surroundings.environment) | surroundings.redactor.secrets


def engine_options(
    settings: ScriptSettings,
    environment: Mapping[str, str],
    applications: Path | None = None,
    launcher: Path | None = None,
) -> EngineOptions:
    """The options that the settings and the environment ask for.  Scripts deploy to the directory `applications`.

    `launcher` is the socket of the service that starts them, if there is one.
    """
    grace = duration_from(environment, GRACE_VARIABLE, _DEFAULT_GRACE)
    sandbox = SandboxOptions(
        mode=Mode(settings.sandbox),
        limits=ScriptLimits(settings.memory_limit, settings.cpu_limit, settings.task_limit),
        uids=UidRange(*settings.uid_range),
        applications=applications,
    )
    return EngineOptions(sandbox=sandbox, cancel_grace=grace.total_seconds(), launcher=launcher, try_out=True)


def script_variables(
    settings: Settings, home: Path, instance_name: str | None, executable: Path, environment: Mapping[str, str]
) -> Mapping[str, str | None]:
    """What scripts of the agent in `home` find in their environment; `None` for what they must not find."""
    certificate, proxy = settings.certificate, settings.proxy
    properties = AgentProperties(
        home=home,
        applications=settings.application_directory,
        instance_name=instance_name,
        version=settings.reported_version,
        executable=executable,
        signature_algorithm=signature_algorithm_name(certificate) if certificate else "sha256RSA",
        use_default_proxy=proxy.use_default,
        proxy_host=proxy.host,
        proxy_port=proxy.port,
        proxy_username=proxy.username,
        proxy_password=proxy.password,
    )
    variables = script_environment(properties, f"{platform.python_implementation()} {platform.python_version()}")
    # Where the user has no entry in the system's list, not even a login would have set one.
    return variables if environment.get("HOME") else {**variables, "HOME": str(user_home() or home)}
