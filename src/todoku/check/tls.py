"""TLS of our own ports: really offered, in a version that is neither too old nor too new, with a certificate that says
who we are and does not end soon (RFC 3207, RFC 8314, RFC 8996, RFC 9325).

Everything is tried through the address that the world uses, from this machine; a firewall in between is not seen.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import datetime

from cryptography import x509

from todoku.check.dialogue import anybody
from todoku.check.finding import Finding, Verdict, failed, passed, unknown, warned
from todoku.check.means import Means
from todoku.check.ports import LOOPBACK, SECONDS, Door, NotOffered, doors
from todoku.check.runner import Step
from todoku.settings import Settings

_SOON = 14  # days
_OWN_SIGNATURE = (18, 19)  # X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, ..._SELF_SIGNED_CERT_IN_CHAIN
_UNKNOWN_AUTHORITY = (20, 21)  # X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, ..._VERIFY_LEAF_SIGNATURE
_EXPIRED, _WRONG_NAME = 10, 62  # X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_HOSTNAME_MISMATCH


def steps(settings: Settings, means: Means) -> list[Step]:
    own = settings.tls.kind == "self-signed"
    authority = settings.tls.kind == "own-ca"
    found = []
    for door in doors(settings, means):
        about = str(door.port)
        found += [
            Step("tls.offered", about, lambda door=door: offered(door)),  # type: ignore[misc]
            Step("tls.versions", about, lambda door=door: versions(door)),  # type: ignore[misc]
            Step("tls.certificate", about, lambda door=door: certificate(door, own, authority)),  # type: ignore[misc]
        ]
    return found


def offered(door: Door) -> Iterator[Finding]:
    """Whether the port answers, offers TLS, and when the certificate ends."""
    about = str(door.port)
    reached = door.address
    try:
        door.from_outside().socket.close()
    except OSError as problem:
        finding = _closed(door, problem)
        yield finding
        if finding.verdict is Verdict.FAIL:
            return
        reached = LOOPBACK
    try:
        with door.secured(anybody()) as (_, secured):
            version, raw = secured.version(), secured.getpeercert(binary_form=True)
    except NotOffered as problem:
        yield failed("tls.offered", str(problem), "Run `todoku apply`, which sets Postfix right", about)
        return
    except OSError as problem:
        advice = "Look at the log, and at the certificate and its key below [tls]; then run `todoku apply`"
        yield failed("tls.offered", f"{about} does not get as far as TLS: {problem}", advice, about)
        return
    if reached == door.address:
        yield passed("tls.offered", f"{version} at {reached}", about)
    if raw:
        yield _expiry(x509.load_der_x509_certificate(raw), door.means.now(), about)


def _closed(door: Door, problem: OSError) -> Finding:
    """Behind an address translation a machine often cannot reach its own public address."""
    about = str(door.port)
    try:
        with door.means.connect(LOOPBACK, door.port.number, SECONDS):
            pass
    except OSError:
        advice = "Run `todoku apply`, and look into the log why the service does not run"
        return failed("tls.offered", f"nobody listens at {about}: {problem}", advice, about)
    reason = problem.strerror or str(problem)
    seen = f"open here, and not to be reached at {door.address} from this machine: {reason}"
    advice = (
        "Try from elsewhere whether it is open; if not, look at the firewall. Behind an address translation this is no "
        f"fault: everything else was tried at {LOOPBACK}"
    )
    return unknown("tls.offered", seen, advice, about)


def _expiry(found: x509.Certificate, now: datetime, about: str) -> Finding:
    ends = found.not_valid_after_utc
    days = (ends - now).total_seconds() / 86400
    advice = "Renew the certificate, then run `todoku apply`, which has the services take it in"
    if days < 0:
        return failed("tls.expiry", f"the certificate has ended on {ends:%Y-%m-%d}", advice, about)
    if found.not_valid_before_utc > now:
        seen = f"the certificate begins on {found.not_valid_before_utc:%Y-%m-%d} only"
        return failed("tls.expiry", seen, "Look at the clock, and at the certificate", about)
    if days < _SOON:
        return warned("tls.expiry", f"the certificate ends in {int(days)} days", advice, about)
    return passed("tls.expiry", f"the certificate ends on {ends:%Y-%m-%d}", about)


def versions(door: Door) -> Iterator[Finding]:
    """TLS 1.2 has to work, as not everybody has 1.3; 1.0 and 1.1 must not (RFC 8996)."""
    about = str(door.port)
    try:
        modern = _takes(door, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2)
        newest = _takes(door, ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3)
        old = _takes(door, ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1)
    except (NotOffered, OSError):
        return  # `offered` tells it
    if not modern and not newest:
        yield failed("tls.versions", "neither TLS 1.2 nor TLS 1.3 works", "Run `todoku apply`", about)
    elif old:
        # To deliver in old TLS is better than in the clear (RFC 7435); a password must not go through it.
        tell = failed if door.port.clients else warned
        yield tell("tls.versions", "TLS 1.0 or 1.1 is still taken", "Run `todoku apply`", about)
    elif not modern:
        yield warned(
            "tls.versions", "only TLS 1.3 is taken, which not everybody has", "Allow TLS 1.2 as well", about
        )
    else:
        yield passed("tls.versions", "TLS 1.2 and 1.3" if newest else "TLS 1.2", about)


def _takes(door: Door, least: ssl.TLSVersion, most: ssl.TLSVersion) -> bool:
    """Whether the port takes one of these versions. Raises OSError other than TLS's own, NotOffered."""
    context = anybody()
    context.set_ciphers("ALL:@SECLEVEL=0")  # ours must not refuse what the server would take
    context.minimum_version, context.maximum_version = least, most
    try:
        with door.secured(context):
            return True
    except (ssl.SSLError, ConnectionResetError):
        return False


