"""Publishing by dynamic update (RFC 2136), signed with TSIG (RFC 8945).

Each change carries what was there as a prerequisite, so the server itself refuses it when somebody else was
faster, and only the records that change are named, so the others of the same set stay byte for byte.
"""

from __future__ import annotations

import binascii
import socket
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import dns.inet
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.tsig
import dns.tsigkeyring
import dns.update
import dns.xfr
import dns.zone

from todoku.dns import questions
from todoku.dns.lookups import Lookups, Server, Status
from todoku.dns.publisher import ChangedMeanwhile, Found, Published, Publisher, PublisherFailed, Replacement
from todoku.dns.secret import SecretError, private_text
from todoku.dns.text import of_rdata, presentation
from todoku.settings.outside import Dns

_TIMEOUT = 10.0  # seconds
_CONFLICTS = (dns.rcode.NXRRSET, dns.rcode.YXRRSET, dns.rcode.YXDOMAIN, dns.rcode.NXDOMAIN)
# What the server itself makes when it signs a zone.
_DNSSEC = frozenset(
    map(dns.rdatatype.from_text, ("RRSIG", "NSEC", "NSEC3", "NSEC3PARAM", "DNSKEY", "CDS", "CDNSKEY"))
)
_WHY = {
    dns.rcode.REFUSED: "it does not let this key change that: allow updates of the zone for the key",
    dns.rcode.NOTAUTH: "it does not know the zone, or does not accept the key: compare name, algorithm, secret",
    dns.rcode.NOTZONE: "the name lies outside the zone",
    dns.rcode.NOTIMP: "it does not take dynamic updates",
    dns.rcode.SERVFAIL: "it failed: look into its log",
}


@dataclass(frozen=True, slots=True)
class Key:
    """A TSIG key."""

    name: str
    algorithm: str
    secret: bytes

    def __repr__(self) -> str:
        return f"Key({self.name!r}, {self.algorithm!r}, ...)"

    @property
    def tsig(self) -> dns.tsig.Key:
        return dns.tsig.Key(self.name, self.secret, self.algorithm)


class Rfc2136(Publisher):
    """A primary name server that takes updates."""

    def __init__(self, server: Server, key: Key, lookups: Lookups) -> None:
        self._server = server
        self._key = key
        self._lookups = lookups

    @staticmethod
    def of(settings: Dns, lookups: Lookups) -> Rfc2136:
        """From the settings; reads the key. Raises PublisherFailed."""
        assert settings.server and settings.tsig_name and settings.tsig_secret_file, "the rules require them"  # noqa: S101
        address = _address(settings.server, lookups)
        key = Key(settings.tsig_name, settings.tsig_algorithm, _secret(settings.tsig_secret_file))
        return Rfc2136(Server(settings.server, address, settings.port), key, lookups)

    def look(self, zone: str, name: str, type_: str) -> Found:  # noqa: ARG002 - the server knows the zone
        return questions.found(self._lookups, (self._server,), name, type_)

    def zone_of(self, name: str) -> str | None:
        """By the server's own SOA records: the zone may not be delegated to it yet."""
        candidate = name
        while "." in candidate:
            answer = self._lookups.ask(self._server, candidate, "SOA")
            if answer.values and answer.cname is None:
                return candidate
            if answer.status is Status.SILENT:
                raise PublisherFailed(
                    f"{self._server.name} port {self._server.port} does not answer: look whether it is up, and whether "
                    "this machine reaches it"
                )
            candidate = candidate.partition(".")[2]
        return None

    def content(self, zone: str) -> tuple[Published, ...] | None:
        """By a zone transfer, where the server allows one to this key."""
        content = dns.zone.Zone(f"{zone}.", relativize=False)
        query = dns.message.make_query(f"{zone}.", "AXFR")
        query.use_tsig(self._key.tsig)
        try:
            dns.query.inbound_xfr(
                self._server.address, content, query, self._server.port, _TIMEOUT, _TIMEOUT * 3
            )
        except (dns.exception.DNSException, OSError):
            return None
        return tuple(
            Published(
                name.to_text(omit_final_dot=True).lower(),
                dns.rdatatype.to_text(rdata.rdtype),
                of_rdata(rdata),
                ttl,
                rdata.to_text(),
            )
            for name, ttl, rdata in content.iterate_rdatas()
            if rdata.rdtype not in _DNSSEC
        )

    def apply(self, zone: str, replacement: Replacement) -> None:
        update = self._update(zone, replacement)
        where = f"{self._server.name} port {self._server.port}"
        try:
            reply = dns.query.tcp(update, self._server.address, _TIMEOUT, self._server.port)
        except (dns.tsig.BadTime, dns.tsig.PeerBadTime):
            raise PublisherFailed(
                f"{where} did not take the change of {zone}: its clock and this machine's differ by more than "
                "5 minutes. Set the clock (`timedatectl`)"
            ) from None
        except (dns.tsig.BadSignature, dns.tsig.BadKey, dns.tsig.PeerError) as error:
            raise PublisherFailed(
                f"{where} and this machine do not have the same TSIG key {self._key.name} ({error}): compare name, "
                "algorithm and secret"
            ) from None
        except (dns.exception.DNSException, OSError) as error:
            # Whether it arrived is not known; what is there is looked at again before the next attempt.
            raise PublisherFailed(f"{where} could not be asked to update {zone}: {error}") from None
        code = reply.rcode()
        if code in _CONFLICTS:
            raise ChangedMeanwhile(replacement.name, replacement.type)
        if code != dns.rcode.NOERROR:
            why = _WHY.get(code, "look into its log")
            raise PublisherFailed(f"{where} refused the update of {zone} ({dns.rcode.to_text(code)}): {why}")

    def _update(self, zone: str, replacement: Replacement) -> dns.update.UpdateMessage:
        update = dns.update.UpdateMessage(f"{zone}.")
        update.use_tsig(self._key.tsig)
        name, type_ = f"{replacement.name}.", replacement.type
        if replacement.before:
            # RFC 2136 2.4.2: the set exists with exactly these values.
            update.present(name, *(dns.rdata.from_text("IN", type_, r.raw) for r in replacement.before))
        else:
            update.absent(name, type_)
        for record in replacement.remove:
            update.delete(name, dns.rdata.from_text("IN", type_, record.raw))
        for value in replacement.add:
            update.add(
                name, replacement.common_ttl, dns.rdata.from_text("IN", type_, presentation(type_, value))
            )
        return update


def _address(server: str, lookups: Lookups) -> str:
    if dns.inet.is_address(server):
        return server
    for type_ in ("A", "AAAA"):
        if values := lookups.resolve(server, type_).values:
            return values[0]
    try:
        return str(socket.getaddrinfo(server, 53, type=socket.SOCK_STREAM)[0][4][0])  # /etc/hosts
    except OSError:
        raise PublisherFailed(
            f"the name server {server} (dns.server) has no address: check the name"
        ) from None


def _secret(path: Path) -> bytes:
    try:
        return binascii.a2b_base64(private_text(path).strip(), strict_mode=True)
    except SecretError as error:
        raise PublisherFailed(str(error)) from None
    except (binascii.Error, ValueError):
        raise PublisherFailed(
            f"{path} does not hold a TSIG secret: write the secret alone, in base64, on one line"
        ) from None
