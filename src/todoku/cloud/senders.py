"""Approved senders: which addresses the relay takes mail from.

One for the whole domain ("@hoge.example") as soon as the domain's DKIM key signs: Oracle makes it only then.
Until that day, which can be an hour away, one for each address. Those stay when the other is there, until
somebody asks to remove what is not needed.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field

from todoku.cloud import permissions
from todoku.cloud.client import Cloud, older_than
from todoku.cloud.errors import CloudError, Trouble, claimed_elsewhere
from todoku.cloud.probe import Answer, Relay, Verdict
from todoku.cloud.resource import CloudResource
from todoku.cloud.values import ACTIVE, CREATING, FAILED, INACTIVE, Sender
from todoku.plan.resource import Action, Change, ChangeFailed, LookFailed, NotYet

# Seen in the field: a new sender is refused for 10 to 15 minutes. After these the relay is not asked any more.
_SETTLED = 3600.0  # seconds
_COVERS = 1800.0
_PROBE_LOCAL_PART = "todoku-probe"


@dataclass(frozen=True, slots=True)
class SenderSeen:
    sender: Sender | None
    covered: bool = False  # its domain as a whole is approved, and has been for a while


@dataclass(frozen=True, kw_only=True)
class SenderResource(CloudResource[SenderSeen]):
    """One approved sender: an address, or "@DOMAIN"."""

    address: str
    relay: Relay | None = field(default=None, repr=False, compare=False, hash=False)

    @property
    def id(self) -> str:
        return f"sender:{self.address}"

    @property
    def needs(self) -> Set[str]:
        domain = domain_of(self.address)
        whole = frozenset({f"dkim-active:{domain}"}) if self.is_whole_domain else frozenset()
        return self.after | {f"email-domain:{domain}"} | whole

    @property
    def is_whole_domain(self) -> bool:
        return self.address.startswith("@")

    def look(self, client: Cloud) -> SenderSeen:
        sender = client.sender(self.address)
        if sender is not None and sender.state in (FAILED, INACTIVE) and not sender.ours:
            raise LookFailed(
                f"the approved sender {self.address} is in the state {sender.state}, and Todoku did not make it: "
                "delete it in the console, then apply again"
            )
        missing = sender is None and not self.is_whole_domain
        return SenderSeen(sender, missing and covered(self.address, client, self.relay))

    def differ(self, seen: SenderSeen) -> Change | None:
        sender = seen.sender
        if sender is None:
            return None if seen.covered else Change(Action.CREATE, f"approve {self._words()} as sender")
        if sender.state in (FAILED, INACTIVE):
            return Change(
                Action.CREATE, f"approve {self._words()} as sender again: it is {sender.state.lower()}"
            )
        return None

    def change(self, change: Change, client: Cloud) -> None:  # noqa: ARG002
        seen = self.look(client)
        if seen.sender is not None:
            delete_sender(seen.sender, client)
        try:
            client.create(
                "sender",
                lambda: client.api.create_sender(self.address),
                lambda: client.sender(self.address),
            )
        except CloudError as error:
            raise self._explained(error, client) from error
        client.wait("sender", lambda: self._made(client), self.soon)

    def _made(self, client: Cloud) -> bool:
        sender = client.sender(self.address)
        return sender is not None and sender.state != CREATING

    def _words(self) -> str:
        return f"all of {self.address[1:]}" if self.is_whole_domain else self.address

    def _explained(self, error: CloudError, client: Cloud) -> CloudError:
        if error.trouble is Trouble.CONFLICT:
            attempt = client.api.attempt(
                f"create the approved sender {self.address}", permissions.MANAGE_SENDERS
            )
            return claimed_elsewhere(attempt, f"the approved sender {self.address}", error)
        return error


@dataclass(frozen=True, slots=True)
class UsableSeen:
    """None: the sender is not there yet."""

    answer: Answer | None


@dataclass(frozen=True, kw_only=True)
class SenderUsable(CloudResource[UsableSeen]):
    """That the relay takes mail from a new sender. Oracle's own advice is to try, and to try again later."""

    address: str
    relay: Relay = field(repr=False, compare=False, hash=False)
    together: tuple[str, ...] = ()  # all the senders that are asked about, to do it in one session
    statements: tuple[str, ...] = ()  # without which the relay refuses for ever

    @property
    def id(self) -> str:
        return f"sender-usable:{self.address}"

    @property
    def needs(self) -> Set[str]:
        return self.after | {f"sender:{self.address}"}

    def look(self, client: Cloud) -> UsableSeen:
        sender = client.sender(self.address)
        if sender is None:
            known = not self.address.startswith("@") and covered(self.address, client, self.relay)
            return UsableSeen(Answer(Verdict.ACCEPTED) if known else None)
        if older_than(sender.created, _SETTLED, client.now()):
            return UsableSeen(Answer(Verdict.ACCEPTED))
        return UsableSeen(self.relay.takes(spoken(self.address), self._others(client)))

    def differ(self, seen: UsableSeen) -> Change | None:
        if seen.answer is not None and seen.answer.accepted:
            return None
        return Change(
            Action.RUN,
            f"wait until the relay takes mail from {self.address}",
            str(seen.answer) if seen.answer is not None and seen.answer.said else "",
        )

    def change(self, change: Change, client: Cloud) -> None:  # noqa: ARG002
        answer = self.relay.wait_until_taken(spoken(self.address), self._others(client), self.soon)
        if answer.accepted:
            return
        advice = "This can take 15 minutes for a new sender."
        if answer.verdict is Verdict.REFUSED and self.statements:
            lines = "\n  ".join(self.statements)
            advice += f" If it lasts for an hour, check that this policy statement exists:\n  {lines}"
        raise NotYet(f"mail from {self.address}: {answer}. {advice}")

    def _others(self, client: Cloud) -> list[str]:
        """Those that exist and are new: asking about others would only count as refusals."""
        new = {
            sender.address
            for sender in client.senders()
            if not older_than(sender.created, _SETTLED, client.now())
        }
        return [spoken(each) for each in self.together if each in new]


