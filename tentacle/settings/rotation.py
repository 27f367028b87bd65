"""Replacing our certificate with overlap: for a while servers may know us by the old one or by the new one.

Three states, told apart by which certificates there are: none but `certificate`; a `next_certificate` that servers are
yet to learn; a `previous_certificate` that some server may still expect.  A listener can show one only, always
`certificate`; a poller tries both.  Pure functions on settings; no file, no server.
"""

from __future__ import annotations

from dataclasses import replace

from tentacle.settings.certificates import StoredCertificate
from tentacle.settings.errors import SettingsError
from tentacle.settings.model import Settings


def begin(settings: Settings, made: StoredCertificate) -> Settings:
    """`made` is to replace the certificate; one that is to already stays the one.

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
    """The new certificate becomes the one that is shown, the old one is tried where that is not welcome."""
    if settings.next_certificate is None:
        return settings
    return replace(
        settings,
        certificate=settings.next_certificate,
        next_certificate=None,
        previous_certificate=settings.certificate,
    )


def finish(settings: Settings) -> Settings:
    """Only the new certificate is left.  Raises `SettingsError` when none is being replaced."""
    _check_rotating(settings)
    return without_overlap(switch(settings))


def undo(settings: Settings) -> Settings:
    """Only the old certificate is left.  Raises `SettingsError` when servers have been told of the new one already."""
    _check_rotating(settings)
    if settings.previous_certificate is not None:
        raise SettingsError(
            "An Octopus Server has been told of the new certificate, so that it cannot be taken back.",
            hint="When every server knows the new one, run: Tentacle rotate-certificate --finish",
        )
    return without_overlap(settings)


def without_overlap(settings: Settings) -> Settings:
    """`settings` with nothing but the certificate that is shown."""
    return replace(settings, next_certificate=None, previous_certificate=None)


def _check_rotating(settings: Settings) -> None:
    if settings.next_certificate is None and settings.previous_certificate is None:
        raise SettingsError("No certificate is being replaced.", hint="Begin with: Tentacle rotate-certificate")
