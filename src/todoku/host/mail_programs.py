"""What people enter into their mail programs, and the files that enter it for them.

- Apple's configuration profile: https://developer.apple.com/documentation/devicemanagement/mail
- Thunderbird's autoconfiguration: https://wiki.mozilla.org/Thunderbird:Autoconfiguration:ConfigFileFormat
- the QR code that Thunderbird for Android reads ("Export for Mobile", format 1, 2025-02-06)

No password is in any of them: each program asks for it.
"""

from __future__ import annotations

import json
import plistlib
import uuid
from dataclasses import dataclass
from xml.etree import ElementTree

from todoku.directory import Account
from todoku.settings import Settings

IMAPS, SUBMISSION, SUBMISSIONS = 993, 587, 465
_NAMESPACE = uuid.UUID(
    "5f3f6c2a-8d61-5b0e-9a6b-0f1f5a6c7d10"
)  # of Todoku's profiles: the same account, the same id
_QR_TLS, _QR_PASSWORD = 3, 1  # ConnectionSecurity, AuthenticationType


@dataclass(frozen=True, slots=True)
class Access:
    """How an account is reached: one name for both servers, TLS always, and the same password."""

    address: str
    login: str
    server: str
    self_signed: bool  # then programs warn until the settings name a real certificate
    root: bytes = b""  # DER, of the authority that people have to trust; empty where it is a public one


def access(account: Account, settings: Settings, root: bytes = b"") -> Access:
    """How `account` is reached on a host with these settings; `root` is that of its own authority, DER."""
    server = settings.tls.internal_name or settings.hostname
    self_signed = settings.tls.kind == "self-signed" and settings.tls.internal_name is None
    return Access(account.address, account.login, server, self_signed, root)


def instructions(to: Access) -> str:
    """What to enter, in words, for any program and for the common ones."""
    lines = [
        f"Address     {to.address}",
        f"User name   {to.login}    (for both servers)",
        "Password    the account's, for both servers",
        f"Incoming    IMAP   {to.server}   port {IMAPS}   TLS (SSL/TLS)",
        f"Outgoing    SMTP   {to.server}   port {SUBMISSIONS}   TLS (SSL/TLS)",
        f"            or     {to.server}   port {SUBMISSION}   STARTTLS, where a program cannot do the other",
        "",
        "Thunderbird   New account, address and password, then Configure manually: the values above, authentication",
        "              Normal password. On a phone: Thunderbird for Android, Import settings, scan the code.",
        "Apple Mail    Open the file of --mobileconfig on the device; Settings then shows it as a profile.",
        "Outlook       Add account, Advanced: set up manually, IMAP: the values above, encryption SSL/TLS.",
        "Gmail app     Add account, Other, IMAP: the values above, security type SSL/TLS.",
        "",
        "The servers answer in the organisation's own networks only (clients.networks): elsewhere use its VPN.",
    ]
    if to.self_signed:
        lines.append(
            "The certificate is self-signed, so programs warn, and Apple's may refuse: see [tls] in the settings."
        )
    if to.root:
        lines.append(
            "The certificate is of your own authority: programs trust it once its root is installed (`todoku ca show`)."
        )
    return "\n".join(lines)


def mobileconfig(to: Access, organisation: str) -> bytes:
    """A profile for iPhone, iPad and Mac. Installed again, it replaces the one before."""
    identity = uuid.uuid5(_NAMESPACE, f"{to.server} {to.address}")
    mail = {
        "PayloadType": "com.apple.mail.managed",
        "PayloadVersion": 1,
        "PayloadIdentifier": f"todoku.{to.server}.{identity}.mail",
        "PayloadUUID": str(uuid.uuid5(identity, "mail")).upper(),
        "PayloadDisplayName": to.address,
        "EmailAccountDescription": to.address,
        "EmailAccountType": "EmailTypeIMAP",
        "EmailAddress": to.address,
        "IncomingMailServerHostName": to.server,
        "IncomingMailServerPortNumber": IMAPS,
        "IncomingMailServerUseSSL": True,
        "IncomingMailServerAuthentication": "EmailAuthPassword",
        "IncomingMailServerUsername": to.login,
        "OutgoingMailServerHostName": to.server,
        "OutgoingMailServerPortNumber": SUBMISSIONS,
        "OutgoingMailServerUseSSL": True,
        "OutgoingMailServerAuthentication": "EmailAuthPassword",
        "OutgoingMailServerUsername": to.login,
        "OutgoingPasswordSameAsIncomingPassword": True,
    }
    profile = {
        "PayloadType": "Configuration",
        "PayloadVersion": 1,
        "PayloadIdentifier": f"todoku.{to.server}.{identity}",
        "PayloadUUID": str(identity).upper(),
        "PayloadDisplayName": f"Mail: {to.address}",
        "PayloadOrganization": organisation,
        "PayloadContent": [*_root(to, identity), mail],
    }
    return plistlib.dumps(profile)


def _root(to: Access, identity: uuid.UUID) -> list[dict[str, object]]:
    """The root of our own authority (com.apple.security.root), so that the device trusts the server."""
    if not to.root:
        return []
    return [
        {
            "PayloadType": "com.apple.security.root",
            "PayloadVersion": 1,
            "PayloadIdentifier": f"todoku.{to.server}.{identity}.root",
            "PayloadUUID": str(uuid.uuid5(identity, "root")).upper(),
            "PayloadDisplayName": f"Mail authority of {to.server}",
            "PayloadCertificateFileName": "root.cer",
            "PayloadContent": to.root,
        }
    ]


def autoconfig(to: Access) -> bytes:
    """Thunderbird's file for the account's domain, at https://autoconfig.DOMAIN/mail/config-v1.1.xml, or in the folder
    `isp` of an installation as DOMAIN.xml."""
    local, _, domain = to.address.rpartition("@")
    user = {to.address: "%EMAILADDRESS%", local: "%EMAILLOCALPART%"}.get(to.login, to.login)
    root = ElementTree.Element("clientConfig", version="1.1")
    provider = ElementTree.SubElement(root, "emailProvider", id=domain)
    ElementTree.SubElement(provider, "domain").text = domain
    ElementTree.SubElement(provider, "displayName").text = domain
    ElementTree.SubElement(provider, "displayShortName").text = domain
    servers = (("incomingServer", "imap", IMAPS, "SSL"), ("outgoingServer", "smtp", SUBMISSIONS, "SSL"))
    for element, kind, port, socket_type in (*servers, ("outgoingServer", "smtp", SUBMISSION, "STARTTLS")):
        server = ElementTree.SubElement(provider, element, type=kind)
        values = (("hostname", to.server), ("port", str(port)), ("socketType", socket_type))
        for name, value in (*values, ("authentication", "password-cleartext"), ("username", user)):
            ElementTree.SubElement(server, name).text = value
    ElementTree.indent(root)
    written: bytes = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return written + b"\n"


def qr_payload(to: Access, name: str) -> str:
    """What the QR code says to Thunderbird for Android. `name`: shown to those who get mail."""
    server = (to.server, SUBMISSIONS, _QR_TLS, _QR_PASSWORD, to.login)
    incoming = (0, to.server, IMAPS, _QR_TLS, _QR_PASSWORD, to.login)
    outgoing = [[[0, *server], [to.address, name]]]
    return json.dumps([1, [1, 1], incoming, outgoing], separators=(",", ":"))