def certificate(door: Door, own_signature: bool, own_authority: bool = False) -> Iterator[Finding]:
    """Whether those who look at the certificate are convinced. `own_signature`: the settings want it self-signed;
    `own_authority`: they want it signed by an authority of one's own."""
    about = str(door.port)
    try:
        with door.secured(door.means.trust()):
            yield passed(
                "tls.certificate", f"it is for {door.hostname}, from an authority that is known", about
            )
    except ssl.SSLCertVerificationError as problem:
        if own_authority and problem.verify_code in _UNKNOWN_AUTHORITY:
            said = "signed by your own authority, as in the settings: who has installed its root is convinced"
            yield passed("tls.certificate", said, about)
            return
        finding = _unconvincing(door, problem, own_signature)
        if finding is not None:
            yield finding
    except (NotOffered, OSError):
        return  # `offered` tells it


def _unconvincing(door: Door, problem: ssl.SSLCertVerificationError, own_signature: bool) -> Finding | None:
    about, code = str(door.port), problem.verify_code
    # Servers that deliver here take any certificate, as long as the domain has neither DANE nor MTA-STS.
    tell = failed if door.port.clients else warned
    if code == _EXPIRED:
        return None  # `tls.expiry` tells it
    if code in _OWN_SIGNATURE and own_signature:
        if not door.port.clients:
            return passed(
                "tls.certificate", "self-signed, as in the settings; who delivers does not mind", about
            )
        advice = "Get one from an authority, and name it below [tls]"
        return warned("tls.certificate", "self-signed, as in the settings: mail programs warn", advice, about)
    if code in _OWN_SIGNATURE:
        advice = "Run `todoku apply`, which has the services take in the certificate of the settings"
        return tell("tls.certificate", "it is self-signed", advice, about)
    if code == _WRONG_NAME:
        advice = f"Get one for {door.hostname}"
        return tell(
            "tls.certificate", f"it is not for {door.hostname}: {problem.verify_message}", advice, about
        )
    advice = "Put the certificates between yours and the authority's into the file as well (fullchain.pem)"
    return tell("tls.certificate", f"nobody knows who has signed it: {problem.verify_message}", advice, about)
