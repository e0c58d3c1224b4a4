"""Oracle's cloud: what the relay asks to find there before it takes and signs mail, and the relay's own answer.

Read only. What has to be there is what `todoku apply` makes; the reading is that of the cloud room's resources.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

from todoku.check.finding import Finding, failed, passed, unknown, warned
from todoku.check.means import Means
from todoku.check.runner import Step
from todoku.cloud import desired, probe
from todoku.cloud.client import Cloud
from todoku.cloud.errors import CloudError, Trouble
from todoku.cloud.iam import PolicyResource
from todoku.cloud.limits import SendingLimits
from todoku.cloud.probe import Answer, Endpoint, Verdict
from todoku.cloud.suppressions import Suppression
from todoku.cloud.values import ACTIVE
from todoku.plan.resource import NotYet
from todoku.settings import CredentialError, RelayCredential, Settings
from todoku.settings.outside import Cloud as CloudSettings

_OLD = timedelta(days=365)
_APPLY = "Run `todoku apply`"
_CONSOLE = "Compare [relay.plan] with Oracle's console: Governance, Limits, Quotas and Usage, Email Delivery"
_MOST_TOLD = 5
_MOST_ASKED = 3  # senders that the relay is asked about: each refusal brings its throttle nearer

Login = Callable[[], RelayCredential]  # raises CredentialError


def steps(settings: Settings, means: Means, login: Login | None = None) -> list[Step]:
    """`login`: reads the relay's credential; without it the relay is not asked."""
    cloud, wanted = means.cloud, settings.cloud
    found: list[Step] = []
    if login is not None:
        found.append(Step("relay.login", settings.relay.hostname, lambda: relay(settings, means, login)))
    if cloud is None or wanted is None:
        return found
    names = [domain.name for domain in settings.domains]
    found += [
        *(Step("cloud.domain", name, lambda name=name: email_domain(name, cloud)) for name in names),  # type: ignore[misc]
        Step("cloud.senders", "", lambda: senders(settings, cloud, means)),
        Step("cloud.quota", settings.relay.region, lambda: notes(settings, cloud, means)),
    ]
    if (listed := means.suppressions) is not None:
        found.append(Step("cloud.suppressions", "", lambda: suppressions(listed, means)))
    if wanted.manage_iam:
        found.append(Step("cloud.policies", wanted.group, lambda: policies(wanted, cloud)))
        found.append(Step("cloud.credential", wanted.user, lambda: credential(wanted, cloud, means, login)))
    return found


def email_domain(name: str, cloud: Cloud) -> Iterator[Finding]:
    found = cloud.email_domain(name)
    if found is None:
        yield failed("cloud.domain", f"Email Delivery does not know {name}", _APPLY, name)
    elif found.state != ACTIVE:
        seen = f"the email domain {name} is in the state {found.state}"
        yield failed(
            "cloud.domain", seen, "Wait a minute; if it stays so, look at it in Oracle's console", name
        )
    else:
        yield passed("cloud.domain", f"Email Delivery knows {name}", name)


def senders(settings: Settings, cloud: Cloud, means: Means) -> Iterator[Finding]:
    """Whether everybody who writes from here is approved: the whole domain, or each address."""
    approved = {sender.address: sender.state for sender in cloud.senders()}
    every = desired.single_addresses(settings, means.addresses)
    for domain in settings.domains:
        if approved.get(f"@{domain.name}") == ACTIVE:
            yield passed("cloud.senders", f"everybody at {domain.name} may send", domain.name)
            continue
        mine = [address for address in every if address.endswith(f"@{domain.name}")]
        missing = [address for address in mine if approved.get(address) != ACTIVE]
        if missing:
            seen = f"not approved: {', '.join(missing[:5])}" + (" and others" if len(missing) > 5 else "")
            yield failed("cloud.senders", seen, _APPLY, domain.name)
        else:
            seen = f"only single addresses are approved, and no other in {domain.name} may send"
            advice = "Run `todoku apply` again once the DKIM key is active: then the whole domain is approved"
            yield warned("cloud.senders", seen, advice, domain.name)


def policies(wanted: CloudSettings, cloud: Cloud) -> Iterator[Finding]:
    resource = PolicyResource(
        name=wanted.group,
        group=wanted.group,
        compartment=wanted.compartment,
        identity_domain=wanted.identity_domain,
        reason="",
    )
    try:
        missing = resource.look(cloud).missing
    except NotYet as problem:
        advice = (
            "Ask whoever may, or see whether the relay takes mail (relay.sender): then the rights are there"
        )
        yield unknown("cloud.policies", str(problem), advice, wanted.group)
        return
    if missing:
        seen = f"no policy says: {'; '.join(missing)}"
        yield failed("cloud.policies", seen, f"{_APPLY}, or have an administrator add it", wanted.group)
    else:
        yield passed("cloud.policies", f"the group {wanted.group} may send", wanted.group)


