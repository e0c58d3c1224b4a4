"""The server's own certificate, as settings."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from todoku.settings import values
from todoku.settings.base import Frozen
from todoku.settings.problems import wrong
from todoku.settings.values import DomainName, FilePath

Kind = Literal["self-signed", "files", "acme", "own-ca"]
LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"


def https_address(value: Any) -> str:
    """An https:// address without anything that would have to be quoted."""
    text = value if isinstance(value, str) else ""
    host, slash, path = text.removeprefix("https://").partition("/")
    plain = text.isascii() and text.isprintable() and not set(text) & set(" \"'\\$`?#")
    if not (text.startswith("https://") and slash and host and path and plain):
        raise wrong(
            f"is {values.kind(value)}, not the https:// address of an ACME directory",
            f'write for example "{LETS_ENCRYPT}"',
        )
    return text


class Tls(Frozen):
    """The server's own certificate, for those who connect to it."""

    mode: Literal["auto", "self-signed", "files", "acme", "own-ca"] = Field(
        "auto",
        description="Where the certificate for the host name comes from. acme: a public authority (Let's Encrypt), "
        "which sees a record that Todoku publishes in the DNS, so no port of the web has to be open; who writes this "
        "agrees to its terms of service. files: certificate and key below. own-ca: a small certificate authority of "
        "your own, whose root people install. self-signed: enough for mail from others to come in, while mail programs "
        "will warn. auto: files if they are named below, else self-signed.",
        examples=["auto"],
    )
    certificate: FilePath | None = Field(
        None,
        description="The certificate with its chain (PEM), for the host name.",
        examples=["/etc/letsencrypt/live/mx.hoge.example/fullchain.pem"],
    )
    key: FilePath | None = Field(
        None,
        description="The private key of the certificate (PEM).",
        examples=["/etc/letsencrypt/live/mx.hoge.example/privkey.pem"],
    )
    acme_directory: Annotated[str, BeforeValidator(https_address)] = Field(
        LETS_ENCRYPT,
        description="With acme: the authority, by the address of its directory (RFC 8555).",
        examples=[LETS_ENCRYPT],
    )
    internal_name: DomainName | None = Field(
        None,
        description="A second name by which people in your own networks reach this server, and which no public "
        "authority certifies, such as one below .internal. It gets a certificate of your own authority (`todoku ca`).",
        examples=["mx.hoge.internal"],
    )

    @property
    def kind(self) -> Kind:
        """Where the certificate comes from, with auto decided."""
        if self.mode != "auto":
            return self.mode
        return "self-signed" if self.certificate is None else "files"

    @property
    def is_own_authority_needed(self) -> bool:
        """Whether an authority of our own signs something."""
        return self.kind == "own-ca" or self.internal_name is not None
