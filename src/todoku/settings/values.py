"""The kinds of value in a settings file (names, addresses, sizes, networks): read from what people write into
what the programs need, or refused with the thing to write instead.

Each kind is an annotated type that the models use; its function can be called alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any

import idna
from pydantic import BeforeValidator, WithJsonSchema

from todoku.settings import regions
from todoku.settings.problems import wrong

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# A dot-atom (RFC 5321 4.1.2) without % and ! (old routing), | and / (commands and paths to a mail server).
_ATOM = r"[A-Za-z0-9#$&'*+=?^_`{}~-]+"
_LOCAL_PART = re.compile(rf"{_ATOM}(\.{_ATOM})*")
_OCID = re.compile(r"ocid1\.[a-z]+\.[a-z0-9]+\.[a-z0-9-]*\.[A-Za-z0-9._-]+")
_ENVIRONMENT_PREFIX = re.compile(r"[A-Z_][A-Z0-9_]*")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]{1,9})?) *([A-Za-z]+)")
_UNITS = dict.fromkeys(("b", "byte", "bytes"), 1)
_UNITS |= {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_SHOWN_UNITS = [
    *(("TB", 10**12), ("TiB", 2**40), ("GB", 10**9), ("GiB", 2**30)),
    *(("MB", 10**6), ("MiB", 2**20), ("kB", 10**3), ("KiB", 2**10)),
]
# Names that nobody else can look up (RFC 6761, RFC 6762).
_NOT_PUBLIC = ("localhost", "localdomain", "local", "invalid")


def _text(value: Any, example: str) -> str:
    if not isinstance(value, str):
        raise wrong(f"is {kind(value)}, but has to be a text", f'write it in quotes, for example "{example}"')
    return value


def kind(value: Any) -> str:
    """What a value in a toml file is, in words: "the number 587"."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}" if abs(value) < 10**15 else "a very large number"
    if isinstance(value, str):
        return f'the text "{value if len(value) <= 60 else value[:57] + "..."}"'
    if isinstance(value, list | tuple):
        return "a list"
    return "a table" if isinstance(value, dict) else f"a {type(value).__name__}"


def domain_name(value: Any) -> str:
    """A fully qualified domain name as lower-case A-labels, from either form of an internationalised one.

    IDNA2008 with the mapping of UTS 46, so that upper case, full-width letters and the ideographic full stop
    are understood as people mean them.
    """
    text = _text(value, "hoge.example")
    shown = kind(text)
    if "@" in text or "/" in text or ":" in text:
        bare = re.split(r"[/:]", text.split("//")[-1].rsplit("@")[-1])[0]
        raise wrong(f"is {shown}, but has to be a domain name alone", f'write "{bare or "hoge.example"}"')
    if not text.strip(" .") or text != text.strip():
        raise wrong(f"is {shown}, not a domain name", f'write "{text.strip(" .") or "hoge.example"}"')
    try:
        name = idna.encode(text.removesuffix("."), uts46=True, std3_rules=True).decode("ascii").lower()
        idna.decode(name)
    except (UnicodeError, ValueError, IndexError) as error:
        raise wrong(
            f"is {shown}, which is not a valid domain name ({error})",
            "write letters, digits, dashes and dots (of any script, no emoji), as registered",
        ) from None
    labels = name.split(".")
    if len(name) > 253:
        raise wrong("is longer than the 253 characters that a domain name can have", "write a shorter name")
    if len(labels) < 2:
        raise wrong(
            f"is {shown}, which is not fully qualified", f'write the whole name: "{name}.hoge.example"'
        )
    if labels[-1].isdigit():
        raise wrong(f"is {shown}, which is an address and not a name", 'write a name, as "mx.hoge.example"')
    if labels[-1] in _NOT_PUBLIC:
        raise wrong(
            f"is {shown}, and names under .{labels[-1]} do not exist in the public DNS",
            "write a public name",
        )
    return name


def mail_address(value: Any) -> str:
    """A mail address in lower case, its domain as A-labels; local part ASCII (the relay has no SMTPUTF8)."""
    text = _text(value, "alice@hoge.example")
    bare = text.strip().removeprefix("mailto:").rpartition("<")[2].rstrip(">").strip()
    local, at, domain = text.rpartition("@")
    if not at or bare != text:
        better = bare if "@" in bare else f"{bare or 'alice'}@hoge.example"
        raise wrong(f"is {kind(text)}, which is not a mail address", f'write it as "{better}"')
    if not _LOCAL_PART.fullmatch(local) or len(local) > 64 or local.startswith("-"):
        raise wrong(
            f"is {kind(text)}, whose part before the @ cannot be used",
            "write at most 64 ASCII letters, digits and . _ - + between them, as alice.smith@hoge.example",
        )
    return f"{local.lower()}@{domain_name(domain)}"


