"""`todoku account setup`: how people get their mail program to work, in words, as files, and as a QR code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from todoku.cli.parts.context import FAILED, print_json
from todoku.cli.parts.people import Json, directory, refuse, say

if TYPE_CHECKING:
    from todoku.settings import Settings


def setup(
    ctx: typer.Context,
    account: Annotated[
        str, typer.Argument(metavar="ACCOUNT", help="The account's login or one of its addresses.")
    ],
    mobileconfig: Annotated[
        Path | None,
        typer.Option("--mobileconfig", metavar="FILE", help="Write a profile for iPhone, iPad and Mac."),
    ] = None,
    autoconfig: Annotated[
        Path | None,
        typer.Option("--autoconfig", metavar="FILE", help="Write Thunderbird's file for the domain."),
    ] = None,
    name: Annotated[
        str, typer.Option("--name", help="The person's name, for the QR code; the address without it.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Show what to enter in the common mail programs, with a QR code for Thunderbird on a phone. No password in it."""
    from todoku.directory.addresses import readable
    from todoku.host import mail_programs

    with directory(ctx, "showing an account's set-up", as_json=as_json) as people:
        known = people.account(account)
        settings = people.people().settings
    to = mail_programs.access(known, settings, _root(settings, as_json=as_json))
    payload = mail_programs.qr_payload(to, name or to.address)
    if mobileconfig:
        write_file(mobileconfig, mail_programs.mobileconfig(to, settings.domains[0].unicode), as_json=as_json)
    if autoconfig:
        write_file(autoconfig, mail_programs.autoconfig(to), as_json=as_json)
    if as_json:
        servers = {
            "imap": {"host": to.server, "port": mail_programs.IMAPS, "security": "tls"},
            "smtp": {"host": to.server, "port": mail_programs.SUBMISSIONS, "security": "tls"},
            "smtp_alternative": {"host": to.server, "port": mail_programs.SUBMISSION, "security": "starttls"},
        }
        answer = {
            "ok": True,
            "address": to.address,
            "address_unicode": readable(to.address),
            "login": to.login,
        }
        print_json(answer | servers | {"self_signed": to.self_signed, "qr": payload})
        return
    say(mail_programs.instructions(to))
    _show(payload)


def _root(settings: Settings, *, as_json: bool) -> bytes:
    """The root of our own authority, DER, where the server's name is certified by it; else nothing."""
    from cryptography.hazmat.primitives.serialization import Encoding

    from todoku.host.certificates import own_authority
    from todoku.host.certificates.certificate import CertificateError
    from todoku.host.client import Host

    if not settings.tls.is_own_authority_needed:
        return b""
    try:
        authority = own_authority.read(Host())
    except (CertificateError, OSError) as error:
        refuse(str(error), FAILED, as_json=as_json)
    return authority.parsed.public_bytes(Encoding.DER) if authority is not None else b""


def _show(payload: str) -> None:
    import segno

    say("\nFor Thunderbird on a phone:")
    segno.make(payload, error="l", micro=False).terminal(compact=True)


def write_file(file: Path, content: bytes, *, as_json: bool) -> None:
    """The file, whole or not at all; ends with code 1 when that cannot be."""
    partial = file.with_name(f".{file.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(file)
    except OSError as error:
        partial.unlink(missing_ok=True)
        refuse(f"{file} could not be written: {error.strerror}", FAILED, as_json=as_json)