@dataclass(frozen=True, kw_only=True)
class SendersUnneeded(CloudResource[tuple[Sender, ...]]):
    """Senders of Todoku's that nothing needs any more: removed only when `prune` asks for it."""

    domains: tuple[str, ...]
    wanted: frozenset[str]  # "@hoge.example" and single addresses
    prune: bool = False

    @property
    def id(self) -> str:
        return "senders-unneeded"

    def look(self, client: Cloud) -> tuple[Sender, ...]:
        return unneeded(client, self.domains, self.wanted) if self.prune else ()

    def differ(self, seen: tuple[Sender, ...]) -> Change | None:
        if not seen:
            return None
        names = "\n".join(sender.address for sender in seen)
        if len(seen) == 1:
            return Change(Action.DELETE, "delete an approved sender that is not needed any more", names)
        return Change(
            Action.DELETE, f"delete {len(seen)} approved senders that are not needed any more", names
        )

    def change(self, change: Change, client: Cloud) -> None:  # noqa: ARG002
        for sender in self.look(client):
            delete_sender(sender, client)


def unneeded(client: Cloud, domains: tuple[str, ...], wanted: frozenset[str]) -> tuple[Sender, ...]:
    """Senders that Todoku made in `domains` and that nothing needs: covered by their domain, or not wanted."""
    return tuple(
        sender
        for sender in client.senders()
        if sender.ours
        and domain_of(sender.address) in domains
        and not sender.address.startswith("@")
        and (sender.address not in wanted or covered(sender.address, client))
    )


def covered(address: str, client: Cloud, relay: Relay | None = None) -> bool:
    """Whether the address's whole domain is approved, and the relay knows it: by its own word, or by now."""
    whole = client.sender(f"@{domain_of(address)}")
    if whole is None or whole.state != ACTIVE:
        return False
    if older_than(whole.created, _COVERS, client.now()):
        return True
    return relay is not None and relay.takes(spoken(whole.address)).accepted


def delete_sender(sender: Sender, client: Cloud) -> None:
    """Delete a sender that Todoku made. Raises ChangeFailed."""
    if not sender.ours:
        raise ChangeFailed(f"the approved sender {sender.address} was not made by Todoku: it stays")
    client.delete(
        "sender",
        lambda: client.api.delete_sender(sender),
        lambda: next((each for each in client.senders() if each.id == sender.id), None),
    )


def spoken(address: str) -> str:
    """What MAIL FROM can say for a sender: for a whole domain an address that is not approved by itself."""
    return f"{_PROBE_LOCAL_PART}{address}" if address.startswith("@") else address


def domain_of(address: str) -> str:
    return address.rpartition("@")[2]
