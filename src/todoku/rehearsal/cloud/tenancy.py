"""The tenancy: compartments, people, groups, policies, credentials and keys; and who may do what.

It starts as Oracle hands one over: an administrator in the group Administrators, whose policy is
"manage all-resources in tenancy", and one compartment. Permissions are really evaluated, the
administrators' too.
"""

from __future__ import annotations

import hashlib
import secrets
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from todoku.rehearsal.internet.plan import INSTANCES, CloudPlan

from .api import Principal
from .clock import Clock
from .entries import Entry, Shelf, Timing, ocid
from .errors import invalid, limit_exceeded, not_found
from .policies import Condition, Statement, condition, parse

ADMINISTRATORS = "Administrators"
DEFAULT_DOMAIN = "Default"
SMTP_CREDENTIALS = 2  # at most, per user (SDK: list_smtp_credentials)


@dataclass(slots=True, kw_only=True)
class IdentityDomain(Entry):
    """Where people are kept, with an address of its own."""

    host: str

    @property
    def url(self) -> str:
        """As the real one says it, with the port."""
        return f"https://{self.host}:443"


@dataclass(slots=True, kw_only=True)
class InDomain(Entry):
    """What is kept in an identity domain (by its name), which has an identifier of its own for it."""

    domain: str = DEFAULT_DOMAIN
    scim_id: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def classic(self) -> bool:
        """Whether the older IAM, which knows only the domain Default, sees it."""
        return self.domain == DEFAULT_DOMAIN


@dataclass(slots=True, kw_only=True)
class User(InDomain):
    """A person or a program."""

    email: str | None = None
    family_name: str = ""
    capabilities: dict[str, bool] = field(default_factory=dict)

    def can(self, capability: str) -> bool:
        """Capabilities are on until they are switched off."""
        return self.capabilities.get(capability, True)


@dataclass(slots=True, kw_only=True)
class Group(InDomain):
    """People who have the same rights."""

    @property
    def called(self) -> str:
        """As policies name it (`policies.Statement.names`), in lower case."""
        return (self.name if self.classic else f"{self.domain}/{self.name}").lower()


@dataclass(slots=True, kw_only=True)
class DynamicGroup(Entry):
    """Instances, chosen by a rule."""

    rule: str
    condition: Condition


@dataclass(slots=True, kw_only=True)
class Membership(Entry):
    """A user in a group."""

    user: str
    group: str


@dataclass(slots=True, kw_only=True)
class Policy(Entry):
    """Statements, attached to a compartment."""

    statements: tuple[str, ...]
    parsed: tuple[Statement, ...]
    effective: float = 0.0


@dataclass(slots=True, kw_only=True)
class SmtpCredential(InDomain):
    """`name` is the user name for SMTP."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A public key for signing requests."""

    fingerprint: str
    user: str
    pem: str
    key: rsa.RSAPublicKey
    created: float


