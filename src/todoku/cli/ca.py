"""`todoku ca`: the certificate authority of one's own, whose root people install."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from todoku.cli.account_setup import write_file
from todoku.cli.parts.context import DONE, FAILED, Context, print_json
from todoku.cli.parts.people import refuse, say

if TYPE_CHECKING:
    from todoku.host.certificates.own_authority import Authority

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Your own certificate authority: its root, for people to install.",
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]

_INSTRUCTIONS = """\
To trust it, install the root, as written by `todoku ca export FILE`. Compare the fingerprint first.

Windows        Double-click the file (named .crt), Install Certificate, Local Machine, Place all certificates in the
               following store: Trusted Root Certification Authorities. Or: certutil -addstore Root FILE
macOS          Double-click the file; in Keychain Access open it, Trust, When using this certificate: Always Trust. Or:
               sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain FILE
iPhone, iPad   `todoku account setup ADDRESS --mobileconfig FILE` has it in the profile; then Settings, General, About,
               Certificate Trust Settings: switch it on.
Android        Settings, Security, Encryption & credentials, Install a certificate, CA certificate. Not every mail
               program heeds it; Thunderbird for Android does.
Debian, Ubuntu sudo cp FILE /usr/local/share/ca-certificates/NAME.crt && sudo update-ca-certificates
Thunderbird    Settings, Privacy & Security, Certificates, Manage Certificates, Authorities, Import: trust it to
               identify websites (which is the word for mail servers too). It does not look into Debian's list."""


@app.command("show")
def show(ctx: typer.Context, as_json: Json = False) -> None:
    """Show the root: for which names it is good, until when, its fingerprint, and how to install it on each system."""
    authority = _authority(ctx, as_json=as_json)
    until = f"{authority.parsed.not_valid_after_utc:%Y-%m-%d}"
    if as_json:
        names = list(authority.names)
        print_json({"ok": True, "names": names, "until": until, "sha256": authority.fingerprint})
        raise SystemExit(DONE)
    say(f"For           {', '.join(authority.names)}, and for no other name")
    say(f"Good until    {until}")
    say(f"SHA-256       {authority.fingerprint}\n")
    say(_INSTRUCTIONS)


@app.command("export")
def export(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it, such as root.crt.")],
    der: Annotated[bool, typer.Option("--der", help="Write DER instead of PEM.")] = False,
    as_json: Json = False,
) -> None:
    """Write the root's certificate, which is no secret. The key stays where it is."""
    from cryptography.hazmat.primitives.serialization import Encoding

    authority = _authority(ctx, as_json=as_json)
    content = authority.parsed.public_bytes(Encoding.DER if der else Encoding.PEM)
    write_file(file, content, as_json=as_json)
    if as_json:
        print_json({"ok": True, "file": str(file), "sha256": authority.fingerprint})
    else:
        say(f"{file}: SHA-256 {authority.fingerprint}")


def _authority(ctx: typer.Context, *, as_json: bool) -> Authority:
    from todoku.host.certificates import own_authority
    from todoku.host.certificates.certificate import CertificateError
    from todoku.host.client import Host

    context: Context = ctx.obj
    settings = context.settings()
    try:
        authority = own_authority.read(Host())
    except (CertificateError, OSError) as error:
        refuse(str(error), FAILED, as_json=as_json)
    if authority is None:
        how = "run `todoku apply`, which makes it"
        if not settings.tls.is_own_authority_needed:
            how = 'set tls.internal_name, or tls.mode = "own-ca", then run `todoku apply`'
        refuse(f"there is no certificate authority yet: {how}", FAILED, as_json=as_json)
    return authority