def credential(wanted: CloudSettings, cloud: Cloud, means: Means, login: Login | None) -> Iterator[Finding]:
    """Whether the credential on this host is one that Oracle knows, and how old it is."""
    user = cloud.user(wanted.user)
    if user is None or not user.active or not user.may_use_smtp:
        told = (
            "does not exist" if user is None else "is not active" if not user.active else "may not use SMTP"
        )
        yield failed("cloud.credential", f"the user {wanted.user} {told}", _APPLY, wanted.user)
        return
    known = cloud.smtp_credentials(user)
    try:
        name = login().username if login is not None else ""
    except CredentialError as problem:
        yield failed("cloud.credential", str(problem), _APPLY, wanted.user)
        return
    mine = next((each for each in known if each.username == name), None)
    if mine is None and name:
        seen = (
            f"Oracle does not know the credential that is stored here; {wanted.user} has {len(known)} others"
        )
        yield failed("cloud.credential", seen, "Run `todoku credential rotate`", wanted.user)
        return
    age = means.now() - mine.created if mine is not None and mine.created is not None else None
    if age is not None and age > _OLD:
        yield warned(
            "cloud.credential", f"it is {age.days} days old", "Run `todoku credential rotate`", wanted.user
        )
    else:
        told = f"{age.days} days old" if age is not None else "of unknown age"
        yield passed("cloud.credential", f"the credential in use is {told}", wanted.user)


def notes(settings: Settings, cloud: Cloud, means: Means) -> Iterator[Finding]:
    """What Oracle lets us send against what the settings say, and what the cloud room has noticed: the region, the
    relay's name, what is not needed."""
    region = settings.relay.region
    told = desired.standing_notes(settings, cloud, means.addresses)
    for note in told:
        yield warned(
            "cloud.quota",
            note,
            "Unless it is meant so, change it in the settings or at Oracle, then run `todoku apply`",
            region,
        )
    allowed = None
    try:
        allowed = means.limits() if means.limits is not None else None
    except CloudError as problem:
        if problem.trouble is not Trouble.DENIED:  # who runs Todoku need not have the right to read limits
            yield unknown("cloud.quota", str(problem), _CONSOLE, region)
            return
    quota = list(_quota(settings, allowed)) if allowed is not None else []
    yield from quota
    if not told and not quota:
        plan = settings.relay.plan
        known = "Oracle allows that" if allowed is not None else "what Oracle allows, we may not know"
        seen = f"the settings say {plan.per_day:,} messages a day, {plan.per_minute:,} a minute; {known}"
        yield passed("cloud.quota", seen, region)


def _quota(settings: Settings, allowed: SendingLimits) -> Iterator[Finding]:
    """Where the settings have more than Oracle allows: the relay says 455 then, and mail waits."""
    plan = settings.relay.plan
    for key, ours, theirs, unit in (
        ("per_day", plan.per_day, allowed.per_day, "messages a day"),
        ("per_minute", plan.per_minute, allowed.per_minute, "messages a minute"),
    ):
        if theirs is not None and ours > theirs:
            seen = f"the settings say {ours:,} {unit}, Oracle allows {theirs:,}: what is more than that waits"
            advice = (
                f"Write {key} = {theirs} below [relay.plan], or ask Oracle for more (a service limit request)"
            )
            yield warned("cloud.quota", seen, advice, settings.relay.region)


def suppressions(listed: Callable[[], Sequence[Suppression]], means: Means) -> Iterator[Finding]:
    """Whom the relay sends nothing to although it says yes; what an alias forwards there is lost."""
    entries = {entry.address.lower(): entry for entry in listed()}
    lost = sorted(entries.keys() & means.forwards.keys())
    for address in lost[:_MOST_TOLD]:
        seen = f"mail that {means.forwards[address]} forwards to {address} is not sent ({entries[address].reason})"
        advice = f"See that {address} works, then `todoku suppression lift {address}`; or change the alias"
        yield failed("cloud.suppressions", seen, advice, address)
    if lost:
        return
    reasons = Counter(entry.reason for entry in entries.values())
    shown = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common())
    seen = f"{len(entries)} addresses are suppressed ({shown})" if entries else "nobody is suppressed"
    yield passed("cloud.suppressions", seen)


def relay(settings: Settings, means: Means, login: Login) -> Iterator[Finding]:
    """The relay's own answer to our password and to who sends; never a message."""
    try:
        known = login()
    except CredentialError as problem:
        yield failed("relay.login", str(problem), _APPLY, settings.relay.hostname)
        return
    everybody = desired.single_addresses(settings, means.addresses)[:_MOST_ASKED]
    endpoint = Endpoint(settings.relay.hostname, settings.relay.port, settings.hostname, means.trust)
    logged_in, *taken = probe.ask(endpoint, known, everybody)
    yield _login(logged_in, settings.relay.hostname)
    if not logged_in.accepted:
        return
    for address, answer in zip(everybody, taken, strict=True):
        if answer.accepted:
            yield passed("relay.sender", f"the relay takes mail from {address}", address)
        elif answer.verdict is Verdict.REFUSED:
            advice = f"{_APPLY}; a new approved sender is believed after up to 15 minutes"
            yield failed("relay.sender", f"the relay refuses {address}: {answer.said}", advice, address)
        else:
            yield unknown(
                "relay.sender", str(answer), "Correct the other sender first, then look again", address
            )


def _login(answer: Answer, host: str) -> Finding:
    if answer.accepted:
        return passed("relay.login", f"{host} takes our password, within TLS that was verified", host)
    if answer.verdict is Verdict.LOGIN_REFUSED:
        return failed(
            "relay.login",
            str(answer),
            "Run `todoku credential status`, then `todoku credential rotate`",
            host,
        )
    if answer.verdict is Verdict.THROTTLED:
        return unknown("relay.login", str(answer), "Wait a quarter of an hour, then look again", host)
    advice = (
        "See whether the way to it is open (Oracle's instances cannot use port 25), and who answers there"
    )
    return failed("relay.login", str(answer), advice, host)
