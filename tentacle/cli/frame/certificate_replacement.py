"""Puts another certificate in the place of an instance's own, which is kept beside the configuration."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace

from tentacle.cli.frame.session import CommandSession
from tentacle.settings import rotation
from tentacle.settings.model import Settings
from tentacle.settings.store import SettingsFile, kept_certificate_path
from tentacle.settings.stored_certificate import StoredCertificate


def replace_certificate(
    file: SettingsFile, made: StoredCertificate, *, only_if_blank: bool = False
) -> tuple[StoredCertificate, tuple[StoredCertificate, ...]]:
    """Returns the certificate that the instance has now, and those that it had and that were kept in files."""
    lost: tuple[StoredCertificate, ...] = ()

    def install(settings: Settings) -> Settings:
        nonlocal lost
        if only_if_blank and settings.certificate:
            return settings
        after = replace(rotation.without_overlap(settings), certificate=made)
        lost = rotation.dropped(settings, after)
        return after

    return file.update(install, keep_certificates=True).certificate or made, lost


def told_of(lost: tuple[StoredCertificate, ...], session: CommandSession, file: SettingsFile) -> Iterator[str]:
    """What to say of certificates that were replaced: where they are, who must know, and the way back."""
    which = f"--instance={session.instance_name}" if session.instance_name else f"--config={file.path}"
    for one in lost:
        path = kept_certificate_path(file.path, one.thumbprint)
        yield f"The certificate that it replaces, {one.thumbprint}, is kept in {path}"
        yield f"To go back to it: {shlex.join(['Tentacle', 'import-certificate', which, f'--from-file={path}'])}"
    if lost:
        yield (
            "An Octopus Server that knows this Tentacle by the old thumbprint refuses it until it is told of the new "
            "one. Next time, 'Tentacle rotate-certificate' replaces the certificate without a gap."
        )


def kept_document(lost: tuple[StoredCertificate, ...], file: SettingsFile) -> dict[str, dict[str, str]]:
    """The same for programs: the files by thumbprint."""
    kept = {one.thumbprint: str(kept_certificate_path(file.path, one.thumbprint)) for one in lost}
    return {"Kept": kept} if kept else {}
