"""`new-certificate`: a new identity, installed or written to a file (docs/spec/command-line.md, "new-certificate")."""

from __future__ import annotations

import codecs
from pathlib import Path

from tentacle.cli.frame.certificate_replacement import kept_document, replace_certificate, told_of
from tentacle.cli.frame.command import command, option
from tentacle.cli.frame.options import instance_options, json_option
from tentacle.cli.frame.output_file import write_secret
from tentacle.cli.frame.result import CommandResult
from tentacle.cli.frame.session import CommandSession, InstanceOptions
from tentacle.errors import TentacleError
from tentacle.settings import certificates
from tentacle.settings.stored_certificate import StoredCertificate


@command("new-certificate")
@instance_options
@option("-b", "--if-blank", is_flag=True, help="Generates a new certificate only if there is none")
@option(
    "-e",
    "--export-file",
    help="DEPRECATED: Exports a new certificate to the specified file as unprotected base64 text, but does not save it"
    " to the Tentacle configuration; for use with the import-certificate command",
)
@option(
    "--export-pfx",
    help="Exports the new certificate to the specified file as a password protected pfx, but does not save it to the"
    " Tentacle configuration; for use with the import-certificate command",
)
@option("--pfx-password", sensitive=True, help="The password to use for the exported pfx file")
@json_option
def new_certificate(
    session: CommandSession,
    *,
    where: InstanceOptions,
    if_blank: bool,
    export_file: str | None,
    export_pfx: str | None,
    pfx_password: str | None,
) -> CommandResult:
    """Without `--if-blank` a certificate that is there is replaced, and kept beside the configuration."""
    file = session.choose(where)
    options = {"--if-blank": if_blank, "--export-file": export_file, "--export-pfx": export_pfx}
    together = [name for name, value in options.items() if value]
    if len(together) > 1:
        raise TentacleError(f"Invalid command: {together[0]} and {together[1]} cannot be specified together")
    present = session.overridden(file.load()).certificate if if_blank else None
    if present is not None:
        return _kept(present)
    made = certificates.generate()
    if export_file:
        text = codecs.BOM_UTF8 + certificates.export_base64(made).encode("ascii")
        return _exported(made, session.path(export_file), text, export_file)
    if export_pfx:
        return _exported(made, session.path(export_pfx), certificates.export_pfx(made, pfx_password), export_pfx)

    now, lost = replace_certificate(file, made, only_if_blank=if_blank)
    if now != made:
        return _kept(now)  # another process has made one at the same time
    title = "A new certificate has been generated and installed. Thumbprint:"
    document = {"Thumbprint": made.thumbprint, "Created": True, **kept_document(lost, file)}
    lines = (title, made.thumbprint, *told_of(lost, session, file))
    return CommandResult(lines, restart=True, document=document)


def _kept(present: StoredCertificate) -> CommandResult:
    document = {"Thumbprint": present.thumbprint, "Created": False}
    return CommandResult(("A certificate already exists, no changes will be applied.",), document=document)


def _exported(made: StoredCertificate, path: Path, content: bytes, shown: str) -> CommandResult:
    write_secret(path, content)
    title = f"A new certificate has been generated and written to {shown}. Thumbprint:"
    document = {"Thumbprint": made.thumbprint, "Created": True, "File": str(path)}
    return CommandResult((title, made.thumbprint), document=document)
