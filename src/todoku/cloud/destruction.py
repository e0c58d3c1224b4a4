"""Taking away what Todoku made in the cloud, and nothing else, in the opposite order of making it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from todoku.cloud.client import Cloud
from todoku.cloud.dkim import delete_key
from todoku.cloud.errors import CloudError, Trouble
from todoku.cloud.logs import GROUP
from todoku.cloud.network import left_open
from todoku.cloud.return_path import delete_path
from todoku.cloud.senders import delete_sender, domain_of
from todoku.cloud.smtp_credential import delete_credential, description_of
from todoku.cloud.values import EmailDomain, Group, Log, LogGroup, Policy, SmtpCredential, User
from todoku.plan.resource import ChangeFailed
from todoku.settings import Settings
from todoku.settings.outside import Cloud as CloudSettings


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing that Todoku made, and how to delete it."""

    what: str
    delete: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Made:
    """What would be deleted, in order, and what stays, with the reason."""

    things: tuple[Thing, ...]
    kept: tuple[str, ...]


def made(settings: Settings, client: Cloud, in_use: str | None = None) -> Made:
    """What Todoku made for these settings; `in_use` is the user name with which this host logs in to the relay.

    Raises CloudError.
    """
    cloud = settings.cloud
    if cloud is None:
        return Made((), ())
    things: list[Thing] = []
    kept: list[str] = []
    names = tuple(domain.name for domain in settings.domains)
    _senders(names, client, things, kept)
    domains = [domain for name in names if (domain := client.email_domain(name)) is not None]
    _logs([domain.id for domain in domains], client, things, kept)
    for domain in domains:
        _domain(domain, client, things, kept)
    if cloud.manage_iam:
        _people(settings, cloud, client, in_use, things, kept)
    if cloud.instance is not None:
        kept += _ports(cloud.instance, client)
    return Made(tuple(things), tuple(kept))


def destroy(found: Made, tell: Callable[[str], None]) -> tuple[tuple[str, ChangeFailed], ...]:
    """Delete one thing after the other; those that could not be deleted, each with the reason."""
    failed = []
    for thing in found.things:
        try:
            thing.delete()
        except ChangeFailed as error:
            failed.append((thing.what, error))
        else:
            tell(thing.what)
    return tuple(failed)


def _senders(names: Sequence[str], client: Cloud, things: list[Thing], kept: list[str]) -> None:
    for sender in client.senders():
        if domain_of(sender.address) not in names:
            continue
        if sender.ours:
            things.append(Thing(f"approved sender {sender.address}", partial(delete_sender, sender, client)))
        else:
            kept.append(f"approved sender {sender.address}: not made by Todoku")


def _logs(domains: Sequence[str], client: Cloud, things: list[Thing], kept: list[str]) -> None:
    """Ours of these email domains (OCIDs), and their group, unless there are others in it."""
    try:
        groups, logs = client.log_groups(), client.logs()
    except CloudError as error:
        if error.trouble is not Trouble.DENIED:
            raise
        return  # where we may not see logs, we have made none
    mine = [log for log in logs if log.ours and log.resource in domains]
    things += [Thing(f"log {log.name}", partial(_delete_log, log, client)) for log in mine]
    for group in groups:
        if group.name != GROUP:
            continue
        if group.ours and all(log in mine for log in logs if log.group_id == group.id):
            things.append(Thing(f"log group {group.name}", partial(_delete_log_group, group, client)))
        else:
            reason = "other logs are in it" if group.ours else "not made by Todoku"
            kept.append(f"log group {group.name}: {reason}")


def _delete_log(log: Log, client: Cloud) -> None:
    def find() -> Log | None:
        return next((each for each in client.logs() if each.id == log.id), None)

    client.delete("log", lambda: client.api.delete_log(log), find)


def _delete_log_group(group: LogGroup, client: Cloud) -> None:
    client.wait("log", lambda: not any(log.group_id == group.id for log in client.logs()), 30.0)
    client.delete(
        "log-group", lambda: client.api.delete_log_group(group), lambda: client.log_group(group.name)
    )


def _ports(instance: str, client: Cloud) -> list[str]:
    try:
        return left_open(client.guards(instance))
    except CloudError as error:
        if error.trouble is Trouble.DENIED:
            return []  # where we may not look, we have added nothing
        # An instance that is gone must not keep the rest from going.
        return [f"a rule that lets port 25 in, if there is one: {error}"]


