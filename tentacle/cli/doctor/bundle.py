"""An archive for somebody who helps from afar: the doctor's findings, the settings and the end of the log.

It holds no secret.  Only settings that are known to be harmless are copied; all texts are masked.  Knows what is secret
in an instance and in an environment; must not know where the archive is written.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tentacle import __version__
from tentacle.agent.sensitive import known_values
from tentacle.cli.doctor.examined import ExaminedInstance
from tentacle.cli.doctor.machine import library_versions, without_userinfo
from tentacle.disk import read_bytes
from tentacle.errors import TentacleError
from tentacle.home_layout import STATUS_FILE
from tentacle.masking import SHORTEST
from tentacle.observe.redaction import MASK, Redactor
from tentacle.observe.text import visible
from tentacle.path_walk import parent_of, wary_root
from tentacle.settings.key_places import key_path_of
from tentacle.settings.model import ProxySettings
from tentacle.settings.show import configuration_document

LOG_BYTES: Final = 512 * 1024
_SECRET_NAMES: Final = re.compile(r"KEY|TOKEN|PASS|SECRET|CREDENTIAL|^TENTACLE_CERTIFICATE$", re.IGNORECASE)
_PATTERNS: Final = (
    re.compile(r"-----BEGIN[^-]*PRIVATE KEY-----.*?(-----END[^-]*-----|$)", re.DOTALL),
    re.compile(r"sealed:[0-9]+:[A-Za-z0-9+/=]+"),
    re.compile(r"(?i)(?<=bearer )[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(r"(?i)(?<=basic )[A-Za-z0-9+/=]{8,}"),
    re.compile(r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"),
    re.compile(r"(?i)(?<=password=)[^\s&\"']+"),
)
_USERINFO: Final = re.compile(r"(?<=://)[^\s\"']*@")


def secrets_of(instance: ExaminedInstance, environ: Mapping[str, str]) -> Iterator[str]:
    """Every secret of the instance and of the environment, in each form in which it could be written somewhere."""
    for name, value in environ.items():
        if _SECRET_NAMES.search(name) and len(value) >= SHORTEST:
            yield value
    settings = instance.settings
    if settings is not None:
        yield from known_values(settings, environ)
        for certificate in (settings.certificate, settings.next_certificate, settings.previous_certificate):
            if certificate is not None:
                yield from (line for line in certificate.key_pem.decode("ascii").splitlines() if "-" not in line)
    if instance.config is not None:
        try:
            yield from read_bytes(key_path_of(instance.config), limit=64 * 1024).decode("utf-8", "replace").split()
        except (OSError, TentacleError):
            return


def make_bundle(
    instance: ExaminedInstance, environ: Mapping[str, str], redactor: Redactor, report: str, document: Any
) -> bytes:
    """The archive (tar, gzip).  `redactor` knows the secrets of this run; those of the instance are added."""
    masked = Masking(redactor, secrets_of(instance, environ))
    files = {
        "doctor.txt": report,
        "doctor.json": json.dumps(document, indent=2, ensure_ascii=False),
        "versions.json": json.dumps({"tentacle": __version__, **library_versions()}, indent=2),
        "configuration.json": json.dumps(_harmless_configuration(instance), indent=2, ensure_ascii=False),
    }
    if instance.home is not None and instance.log_file is not None:
        files[instance.log_file.name] = last_lines(instance.log_file)
        files[STATUS_FILE] = last_lines(instance.home / STATUS_FILE)
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, text in files.items():
            data = masked(text).encode("utf-8", "backslashreplace")
            info = tarfile.TarInfo(f"tentacle-doctor/{name}")
            info.size, info.mode, info.mtime = len(data), 0o600, int(instance.now)
            archive.addfile(info, io.BytesIO(data))
    return content.getvalue()


class Masking:
    """Masks in a text every secret, everything that looks like one, and every password in an address."""

    def __init__(self, redactor: Redactor, secrets: Iterable[str]) -> None:
        self._redactor = redactor
        for secret in secrets:
            if len(secret) >= SHORTEST:
                redactor.add(secret)

    def __call__(self, text: str) -> str:
        for pattern in _PATTERNS:
            text = pattern.sub(MASK, text)
        return self._redactor.redact(_USERINFO.sub(f"{MASK}@", text))


def _harmless_configuration(instance: ExaminedInstance) -> dict[str, Any]:
    settings = instance.settings
    if settings is None:
        return {"Problem": instance.problem.message if instance.problem else "there is no instance"}
    document = configuration_document(settings, instance.config)
    for server in document["Tentacle"]["Communication"]["TrustedOctopusServers"]:
        server["Address"] = without_userinfo(server["Address"]) if server["Address"] else None
    return {**document, "Proxy": _proxy(settings.proxy), "PollingProxy": _proxy(settings.polling_proxy)}


def _proxy(proxy: ProxySettings) -> dict[str, Any]:
    return {
        "UseDefault": proxy.use_default,
        "Host": proxy.host,
        "Port": proxy.port,
        "HasUsername": bool(proxy.username),
        "HasPassword": bool(proxy.password),
    }


def last_lines(path: Path, limit: int = LOG_BYTES) -> str:
    """The whole lines in the last `limit` bytes of a file; when it cannot be read, one line that says why."""
    try:
        with (
            parent_of(path, wary_root()) as place,
            os.fdopen(place.open(os.O_RDONLY | os.O_NONBLOCK), "rb") as file,
        ):
            place.require_readable(os.fstat(file.fileno()))
            length = file.seek(0, os.SEEK_END)
            file.seek(max(length - limit, 0))
            data = file.read(limit)
    except OSError as error:
        return f"({path} cannot be read: {error.strerror})\n"
    if length > limit:
        data = data.partition(b"\n")[2]
    return "".join(f"{visible(line)}\n" for line in data.decode("utf-8", "replace").splitlines())