def ip(value: Any) -> Address:
    """An IP address that a machine can have: not unspecified, not multicast, no zone."""
    if isinstance(value, IPv4Address | IPv6Address):
        return value
    text = _text(value, "203.0.113.10")
    try:
        address = ip_address(text.strip())
    except ValueError:
        raise wrong(
            f"is {kind(text)}, which is not an IP address", 'write it as "203.0.113.10" or "2001:db8::10"'
        ) from None
    _refuse_unusable(address, text)
    return address


def _refuse_unusable(address: Address, text: str) -> None:
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise wrong(f"is {kind(text)}, with a zone", f'write "{text.partition("%")[0].strip()}"')
        if address.ipv4_mapped is not None:
            raise wrong(f"is {kind(text)}, an IPv4 address in IPv6 form", f'write "{address.ipv4_mapped}"')
    if address.is_unspecified or address.is_multicast or address == IPv4Address("255.255.255.255"):
        raise wrong(f"is {kind(text)}, which no machine can have", "write the machine's own address")


def _network_of(text: str) -> Network | None:
    try:
        return ip_network(text.strip(), strict=False)
    except ValueError:
        return None


def client_network(value: Any) -> Network:
    """A network of mail clients, as "192.168.0.0/16"; a single address stands for itself."""
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    text = _text(value, "192.168.0.0/16")
    network = _network_of(text)
    if network is None or "%" in text:
        raise wrong(f"is {kind(text)}, which is not a network", 'write it as "192.168.0.0/16" or "fd00::/8"')
    try:
        ip_network(text.strip())
    except ValueError:
        raise wrong(
            f"is {kind(text)}, which has bits set beyond its prefix",
            f'write "{network}" for the network, or "{text.partition("/")[0].strip()}" for that one machine',
        ) from None
    shortest = 8 if network.version == 4 else 7
    if network.prefixlen < shortest:
        raise wrong(
            f"is {kind(text)}: that would open submission and mailboxes to a large part of the internet",
            'write the networks that people really use, as "192.168.0.0/16"; people elsewhere need a VPN',
        )
    return network


def device_address(value: Any) -> Address | Network:
    """The address of a device, or the small network (at most a /24, or a /64 in IPv6) that devices are in."""
    if isinstance(value, IPv4Address | IPv6Address | IPv4Network | IPv6Network):
        return value
    text = _text(value, "192.168.0.20")
    if "/" not in text:
        return ip(text)
    network = _network_of(text)
    if network is None or "%" in text:
        raise wrong(
            f"is {kind(text)}, which is no address or network", 'write "192.168.0.20" or "192.168.0.0/28"'
        )
    if network.prefixlen < (24 if network.version == 4 else 64):
        raise wrong(
            f"is {kind(text)}, which is too wide: whoever is in it sends without a password",
            'write the address of each device, or at most a "/24" ("/64" in IPv6)',
        )
    _refuse_unusable(network.network_address, text)
    return network.network_address if network.num_addresses == 1 else network


def size(value: Any) -> int:
    """A number of bytes, from a number or from a text with a unit: 2000000, "25 MB", "2 GiB"."""
    fix = 'write a number of bytes, or a text like "25 MB" or "2 GiB"'
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise wrong(f"is {kind(value)}, which is not a size", fix)
    if isinstance(value, int):
        number = value
    else:
        found = _SIZE.fullmatch(value.strip())
        if not found or (unit := _UNITS.get(found[2].lower())) is None or len(found[1]) > 24:
            raise wrong(f"is {kind(value)}, which is not a size", fix)
        whole, _, fraction = found[1].partition(".")
        number = int(whole) * unit + int(fraction or 0) * unit // 10 ** len(fraction)
    if not 0 <= number < 2**63:
        raise wrong(f"is {kind(value)}, which cannot be a size", fix)
    return number


def size_text(number: int) -> str:
    """`number` of bytes as people would write it: "25 MB"; exact, whatever the number."""
    for unit, factor in _SHOWN_UNITS:
        if number >= factor and number % factor == 0:
            return f"{number // factor} {unit}"
    return f"{number} bytes"


