"""Replacing this Tentacle's certificate with overlap: for a while servers may know the old one or the new one.

There are three states: only `certificate`; also a `next_certificate`, which servers have not been told of; or also a
`previous_certificate`, which some server may still expect.  A listener shows `certificate`; a poller tries both.
Pure functions on settings.  Must not know files or servers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tentacle.settings.errors import SettingsError
from tentacle.settings.model import Settings
from tentacle.settings.stored_certificate import StoredCertificate


def begin(settings: Settings, made: StoredCertificate) -> Settings:
    """Returns settings in which `made` is to replace the certificate, unless another one is to already.

    Raises `SettingsError` when there is none to replace, or the last replacement is not finished.
    """
    if settings.certificate is None:
        raise SettingsError("There is no certificate to replace.", hint="run: Tentacle new-certificate")
    if settings.previous_certificate is not None:
        raise SettingsError(
            f"The certificate {settings.previous_certificate.thumbprint} is still being replaced by "
            f"{settings.certificate.thumbprint}.",
            hint="When every server knows the new one, run: Tentacle rotate-certificate --finish",
        )
    return settings if settings.next_certificate else replace(settings, next_certificate=made)


def switch(settings: Settings) -> Settings:
    """Returns settings in which the new certificate is shown, and the old one is tried where it is refused."""
    if settings.next_certificate is None:
        return settings
    return replace(
        settings,
        certificate=settings.next_certificate,
        next_certificate=None,
        previous_certificate=settings.certificate,
    )


def finish(settings: Settings) -> Settings:
    """Returns settings with the new certificate only.  Raises `SettingsError` when none is being replaced."""
    _check_rotating(settings)
    return without_overlap(switch(settings))


def undo(settings: Settings) -> Settings:
    """Returns settings with the old certificate only.  Raises `SettingsError` when servers know the new one already."""
    _check_rotating(settings)
    if settings.previous_certificate is not None:
        raise SettingsError(
            "An Octopus Server has been told of the new certificate, so that it cannot be taken back.",
            hint="When every server knows the new one, run: Tentacle rotate-certificate --finish",
        )
    return without_overlap(settings)


def without_overlap(settings: Settings) -> Settings:
    """Returns `settings` with the certificate that is shown only."""
    return replace(settings, next_certificate=None, previous_certificate=None)


def dropped(before: Settings, after: Settings) -> tuple[StoredCertificate, ...]:
    """Returns the certificates of `before` that are not in `after`."""
    kept = {one.thumbprint for one in _certificates_of(after)}
    return tuple(one for one in _certificates_of(before) if one.thumbprint not in kept)


def _certificates_of(settings: Settings) -> Iterator[StoredCertificate]:
    for one in (settings.certificate, settings.next_certificate, settings.previous_certificate):
        if one is not None:
            yield one


def _check_rotating(settings: Settings) -> None:
    if settings.next_certificate is None and settings.previous_certificate is None:
        raise SettingsError("No certificate is being replaced.", hint="Begin with: Tentacle rotate-certificate")
