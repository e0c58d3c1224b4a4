"""The host's name and addresses (row 5): the name leads to the addresses, and they lead back to it.

Mail leaves through the relay, whose addresses have names that Oracle looks after. Our own count for those who deliver
here, and for what the host says of itself, so a missing reverse name is a warning and no refusal.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from todoku.check.finding import Finding, failed, passed, warned
from todoku.check.means import Dns, Means
from todoku.check.runner import Step
from todoku.settings import Settings


def steps(settings: Settings, means: Means) -> list[Step]:
    name = settings.hostname
    addresses = tuple(map(str, settings.addresses))
    return [
        Step("addresses.forward", name, lambda: forward(name, addresses, means.dns)),
        *(
            Step("addresses.reverse", address, lambda address=address: reverse(name, address, means.dns))  # type: ignore[misc]
            for address in addresses
        ),
    ]


def forward(name: str, addresses: tuple[str, ...], dns: Dns) -> Iterator[Finding]:
    """Whether `name` leads to exactly these addresses."""
    seen = {ip_address(value) for value in dns.addresses(name)}
    wanted = {ip_address(value) for value in addresses}
    shown = ", ".join(map(str, seen)) or "no address"
    if missing := wanted - seen:
        listed = ", ".join(map(str, missing))
        advice = f"Publish {listed} as address of {name}, or correct `addresses` in the settings"
        yield failed("addresses.forward", f"{name} leads to {shown}, not to {listed}", advice, name)
    elif extra := seen - wanted:
        listed = ", ".join(map(str, extra))
        advice = f"Remove {listed} from the DNS, or add it to `addresses` in the settings"
        yield warned(
            "addresses.forward",
            f"{name} leads to {listed} as well, which the settings do not have",
            advice,
            name,
        )
    else:
        yield passed("addresses.forward", f"{name} leads to {shown}", name)


def reverse(name: str, address: str, dns: Dns) -> Iterator[Finding]:
    """Whether `address` leads back to `name`, and that name to the address again (RFC 8601 2.7.3, iprev)."""
    names = dns.values(ip_address(address).reverse_pointer, "PTR")
    advice = (
        f"Have {name} set as the reverse name by whoever provides the address. What leaves goes through the relay, so "
        "this concerns those who deliver here"
    )
    if not names:
        yield warned("addresses.reverse", f"{address} has no reverse name", advice, address)
    elif name not in names:
        yield warned(
            "addresses.reverse", f"{address} is called {', '.join(names)}, not {name}", advice, address
        )
    elif ip_address(address) not in {ip_address(value) for value in dns.addresses(name)}:
        yield warned(
            "addresses.reverse",
            f"{address} is called {name}, which does not lead back to it",
            advice,
            address,
        )
    else:
        yield passed("addresses.reverse", f"{address} is called {name}, and the other way round", address)
