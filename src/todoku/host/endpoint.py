"""What Postfix and Dovecot show to their clients alike: who may log in, and with which certificate."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from todoku.settings import Settings

Network = IPv4Network | IPv6Network

# Made by the host's certificate resource while the settings name no certificate.
SELF_SIGNED_CERTIFICATE = "/etc/todoku/tls/self-signed.pem"
SELF_SIGNED_KEY = "/etc/todoku/tls/self-signed.key"
# Key and certificate in one file, which is replaced at once: made by an authority, public (acme) or our own.
MANAGED = "/etc/todoku/tls/certificate.pem"
INTERNAL = "/etc/todoku/tls/internal.pem"  # for tls.internal_name

_LOOPBACK: tuple[Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))


def client_networks(settings: Settings) -> tuple[Network, ...]:
    """Who may use 587, 465 and 993: the client networks, this machine itself, and its public addresses."""
    own = tuple(ip_network(address) for address in (*settings.addresses, *settings.listen))
    return tuple(dict.fromkeys((*_LOOPBACK, *own, *settings.clients.networks)))


def listen(settings: Settings) -> tuple[IPv4Address | IPv6Address, ...]:
    """The addresses to listen on, with loopback; empty for all of them."""
    if not settings.listen:
        return ()
    loopback: list[IPv4Address | IPv6Address] = [IPv4Address("127.0.0.1")]
    if any(address.version == 6 for address in settings.listen):
        loopback.append(IPv6Address("::1"))
    return tuple(dict.fromkeys((*loopback, *settings.listen)))


def certificate(settings: Settings) -> str:
    """Path of the certificate with its chain, PEM; its key may be in the same file."""
    if settings.tls.kind in ("acme", "own-ca"):
        return MANAGED
    return str(settings.tls.certificate or SELF_SIGNED_CERTIFICATE)


def key(settings: Settings) -> str:
    """Path of the certificate's private key, PEM."""
    if settings.tls.kind in ("acme", "own-ca"):
        return MANAGED
    return str(settings.tls.key or SELF_SIGNED_KEY)
