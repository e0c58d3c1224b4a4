"""A cloud in memory that keeps Oracle's rules as far as they are documented, and breaks when it is told to."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from todoku.cloud.client import Cloud
from todoku.cloud.errors import Attempt, CloudError, Reply, Trouble, refused, unreachable
from todoku.cloud.probe import Answer, Verdict
from todoku.cloud.retry import Patience
from todoku.cloud.values import (
    ACTIVE,
    CREATING,
    DELETING,
    FAILED,
    INACTIVE,
    NEEDS_ATTENTION,
    Dkim,
    EmailDomain,
    Group,
    IdentityDomain,
    Log,
    LogGroup,
    NewCredential,
    Policy,
    Region,
    ReturnPath,
    Sender,
    SmtpCredential,
    User,
)
from todoku.plan.outputs import Outputs
from todoku.settings import CredentialError, RelayCredential, parse

COMPARTMENT = "ocid1.compartment.oc1..aaaaaaaacompartment"
TENANCY = "ocid1.tenancy.oc1..aaaaaaaatenancy"
START = datetime(2026, 11, 24, 5, 0, tzinfo=UTC)
TEXT = f"""
hostname = "mx.hoge.example"
addresses = "203.0.113.10"
postmaster = "postmaster@hoge.example"
[[domains]]
name = "hoge.example"
[relay]
region = "ap-tokyo-1"
[cloud]
compartment = "{COMPARTMENT}"
"""


def settings(more=""):
    return parse(TEXT + more, "todoku.toml")


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self):
        self.seconds = 0.0

    def sleep(self, seconds):
        self.seconds += seconds

    def monotonic(self):
        return self.seconds

    def now(self):
        return START + timedelta(seconds=self.seconds)


class FakeApi:
    """`api.Api` in memory. `breaks[operation]` is a list of faults, one for each coming call.

    A fault: "denied", "throttled", "lost" (done, but no answer), "unsent" (not done, no answer), "500".
    """

    compartment, tenancy, sending_region = COMPARTMENT, TENANCY, "ap-tokyo-1"

    def __init__(self, clock):
        self.clock = clock
        self.calls = []
        self.breaks = {}
        self.denied = set()
        self.domains, self.keys, self.all_senders, self.paths = [], [], [], []
        self.users, self.groups, self.memberships, self.all_policies, self.credentials = [], [], set(), [], []
        self.all_log_groups, self.all_logs = [], []
        self.subscribed = [Region("ap-tokyo-1", home=True)]
        self.identity = [IdentityDomain("Default", "https://idcs-1.identity.oraclecloud.com")]
        self.host = "smtp.email.ap-tokyo-1.oci.oraclecloud.com"
        self.dkim_seen = self.path_seen = False  # whether Oracle has found the records
        self.published = None  # names of records that exist; None: whatever is needed
        self.passwords = {}
        self._tokens = {}
        self._numbers = itertools.count(1)

    # Oracle's side

    def look_at_dns(self):
        """What Oracle's checks do from time to time."""
        for number, domain in enumerate(self.domains):
            mine = [
                key for key in self.keys if key.domain_id == domain.id and key.state not in (DELETING, FAILED)
            ]
            if self.published is not None:
                mine = [key for key in mine if key.record_name in self.published]
            if self.dkim_seen and mine:
                newest = max(mine, key=lambda key: key.created)
                for key in mine:
                    state = ACTIVE if key is newest else INACTIVE
                    if key.state != state:
                        self._replace(self.keys, key, state=state, updated=self.clock.now())
                self.domains[number] = replace(domain, active_dkim_id=newest.id)
        if self.path_seen:
            for path in [path for path in self.paths if path.state != FAILED]:
                self._replace(self.paths, path, state=ACTIVE, updated=self.clock.now())

    def _replace(self, where, thing, **values):
        where[where.index(thing)] = replace(thing, **values)

    def count(self, operation):
        return self.calls.count(operation)

    # Calls

    def _call(self, operation, do, reads=False):
        self.calls.append(operation)
        fault = (self.breaks.get(operation) or [None]).pop(0) if self.breaks.get(operation) else None
        attempt = self.attempt(operation, _RIGHT)
        if fault == "denied" or operation in self.denied:
            raise refused(attempt, Reply(404, "NotAuthorizedOrNotFound", "nothing here", {}))
        if fault == "throttled":
            raise refused(attempt, Reply(429, "TooManyRequests", "slow down", {"Retry-After": "3"}))
        if fault == "unsent":
            raise unreachable(attempt, "connection reset", sent=True)
        if fault == "500":
            raise refused(attempt, Reply(500, "InternalServerError", "sorry", {}))
        result = do()
        if fault == "lost":
            raise unreachable(attempt, "connection reset", sent=True)
        return result

    def _once(self, token, make):
        if token not in self._tokens:
            self._tokens[token] = make()
        return self._tokens[token]

    def _id(self, kind):
        return f"ocid1.{kind}.oc1..{next(self._numbers)}"

    def _conflict(self, what):
        raise refused(self.attempt(what, _RIGHT), Reply(409, "Conflict", f"{what} exists", {}))

    def attempt(self, to, right):
        return Attempt(to, right, COMPARTMENT, "ap-tokyo-1")

    def email_domains(self):
        return self._call("email_domains", lambda: list(self.domains))

    def create_email_domain(self, name, token):
        def make():
            if any(each.name == name for each in self.domains):
                self._conflict(name)
            made = EmailDomain(self._id("emaildomain"), name, ACTIVE, True, created=self.clock.now())
            self.domains.append(made)
            return made

        return self._call("create_email_domain", lambda: self._once(token, make))

    def delete_email_domain(self, domain):
        self._call("delete_email_domain", lambda: self.domains.remove(domain))

    def dkims(self, domain):
        self.look_at_dns()
        return self._call("dkims", lambda: [key for key in self.keys if key.domain_id == domain.id])

    def create_dkim(self, domain, selector, token):
        def make():
            mine = [key for key in self.keys if key.domain_id == domain.id]
            if len(mine) >= 2 or any(key.selector == selector for key in mine):
                self._conflict(selector)
            made = Dkim(
                id=self._id("dkim"),
                domain_id=domain.id,
                selector=selector,
                state=NEEDS_ATTENTION,
                ours=True,
                record_name=f"{selector}._domainkey.{domain.name}",
                cname=f"{selector}.{domain.name}.dkim.nrt1.oracleemaildelivery.com",
                txt=f"v=DKIM1; k=rsa; p={selector}",
                details="NEED_DNS",
                created=self.clock.now(),
                updated=self.clock.now(),
            )
            self.keys.append(made)
            return made

        return self._call("create_dkim", lambda: self._once(token, make))

    def delete_dkim(self, dkim):
        there = next(key for key in self.keys if key.id == dkim.id)
        self._call("delete_dkim", lambda: self._replace(self.keys, there, state=DELETING))

    def senders(self):
        return self._call("senders", lambda: list(self.all_senders))

    def create_sender(self, address):
        def make():
            if any(each.address == address for each in self.all_senders):
                self._conflict(address)
            domain = address.rpartition("@")[2]
            ids = {each.id for each in self.domains if each.name == domain}
            if address.startswith("@") and not any(
                k.domain_id in ids and k.state == ACTIVE for k in self.keys
            ):
                raise AssertionError("Oracle makes a domain-wide sender only when DKIM is active")
            self.all_senders.append(Sender(self._id("sender"), address, ACTIVE, True, self.clock.now()))
            return self.all_senders[-1]

        return self._call("create_sender", make)

    def delete_sender(self, sender):
        self._call("delete_sender", lambda: self.all_senders.remove(sender))

    def return_paths(self):
        self.look_at_dns()
        return self._call("return_paths", lambda: list(self.paths))

    def create_return_path(self, domain, name, token):
        def make():
            if any(each.name == name for each in self.paths):
                self._conflict(name)
            target = "nrt1.rp.oracleemaildelivery.com"
            made = ReturnPath(
                self._id("path"), domain.id, name, CREATING, True, name, target, created=self.clock.now()
            )
            self.paths.append(made)
            return made

        return self._call("create_return_path", lambda: self._once(token, make))

    def delete_return_path(self, path):
        self._call("delete_return_path", lambda: self.paths.remove(path))

    def log_groups(self):
        return self._call("log_groups", lambda: list(self.all_log_groups))

    def create_log_group(self, name, token):
        made = LogGroup(self._id("loggroup"), name, ACTIVE, True)
        self._call("create_log_group", lambda: self._once(token, lambda: self.all_log_groups.append(made)))

    def delete_log_group(self, group):
        self._call("delete_log_group", lambda: self.all_log_groups.remove(group))

    def logs(self, group):
        return self._call("logs", lambda: [log for log in self.all_logs if log.group_id == group.id])

    def create_log(self, group, name, domain, category):
        made = Log(self._id("log"), group.id, name, ACTIVE, True, True, domain.id, category)

        def make():
            if any((log.resource, log.category) == (domain.id, category) for log in self.all_logs):
                self._conflict(name)
            self.all_logs.append(made)

        self._call("create_log", make)

    def enable_log(self, log):
        self._call("enable_log", lambda: self._replace(self.all_logs, log, enabled=True))

    def delete_log(self, log):
        self._call("delete_log", lambda: self.all_logs.remove(log))

    def smtp_host(self):
        return self._call("smtp_host", lambda: self.host)

    def user(self, name):
        return self._call("user", lambda: next((each for each in self.users if each.name == name), None))

    def create_user(self, name, email, token):
        def make():
            self.users.append(User(self._id("user"), name, True))
            return self.users[-1]

        return self._call("create_user", lambda: self._once(token, make))

    def allow_smtp(self, user):
        self._call("allow_smtp", lambda: self._replace(self.users, user, may_use_smtp=True))

    def delete_user(self, user):
        assert not any(member[0] == user.id for member in self.memberships), "still in a group"
        self._call("delete_user", lambda: self.users.remove(user))

    def group(self, name):
        return self._call("group", lambda: next((each for each in self.groups if each.name == name), None))

    def create_group(self, name, token):
        def make():
            self.groups.append(Group(self._id("group"), name, True))
            return self.groups[-1]

        return self._call("create_group", lambda: self._once(token, make))

    def delete_group(self, group):
        self._call("delete_group", lambda: self.groups.remove(group))

    def is_member(self, user, group):
        return self._call("is_member", lambda: (user.id, group.id) in self.memberships)

    def members(self, group):
        return self._call("members", lambda: {user for user, in_it in self.memberships if in_it == group.id})

    def join(self, user, group, token):
        self._call("join", lambda: self.memberships.add((user.id, group.id)))

    def leave(self, user, group):
        self._call("leave", lambda: self.memberships.remove((user.id, group.id)))

    def smtp_credentials(self, user):
        return self._call("smtp_credentials", lambda: list(self.credentials))

    def create_smtp_credential(self, user, description):
        def make():
            if len(self.credentials) >= 2:
                reply = Reply(400, "LimitExceeded", "two credentials", {})
                raise refused(self.attempt("create a credential", _RIGHT), reply)
            number = next(self._numbers)
            username = f"{user.id}@{TENANCY}.{number:02}.com"
            self.passwords[username] = f"pass:#word${number}"
            self.credentials.append(SmtpCredential(f"cred-{number}", username, description, self.clock.now()))
            return NewCredential(f"cred-{number}", username, self.passwords[username])

        return self._call("create_smtp_credential", make)

    def delete_smtp_credential(self, user, credential):
        there = next(each for each in self.credentials if each.id == credential.id)
        self._call("delete_smtp_credential", lambda: self.credentials.remove(there))

    def regions(self):
        return self._call("regions", lambda: self.subscribed)

    def identity_domains(self):
        return self._call("identity_domains", lambda: self.identity)

    def compartment_name(self):
        return self._call("compartment_name", lambda: "mail")

    def policies(self, compartment):
        operation = "policies" if compartment == COMPARTMENT else "policies_of_the_tenancy"
        return self._call(operation, lambda: [p for p in self.all_policies if p.compartment == compartment])

    def create_policy(self, name, statements, token):
        def make():
            made = Policy(self._id("policy"), name, COMPARTMENT, tuple(statements), True)
            self.all_policies.append(made)
            return made

        return self._call("create_policy", lambda: self._once(token, make))

    def update_policy(self, policy, statements):
        self._call(
            "update_policy",
            lambda: self._replace(self.all_policies, policy, statements=tuple(statements)),
        )

    def delete_policy(self, policy):
        self._call("delete_policy", lambda: self.all_policies.remove(policy))


