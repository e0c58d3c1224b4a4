"""Where the cloud meets the host: the credential's file, Postfix that reads it, the relay that judges it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from todoku.cli.parts.context import USAGE, fail, print_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import NoReturn

    from todoku.cloud.client import Cloud
    from todoku.cloud.probe import Relay
    from todoku.cloud.smtp_credential import Store
    from todoku.host.client import Host
    from todoku.settings import RelayCredential, Settings


class CredentialFile:
    """`cloud.smtp_credential.Store`: the file that the settings name, through the host's own rules."""

    def __init__(self, settings: Settings, host: Host) -> None:
        self._settings = settings
        self._host = host

    def username(self) -> str | None:
        from todoku.settings.credential import CredentialError, read

        try:
            return read(self._settings.relay, {}).username
        except CredentialError:
            return None

    def store(self, username: str, password: str) -> None:
        path = self._settings.relay.credential_file
        assert path is not None, "the rules require a file where Todoku makes the credential"  # noqa: S101
        if not path.parent.is_dir():
            self._host.make_directory(str(path.parent), mode=0o700)
        content = f"{username}\n{password}\n".encode()
        self._host.replace(str(path), content, mode=0o600, owner="root", group="root")


def keeper(settings: Settings, host: Host) -> Store:
    """Where the cloud's SMTP credential is kept on this host."""
    return CredentialFile(settings, host)


def relay(settings: Settings) -> Relay:
    """The relay, to be asked with the credential that is stored at that moment."""
    import os

    from todoku.cloud.desired import relay_of
    from todoku.settings.credential import read

    def login() -> RelayCredential:
        return read(settings.relay, os.environ)

    return relay_of(settings, login)


def have_postfix_read(settings: Settings, host: Host) -> None:
    """Bring the stored credential to Postfix, as `apply` would, and have it read. Raises HostError, OSError."""
    import os

    from todoku.host.credential import RelayCredentialFile

    file = RelayCredentialFile(reason="the relay's credential is new", settings=settings, environ=os.environ)
    change = file.differ(file.look(host))
    if change is not None:
        file.change(change, host)
    host.run(["postfix", "reload"])


def cloud(settings: Settings) -> Cloud:
    """The cloud's client; without a [cloud] table the program ends with code 2."""
    from todoku.cloud.desired import connect
    from todoku.plan.outputs import Outputs

    if settings.cloud is None:
        fail("the settings have no [cloud] table, so Todoku makes nothing in the cloud: add one", USAGE)
    return connect(settings, Outputs())


def not_approved(settings: Settings, addresses: Iterable[str], file: Path | None = None) -> tuple[str, ...]:
    """A note for each of `addresses` that the relay does not take mail from, as the last `todoku apply` saw it."""
    from todoku.host.relay_senders import approved

    if settings.cloud is None or (known := approved(file)) is None:
        return ()
    lacking = [a for a in addresses if not {a.lower(), f"@{a.lower().rpartition('@')[2]}"} & known]
    return tuple(
        f"the relay takes no mail from {address} yet: `todoku apply` approves it as a sender"
        for address in lacking
    )


def domains(context_settings: Settings, wanted: str | None) -> Iterator[str]:
    """The settings' domains in A-labels, or the one that is meant by `wanted`, in either form."""
    names = {domain.name: domain.unicode for domain in context_settings.domains}
    if wanted is None:
        yield from names
        return
    found = next((name for name, shown in names.items() if wanted.lower() in (name, shown)), None)
    if found is None:
        fail(f"{wanted} is none of the domains in the settings: {', '.join(names.values())}", USAGE)
    yield found


def refuse(message: str, code: int, *, as_json: bool) -> NoReturn:
    """Tell why it failed, also as JSON, and end with `code`."""
    if as_json:
        print_json({"ok": False, "error": message})
    fail(message, code)
