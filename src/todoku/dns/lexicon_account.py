"""Who publishes through dns-lexicon: a provider, and the options that it wants, out of a file of root's."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from todoku.dns.publisher import PublisherFailed
from todoku.dns.secret import SecretError, private_text
from todoku.settings.outside import Dns


@dataclass(frozen=True, slots=True)
class Account:
    """A provider and the options that it wants: user names, tokens, addresses."""

    provider: str
    options: Mapping[str, str] = field(repr=False)

    @staticmethod
    def of(settings: Dns) -> Account:
        """From the settings; reads the credential file. Raises PublisherFailed."""
        assert settings.provider and settings.credential_file, "the rules require them"  # noqa: S101
        try:
            text = private_text(settings.credential_file)
        except SecretError as error:
            raise PublisherFailed(f"the DNS provider's credential: {error}") from None
        options = _options(text, settings.provider, str(settings.credential_file))
        _refuse_cleartext(options, str(settings.credential_file))
        return Account(settings.provider, options)

    def hide(self, message: str) -> str:
        """`message` without any of the options' values: addresses in messages can contain tokens."""
        for value in sorted(self.options.values(), key=len, reverse=True):
            if len(value) >= 6:
                message = message.replace(value, "***")
        return message


def _options(text: str, provider: str, file: str) -> dict[str, str]:
    """The KEY=VALUE lines of a credential file. Values are kept byte for byte."""
    options: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not equals or not key.strip():
            raise PublisherFailed(f"{file}, line {number}: has to be KEY=VALUE, as in auth_token=...")
        # As an option of lexicon's command (--auth-token) or as its variable (LEXICON_NAMECHEAP_AUTH_TOKEN).
        name = key.strip().lower().lstrip("-").replace("-", "_").removeprefix(f"lexicon_{provider}_")
        options[name] = value
    if not options:
        raise PublisherFailed(f"{file} is empty: write the options of {provider} as KEY=VALUE lines")
    return options


def _refuse_cleartext(options: Mapping[str, str], file: str) -> None:
    for name, value in options.items():
        parts = urlsplit(value) if value.lower().startswith("http://") else None
        if parts is not None and not _is_this_machine(parts.hostname or ""):
            raise PublisherFailed(
                f"{file}: {name} begins with http://, so that the credential would cross the network readable: "
                "write https://"
            )


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