@dataclass(slots=True)
class Tenancy:
    """Everything of IAM, and the rules over it."""

    plan: CloudPlan
    clock: Clock
    timing: Timing
    compartments: Shelf[Entry] = field(default_factory=Shelf)
    domains: Shelf[IdentityDomain] = field(default_factory=Shelf)
    users: Shelf[User] = field(default_factory=Shelf)
    groups: Shelf[Group] = field(default_factory=Shelf)
    dynamic_groups: Shelf[DynamicGroup] = field(default_factory=Shelf)
    memberships: Shelf[Membership] = field(default_factory=Shelf)
    policies: Shelf[Policy] = field(default_factory=Shelf)
    credentials: Shelf[SmtpCredential] = field(default_factory=Shelf)
    api_keys: dict[str, ApiKey] = field(default_factory=dict)  # keyId -> key

    @classmethod
    def fresh(cls, plan: CloudPlan, clock: Clock, timing: Timing) -> Tenancy:
        """As it is handed over."""
        self = cls(plan, clock, timing)
        then = clock.now() - 3600

        def base(name: str, identifier: str) -> dict[str, str | float]:
            where = "" if identifier == plan.tenancy else plan.tenancy
            about = f"{name} of the rehearsal"
            return {
                "id": identifier,
                "compartment": where,
                "name": name,
                "description": about,
                "created": then,
                "ready": then,
            }

        self.compartments.put(Entry(**base("rehearsal", plan.tenancy)))  # type: ignore[arg-type]
        self.compartments.put(Entry(**base(plan.compartment_name, plan.compartment)))  # type: ignore[arg-type]
        for name in (DEFAULT_DOMAIN, *plan.identity_domains):
            self.add_domain(name, plan.tenancy)
        user = User(**base(plan.user_name, plan.user), email="root@administrator.example")  # type: ignore[arg-type]
        group = Group(**base(ADMINISTRATORS, ocid("group")))  # type: ignore[arg-type]
        self.users.put(user)
        self.groups.put(group)
        member = base("", ocid("groupmembership"))
        self.memberships.put(Membership(**member, user=user.id, group=group.id))  # type: ignore[arg-type]
        statement = f"ALLOW GROUP {ADMINISTRATORS} to manage all-resources IN TENANCY"
        policy = base("Tenant Admin Policy", ocid("policy"))
        self.policies.put(Policy(**policy, statements=(statement,), parsed=(parse(statement),)))  # type: ignore[arg-type]
        if plan.instance_may:
            rule = f"instance.id = '{plan.instance}'"
            mine = base(INSTANCES, ocid("dynamicgroup"))
            self.dynamic_groups.put(DynamicGroup(**mine, rule=rule, condition=condition(rule)))  # type: ignore[arg-type]
            may = tuple(parse(text) for text in plan.instance_may)
            policy = base(INSTANCES, ocid("policy"))
            self.policies.put(Policy(**policy, statements=plan.instance_may, parsed=may))  # type: ignore[arg-type]
        private = serialization.load_pem_private_key(plan.api_private_key.encode(), password=None)
        self.add_key(plan.user, public_pem(private.public_key()))  # type: ignore[arg-type]
        return self

    # -- identity domains

    def add_domain(self, name: str, compartment: str, description: str = "identity domain") -> IdentityDomain:
        """One more; its address is its alone."""
        now, host = self.clock.now(), f"idcs-{secrets.token_hex(16)}.identity.oraclecloud.com"
        domain = IdentityDomain(
            id=ocid("domain"),
            compartment=compartment,
            name=name,
            description=description,
            created=now,
            ready=now,
            host=host,
        )
        return self.domains.put(domain)

    def domain_at(self, host: str) -> IdentityDomain:
        """The one with that address; asked for by a bare IP address, the newest one. Raises `ApiError` 404."""
        for domain in self.domains.alive():
            if domain.host == host:
                return domain
        if host.endswith(".oraclecloud.com"):
            raise not_found()
        return list(self.domains.alive())[-1]

    def group_called(self, name: str) -> Group | None:
        """The living group that a policy means by a name or an OCID."""
        wanted = name.lower()
        return next((group for group in self.groups.alive() if wanted in (group.id, group.called)), None)

    # -- keys

    def add_key(self, user: str, pem: str) -> ApiKey:
        """Another key of `user`. Raises ValueError when it is no RSA public key in PEM."""
        key = serialization.load_pem_public_key(pem.encode())
        if not isinstance(key, rsa.RSAPublicKey):
            raise ValueError("the key has to be RSA")
        api_key = ApiKey(fingerprint(key), user, pem, key, self.clock.now())
        self.api_keys[f"{self.plan.tenancy}/{user}/{api_key.fingerprint}"] = api_key
        return api_key

    # -- who may do what

    def require(
        self,
        principal: Principal,
        verb: str,
        resource_type: str,
        compartment: str,
        target: Mapping[str, str] | None = None,
    ) -> None:
        """Raises `ApiError` 404 unless a policy allows it."""
        if not self.may(principal, verb, resource_type, compartment, target):
            raise not_found()

    def may(
        self,
        principal: Principal,
        verb: str,
        resource_type: str,
        compartment: str,
        target: Mapping[str, str] | None = None,
    ) -> bool:
        """Whether some statement allows `verb` on `resource_type` in the compartment (OCID)."""
        now = self.clock.now()
        variables = {"request.user.id": principal.id, "target.compartment.id": compartment, **(target or {})}
        return any(
            statement.covers(verb, resource_type)
            and self._is_meant(statement, principal)
            and self._reaches(statement, policy.compartment, compartment)
            and (statement.condition is None or statement.condition.holds(variables))
            for policy in self.policies.alive()
            if policy.effective <= now
            for statement in policy.parsed
        )

    def _is_meant(self, statement: Statement, principal: Principal) -> bool:
        if statement.subject == "any-user":
            return True
        wanted = {name.lower() for name in statement.names}
        if statement.subject == "group" and principal.kind == "user":
            mine = (self.groups[m.group] for m in self.memberships.alive() if m.user == principal.id)
            return any({group.called, group.id} & wanted for group in mine)
        if statement.subject == "dynamic-group" and principal.kind == "instance":
            about = {"instance.id": principal.id, "instance.compartment.id": principal.compartment}
            groups = (group for group in self.dynamic_groups.alive() if group.condition.holds(about))
            return any({group.name.lower(), group.id} & wanted for group in groups)
        return False

    def _reaches(self, statement: Statement, attached: str, compartment: str) -> bool:
        above = [entry.id for entry in self.upwards(compartment)]
        if attached not in above and attached != self.plan.tenancy:
            return False
        if statement.compartment is None:
            return True
        return any(
            statement.compartment.lower() in (entry.id, entry.name.lower(), self.path(entry).lower())
            for entry in self.upwards(compartment)
        )

    def upwards(self, compartment: str) -> Iterator[Entry]:
        """The compartment and those around it, outwards."""
        entry = self.compartments.get(compartment)
        while entry is not None:
            yield entry
            entry = self.compartments.get(entry.compartment)

    def path(self, entry: Entry) -> str:
        """`outer:inner`, as policies name a compartment."""
        names = [part.name for part in self.upwards(entry.id) if part.id != self.plan.tenancy]
        return ":".join(reversed(names))

    # -- credentials for SMTP

    def credentials_of(self, user: User) -> list[SmtpCredential]:
        """Those that are not deleted."""
        return [credential for credential in self.credentials.alive() if credential.user == user.id]

    def add_credential(self, user: User, description: str) -> SmtpCredential:
        """Another one of `user`. Raises `ApiError` 400."""
        if not user.can("canUseSmtpCredentials"):
            raise invalid(f"user {user.name} is not allowed to use SMTP credentials (capabilities)")
        if len(self.credentials_of(user)) >= SMTP_CREDENTIALS:
            raise limit_exceeded(f"a user has at most {SMTP_CREDENTIALS} SMTP credentials")
        name, password = self._new_login(user.id)
        now = self.clock.now()
        credential = SmtpCredential(
            id=ocid("credential"),
            compartment=user.compartment,
            name=name,
            description=description,
            created=now,
            ready=now + self.timing.creating_s,
            domain=user.domain,
            user=user.id,
            password=password,
        )
        return self.credentials.put(credential)

    def _new_login(self, user: str) -> tuple[str, str]:
        """User name and password, in the shapes that are known of the real ones."""
        suffix = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(2))
        # 20 printable characters, with every kind of punctuation that a file or shell could mangle.
        characters = list(secrets.SystemRandom().sample("$:#&![(<.}\"'\\`%~^;=@", 8))
        characters += [secrets.choice(string.ascii_letters + string.digits) for _ in range(12)]
        secrets.SystemRandom().shuffle(characters)
        return f"{user}@{self.plan.tenancy}.{suffix}.com", "".join(characters)

    def usable_credentials(self) -> dict[str, str]:
        """User name -> password, of those that work now."""
        now = self.clock.now()
        return {
            credential.name: credential.password
            for credential in self.credentials.values()
            if credential.state(now) == "ACTIVE"
            and credential.user in self.users
            and self.users[credential.user].alive()
            and self.users[credential.user].can("canUseSmtpCredentials")
        }


def public_pem(key: rsa.RSAPublicKey) -> str:
    """As PEM text."""
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(encoding, form).decode()


def fingerprint(key: rsa.RSAPublicKey) -> str:
    """MD5 over the DER form, as Oracle's "Required keys" page computes it."""
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    digest = hashlib.md5(key.public_bytes(encoding, form), usedforsecurity=False).hexdigest()
    return ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))