from todoku.cloud.permissions import MANAGE_DOMAINS as _RIGHT  # noqa: E402


class Keeper:
    """`Store` in memory."""

    def __init__(self):
        self.kept = None
        self.broken = None

    def username(self):
        return self.kept[0] if self.kept else None

    def store(self, username, password):
        if self.broken:
            raise self.broken
        self.kept = (username, password)


class FakeRelay:
    """`probe.Relay`: takes mail for approved senders from who logs in with a credential that exists."""

    def __init__(self, api, keeper):
        self.api, self.keeper = api, keeper
        self.knows_new_senders = True
        self.knows_new_credentials = True
        self.logins = []

    def login(self):
        if self.keeper.kept is None:
            raise CredentialError("there is no file")
        return RelayCredential(*self.keeper.kept)

    def takes(self, address, together=()):
        if self.keeper.kept is None:
            return Answer(Verdict.NO_LOGIN)
        senders = {each.address for each in self.api.all_senders}
        approved = address in senders or "@" + address.partition("@")[2] in senders
        if approved and self.knows_new_senders:
            return Answer(Verdict.ACCEPTED)
        return Answer(Verdict.REFUSED, f"535 Authorization failed: address {address} not authorized")

    def wait_until_taken(self, address, together, bound):
        return self.takes(address, together)

    def wait_for_login(self, login, bound):
        self.logins.append(login.username)
        known = self.api.passwords.get(login.username) == login.password
        exists = any(each.username == login.username for each in self.api.credentials)
        if known and exists and self.knows_new_credentials:
            return Answer(Verdict.ACCEPTED)
        return Answer(Verdict.LOGIN_REFUSED, "535 Authentication credentials invalid")


def cloud(api=None, **options):
    """A client of a fake cloud, whose time passes only when somebody sleeps."""
    clock = api.clock if api else Clock()
    api = api or FakeApi(clock)
    patience = Patience(sleep=clock.sleep, clock=clock.monotonic)
    client = Cloud(api, Outputs(), patience, now=clock.now, **options)
    client._memory.clock = clock.monotonic
    return client


__all__ = [
    "COMPARTMENT",
    "START",
    "TENANCY",
    "Clock",
    "CloudError",
    "FakeApi",
    "FakeRelay",
    "Keeper",
    "Trouble",
    "cloud",
    "settings",
]