def _domain(domain: EmailDomain, client: Cloud, things: list[Thing], kept: list[str]) -> None:
    """Its return paths, its keys, itself: unless something in it was not made by Todoku."""
    foreign = any(not sender.ours and domain_of(sender.address) == domain.name for sender in client.senders())
    for path in client.return_paths(domain):
        if path.ours:
            things.append(Thing(f"return path {path.name}", partial(delete_path, domain, path, client)))
            kept.append(_left_in_the_dns(path.record_name, "return path"))
        else:
            foreign = True
            kept.append(f"return path {path.name}: not made by Todoku")
    for key in client.dkims(domain):
        what = f"DKIM key {key.selector} of {domain.name}"
        if key.ours:
            things.append(Thing(what, partial(delete_key, domain, key, client)))
            kept.append(_left_in_the_dns(key.record_name, "DKIM key"))
        else:
            foreign = True
            kept.append(f"{what}: not made by Todoku")
    if domain.ours and not foreign:
        things.append(Thing(f"email domain {domain.name}", partial(_delete_domain, domain, client)))
    else:
        reason = "something in it was not made by Todoku" if domain.ours else "not made by Todoku"
        kept.append(f"email domain {domain.name}: {reason}")


def _left_in_the_dns(name: str, of: str) -> str:
    # Mail that is under way is still verified with it, and bounces still come back.
    return (
        f"DNS record {name}: of no use a day after its {of} is gone; remove it where the zone is edited then"
    )


def _delete_domain(domain: EmailDomain, client: Cloud) -> None:
    def empty() -> bool:
        return not client.dkims(domain) and not client.return_paths(domain)

    # What happens to a domain that still has keys is not documented.
    client.forget("return-path")
    client.wait("dkim", empty, 30.0)
    client.delete(
        "email-domain",
        lambda: client.api.delete_email_domain(domain),
        lambda: next((each for each in client.email_domains() if each.id == domain.id), None),
    )


def _people(
    settings: Settings,
    cloud: CloudSettings,
    client: Cloud,
    in_use: str | None,
    things: list[Thing],
    kept: list[str],
) -> None:
    user, group = client.user(cloud.user), client.group(cloud.group)
    if user is not None:
        mine, foreign = _credentials(user, settings.hostname, in_use, client)
        for credential in mine:
            delete = partial(delete_credential, user, credential, client)
            things.append(Thing(f"SMTP credential {credential.username}", delete))
        kept += [f"SMTP credential {each.username}: not made by Todoku for this host" for each in foreign]
        if foreign:
            # Another host logs in as the same user, and needs all that lets it send.
            kept.append(f"user {user.name}, group {cloud.group} and its policy: that credential needs them")
            return
    own = {user.id} if user is not None else set()
    others = "others are in the group, and send by it" if group and client.members(group) - own else ""
    for policy in client.policies(cloud.compartment):
        if policy.name == cloud.group and policy.ours and not others:
            things.append(Thing(f"policy {policy.name}", partial(_delete_policy, policy, client)))
        elif policy.name == cloud.group:
            kept.append(f"policy {policy.name}: {others if policy.ours else 'not made by Todoku'}")
    if user is not None and group is not None and client.is_member(user, group) and (user.ours or group.ours):
        what = f"membership of {user.name} in {group.name}"
        things.append(Thing(what, partial(_leave, user, group, client)))
    if user is not None and user.ours:
        things.append(Thing(f"user {user.name}", partial(_delete_user, user, client)))
    elif user is not None:
        kept.append(f"user {user.name}: not made by Todoku")
    if group is not None and group.ours and not others:
        things.append(Thing(f"group {group.name}", partial(_delete_group, group, client)))
    elif group is not None:
        kept.append(f"group {group.name}: {others if group.ours else 'not made by Todoku'}")


def _credentials(
    user: User, hostname: str, in_use: str | None, client: Cloud
) -> tuple[list[SmtpCredential], list[SmtpCredential]]:
    """Those of this host, which may have had another name when Todoku made the one it uses; and the others."""
    mine: list[SmtpCredential] = []
    foreign: list[SmtpCredential] = []
    for credential in client.smtp_credentials(user):
        before = credential.username == in_use and credential.description.startswith(description_of(""))
        ours = before or credential.description == description_of(hostname)
        (mine if ours else foreign).append(credential)
    return mine, foreign


def _delete_policy(policy: Policy, client: Cloud) -> None:
    def find() -> Policy | None:
        return next((each for each in client.policies(policy.compartment) if each.id == policy.id), None)

    client.delete("policy", lambda: client.api.delete_policy(policy), find)


def _leave(user: User, group: Group, client: Cloud) -> None:
    client.delete(
        "member", lambda: client.api.leave(user, group), lambda: client.is_member(user, group) or None
    )


def _delete_user(user: User, client: Cloud) -> None:
    client.delete("user", lambda: client.api.delete_user(user), lambda: client.user(user.name))


def _delete_group(group: Group, client: Cloud) -> None:
    client.delete("group", lambda: client.api.delete_group(group), lambda: client.group(group.name))