def between(low: int, high: int, usual: str, why: str) -> Callable[[int], int]:
    """A check that a size lies from `low` to `high` bytes, because of `why`; `usual` is what to write."""

    def check(number: int) -> int:
        if low <= number <= high:
            return number
        side = f"less than {size_text(low)}" if number < low else f"more than {size_text(high)}"
        raise wrong(f"is {size_text(number)}, {side}: {why}", f'write a size with its unit, like "{usual}"')

    return check


def count(value: Any) -> int:
    """A number of messages: a whole number, at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10**9:
        raise wrong(
            f"is {kind(value)}, but has to be a whole number of messages, at least 1",
            "write a number like 200",
        )
    return value


def percent(value: Any) -> int:
    """A share: a whole number from 0 to 100."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 100:
        raise wrong(
            f"is {kind(value)}, but has to be a share in percent", "write a whole number from 0 to 100"
        )
    return value


def absolute_path(value: Any) -> Path:
    """The path of a file, from the root of the file system."""
    if isinstance(value, Path):
        return value
    text = _text(value, "/etc/todoku/secrets/relay")
    if not text.startswith("/") or not text.isprintable() or text.endswith("/"):
        better = "/etc/todoku/" + re.sub(r"^[./]+|[^A-Za-z0-9._/-]|/+$", "", text)
        raise wrong(
            f"is {kind(text)}, but has to be the whole path of a file", f'write for example "{better}"'
        )
    return Path(text)


def region_id(value: Any) -> str:
    """The identifier of one of Oracle's regions."""
    text = _text(value, "ap-tokyo-1")
    if text in regions.REGIONS:
        return text
    near = regions.suggest(text)
    fix = (
        f'did you mean "{near.id}"?' if near else "write the region's identifier as Oracle's console shows it"
    )
    raise wrong(f"is {kind(text)}, which is not a region of Oracle's cloud", fix)


def ocid(value: Any) -> str:
    """An identifier of Oracle's cloud: ocid1.TYPE.REALM.[REGION].UNIQUE."""
    text = _text(value, "ocid1.compartment.oc1..aaaa...")
    if not _OCID.fullmatch(text):
        raise wrong(
            f"is {kind(text)}, which is not an OCID",
            "copy it from Oracle's console: it begins with ocid1.compartment. (or ocid1.tenancy.)",
        )
    return text


def environment_prefix(value: Any) -> str:
    """The beginning of the names of two environment variables."""
    text = _text(value, "TODOKU_RELAY")
    if not _ENVIRONMENT_PREFIX.fullmatch(text):
        raise wrong(
            f"is {kind(text)}, which cannot begin the name of an environment variable",
            'write capital letters, digits and _: "TODOKU_RELAY" is for TODOKU_RELAY_USERNAME and _PASSWORD',
        )
    return text


def _one_or_several(value: Any) -> Any:
    return [value] if isinstance(value, str | IPv4Address | IPv6Address) else value


def _schema(**properties: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", **properties})


DomainName = Annotated[str, BeforeValidator(domain_name), _schema(format="idn-hostname")]
MailAddress = Annotated[str, BeforeValidator(mail_address), _schema(format="idn-email")]
IpAddress = Annotated[Address, BeforeValidator(ip), _schema()]
ClientNetwork = Annotated[Network, BeforeValidator(client_network), _schema()]
DeviceAddress = Annotated[Address | Network, BeforeValidator(device_address), _schema()]
FilePath = Annotated[Path, BeforeValidator(absolute_path), _schema(pattern="^/")]
RegionId = Annotated[str, BeforeValidator(region_id), _schema(enum=sorted(regions.REGIONS))]
Ocid = Annotated[str, BeforeValidator(ocid), _schema(pattern="^ocid1\\.")]
EnvironmentPrefix = Annotated[str, BeforeValidator(environment_prefix), _schema(pattern="^[A-Z_][A-Z0-9_]*$")]
Percent = Annotated[
    int, BeforeValidator(percent), WithJsonSchema({"type": "integer", "minimum": 0, "maximum": 100})
]
Count = Annotated[int, BeforeValidator(count), WithJsonSchema({"type": "integer", "minimum": 1})]
Size = Annotated[
    int,
    BeforeValidator(size),
    WithJsonSchema(
        {
            "type": ["integer", "string"],
            "minimum": 0,
            "pattern": "^[0-9]+(\\.[0-9]+)? *([kKmMgGtT][iI]?)?[bB](ytes?)?$",
        }
    ),
]
# A list, which may be written as a text when it has one member.
OneOrSeveral = (
    BeforeValidator(_one_or_several),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
)
