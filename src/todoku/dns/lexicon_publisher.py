"""Publishing through dns-lexicon: every provider that it knows.

Lexicon thinks in single records, and its providers differ in what they want to hear (quotes, final dots, where
the MX preference goes). Shown with a real server: PowerDNS. For the others this follows their code, and what
went wrong shows when the authoritative servers are asked afterwards.

Nothing of lexicon is called through its client, which looks names up in a downloaded list, and nothing by
`update_record`, which with some providers makes a second record instead of changing the first.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from todoku.dns import namecheap
from todoku.dns.lexicon_account import Account
from todoku.dns.lookups import Lookups
from todoku.dns.publisher import (
    ChangedMeanwhile,
    Found,
    Listing,
    Published,
    Publisher,
    PublisherFailed,
    Replacement,
)
from todoku.dns.text import encoded, plain, presentation

T = TypeVar("T")

_SECONDS = 90.0  # lexicon itself waits without a bound
# Providers that take a TXT value as it stands in a zone file: unquoted, its words would become strings.
_ZONE_FILE_TEXT = frozenset({"ddns", "localzone", "oci"})
# ... and those that put the quotes around it themselves, but do not cut a long one.
_LONG_TEXT_IN_STRINGS = _ZONE_FILE_TEXT | {"powerdns"}
# Providers that want the MX preference as an option of its own, not in front of the host.
_PREFERENCE_APART = frozenset(
    {"arvancloud", "cloudflare", "cloudns", "conoha", "dnsimple", "dnsservices", "dynu", "easyname", "euserv"}
    | {"exoscale", "gransy", "henet", "hostingde", "httpnet", "infoblox", "mythicbeasts", "namecom", "netcup"}
    | {"online", "plesk", "porkbun", "regfish", "safedns", "vultr", "zonomi"}
)
# PowerDNS's identifiers break at a "/", which every SPF network has; it finds records by their content.
_BY_CONTENT = frozenset({"powerdns"})


class Provider(Protocol):
    """What every provider of lexicon can do."""

    def authenticate(self) -> None: ...
    def cleanup(self) -> None: ...
    def list_records(self) -> list[dict[str, Any]]: ...
    def create_record(self, rtype: str, name: str, content: str) -> bool: ...
    def delete_record(
        self, identifier: str | None, rtype: str | None, name: str | None, content: str | None
    ) -> bool: ...


class LexiconPublisher(Publisher):
    """A zone at a provider that dns-lexicon knows."""

    def __init__(self, account: Account, ttl: int, lookups: Lookups) -> None:
        self._account = account
        self._ttl = ttl
        self._lookups = lookups
        self._listing = Listing(self._fetch)

    def look(self, zone: str, name: str, type_: str) -> Found:
        return self._listing.found(zone, name, type_)

    def content(self, zone: str) -> tuple[Published, ...] | None:
        return self._listing.records(zone)

    def zone_of(self, name: str) -> str | None:  # noqa: ARG002 - providers are asked by zone
        return None

    def apply(self, zone: str, replacement: Replacement) -> None:
        with self._listing.lock(zone):
            self._listing.forget(zone)
            if self._account.provider == "namecheap":
                self._replace_all(zone, replacement)  # reads by itself, and has few requests a minute
                return
            there = self._listing.found(zone, replacement.name, replacement.type)
            if sorted(there.values) != sorted(record.value for record in replacement.before):
                raise ChangedMeanwhile(replacement.name, replacement.type)
            try:
                self._carry_out(zone, replacement, there)
            finally:
                self._listing.forget(zone)

    def _replace_all(self, zone: str, replacement: Replacement) -> None:
        def has(name: str, type_: str) -> bool:
            answer = self._lookups.resolve(name, type_)
            if not answer.usable:
                raise PublisherFailed(
                    f"whether {name} has {type_} records, which would be lost, cannot be told: try again"
                )
            return bool(answer.values)

        def run(provider: Provider, stop: threading.Event) -> None:
            namecheap.replace(
                provider,
                zone,
                replacement,
                has_records=has,
                go_on=lambda: not stop.is_set(),
                sleep=_until(stop),
            )

        try:
            self._with(zone, replacement.common_ttl, run, log_in=False)
        finally:
            self._listing.forget(zone)

    def _carry_out(self, zone: str, replacement: Replacement, there: Found) -> None:
        gone = {record.value for record in replacement.remove}
        remove = [record for record in there.records if record.value in gone]

        def run(provider: Provider, stop: threading.Event) -> None:
            steps: list[Callable[[], object]] = [
                lambda value=value: self._create(provider, zone, replacement, value)  # type: ignore[misc]
                for value in replacement.add
            ]
            removals: list[Callable[[], object]] = [
                lambda record=record: self._delete(provider, record)  # type: ignore[misc]
                for record in remove
            ]
            # New before old: if we are cut off in between, nothing is lost. A name has only one CNAME.
            for step in (removals + steps) if replacement.type == "CNAME" else (steps + removals):
                if stop.is_set():  # it was told that it took too long: nothing may change behind the back
                    return
                step()

        self._with(zone, replacement.common_ttl, run)

    def _create(self, provider: Provider, zone: str, replacement: Replacement, value: str) -> None:
        content = self._content(replacement.type, value)
        if not provider.create_record(replacement.type, f"{replacement.name}.", content):
            raise PublisherFailed(
                f"{self._account.provider} did not create the {replacement.type} record of {replacement.name} "
                f"in {zone}, and gave no reason"
            )

    def _delete(self, provider: Provider, record: Published) -> None:
        by_content = self._account.provider in _BY_CONTENT
        # The final dot is cut off when records are listed, and without it the zone is appended again.
        content = presentation(record.type, record.value) if record.type == "CNAME" else record.raw
        handle = None if by_content else record.handle or None
        provider.delete_record(handle, record.type, f"{record.name}.", content)

    def _content(self, type_: str, value: str) -> str:
        name = self._account.provider
        if type_ == "TXT":
            quoted = name in (_ZONE_FILE_TEXT if len(encoded(value)) <= 255 else _LONG_TEXT_IN_STRINGS)
            return presentation(type_, value) if quoted else value
        content = presentation(type_, value)
        return content.split()[-1] if type_ == "MX" and name in _PREFERENCE_APART else content

    def _fetch(self, zone: str) -> tuple[Published, ...]:
        if self._account.provider == "namecheap":
            return self._with(
                zone,
                self._ttl,
                lambda provider, stop: namecheap.listed(provider, zone, _until(stop)),
                log_in=False,
            )
        records = self._with(zone, self._ttl, lambda provider, _stop: provider.list_records())
        return tuple(_published(record, zone) for record in records)

    def _with(
        self, zone: str, ttl: int, use: Callable[[Any, threading.Event], T], *, log_in: bool = True
    ) -> T:
        """What `use` returns for a provider; it ends by itself when the event is set. Raises PublisherFailed."""

        def run(stop: threading.Event) -> T:
            provider = _provider(self._account, zone, ttl)
            if log_in:
                provider.authenticate()
            try:
                return use(provider, stop)
            finally:
                provider.cleanup()

        try:
            return _bounded(run, _SECONDS)
        except PublisherFailed:
            raise
        except TimeoutError:
            raise PublisherFailed(
                f"{self._account.provider} did not answer within {_SECONDS:g} s; look whether it is up, then run "
                "it again"
            ) from None
        except Exception as error:
            # Ninety providers, each with its own exceptions. Not chained: their texts can contain tokens.
            said = self._account.hide(f"{type(error).__name__}: {error}")
            raise PublisherFailed(
                f"{self._account.provider} refused or failed for the zone {zone}: {said}. Look at the credential "
                "file, what it may do, and whether the zone is in that account"
            ) from None


def _provider(account: Account, zone: str, ttl: int) -> Provider:
    try:
        module = importlib.import_module(f"lexicon._private.providers.{account.provider}")
        config = importlib.import_module("lexicon.config")
    except ImportError as error:
        if error.name in ("lexicon", f"lexicon._private.providers.{account.provider}"):
            raise PublisherFailed(
                f"dns-lexicon has no provider {account.provider} (dns.provider), or is not installed: "
                "`pip install 'todoku[lexicon]'`, and see its list of providers for the name"
            ) from None
        raise PublisherFailed(
            f"the provider {account.provider} needs one more package: `pip install "
            f"'dns-lexicon[{account.provider}]'` ({error})"
        ) from None
    resolver = config.ConfigResolver().with_dict(
        {
            "provider_name": account.provider,
            "domain": zone,
            "ttl": ttl,
            "priority": "10",
            account.provider: dict(account.options),
        }
    )
    provider: Provider = module.Provider(resolver)
    _keep_absolute_names(provider)
    return provider


def _keep_absolute_names(provider: Any) -> None:
    """Make a name with a final dot absolute, also outside the zone.

    Lexicon appends the zone to the target of a CNAME that lies elsewhere (PowerDNS, deSEC, rcodezero, ...).
    """
    fqdn, full = provider._fqdn_name, provider._full_name
    provider._fqdn_name = lambda name: name if name.endswith(".") else fqdn(name)
    provider._full_name = lambda name: name.rstrip(".") if name.endswith(".") else full(name)


def _published(record: Mapping[str, Any], zone: str) -> Published:
    type_, content = str(record["type"]), str(record["content"])
    name = str(record["name"]).rstrip(".").lower()
    if name in ("", "@", f"@.{zone}"):
        name = zone
    elif name != zone and not name.endswith(f".{zone}"):
        name = f"{name}.{zone}"
    value = plain(type_, content)
    if type_ == "MX" and len(content.split()) == 1:
        value = f"{_preference(record)} {plain('CNAME', content)}"
    return Published(name, type_, value, _number(record.get("ttl")), content, str(record.get("id") or ""))


def _preference(record: Mapping[str, Any]) -> int:
    options = record.get("options")
    mx = options.get("mx") if isinstance(options, dict) else None
    apart = mx.get("priority") if isinstance(mx, dict) else record.get("priority")
    return _number(apart) if apart is not None else 10


def _number(value: object) -> int:
    try:
        return int(str(value))
    except ValueError:
        return 0


def _bounded(call: Callable[[threading.Event], T], seconds: float) -> T:
    """What `call` returns; raises TimeoutError after `seconds`, sets the event and leaves it to itself then."""
    result: list[T] = []
    raised: list[BaseException] = []
    stop = threading.Event()

    def run() -> None:
        try:
            result.append(call(stop))
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="lexicon", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        stop.set()
        raise TimeoutError
    if raised:
        raise raised[0]
    return result[0]


def _until(stop: threading.Event) -> Callable[[float], None]:
    """A sleep that ends early when `stop` is set."""

    def sleep(seconds: float) -> None:
        stop.wait(seconds)

    return sleep
