# The network goes away in the middle of the first apply: at each of the calls that it makes, before Oracle has done
# what was asked or after it has, and stays away. When it is back, apply is run again, and there is everything once.

from dataclasses import dataclass

import pytest
from organisation import (
    Organisation,
    internet_fixture,  # noqa: F401
    organisation_fixture,  # noqa: F401
    side_fixture,  # noqa: F401
)

from todoku.cloud.retry import Patience
from todoku.rehearsal.cloud.faults import RestFault

pytest.importorskip("oci")

# What a whole apply from nothing asks for; that this is all of it is tested below.
READS = (
    *("list_region_subscriptions", "list_domains", "get_compartment"),
    *("list_users", "list_groups", "list_policies", "list_user_group_memberships", "list_smtp_credentials"),
    *("list_email_domains", "list_dkims", "get_dkim", "list_email_return_paths", "get_email_return_path"),
    *("list_senders", "list_log_groups", "list_logs"),
)
WRITES = {
    "create_group": 1,
    "create_user": 1,
    "add_user_to_group": 1,
    "create_policy": 1,
    "create_smtp_credential": 1,
    "create_email_domain": 1,
    "create_log_group": 1,
    "create_log": 2,
    "create_dkim": 1,
    "create_email_return_path": 2,  # refused until the DKIM key is active
    "create_sender": 3,  # the postmaster, Alice, and then the whole domain
}
STEPS = [
    *((name, 0, "before") for name in READS),
    *(
        (name, number, cut)
        for name, many in WRITES.items()
        for number in range(many)
        for cut in ("before", "after")
    ),
]
ADDRESSES = ["alice@hoge.example"]


@dataclass(slots=True)
class Gone(RestFault):
    """From the first call that is meant, no call gets through."""

    gone: bool = False

    def due(self, operation: str, *, writes: bool) -> bool:
        if self.gone:
            self.cut = "before"
            return True
        self.gone = RestFault.due(self, operation, writes=writes)
        return self.gone


@pytest.fixture
def obliged(organisation: Organisation) -> Organisation:
    """An organisation whose DNS has whatever Oracle looks for, so that one apply comes to the end."""
    side = organisation.side
    side.switch(limits={"auth_failures": 100}, dkim_activation_s=0.5)

    def answer(name, kind):
        states = side.cloud.email.values()
        wanted = [each for s in states for shelf in (s.dkims, s.return_paths) for each in shelf.alive()]
        found = [f"{each.cname}.".encode() for each in wanted if (each.dns_name, "CNAME") == (name, kind)]
        return tuple(found) or side.dns(name, kind)

    side.cloud.resolver = answer
    return organisation


def apply(organisation, patience):
    return organisation.apply(addresses=ADDRESSES, patience=8.0, retry=patience)


def inventory(organisation):
    """What there is, by name: what is there twice is listed twice."""
    cloud = organisation.side.cloud
    state, tenancy = cloud.email["ap-tokyo-1"], cloud.tenancy
    shelves = {
        "domains": state.domains,
        "keys": state.dkims,
        "return paths": state.return_paths,
        "senders": state.senders,
        "users": tenancy.users,
        "groups": tenancy.groups,
        "policies": tenancy.policies,
        "credentials": tenancy.credentials,
        "log groups": cloud.logging["ap-tokyo-1"].groups,
        "logs": cloud.logging["ap-tokyo-1"].logs,
    }
    names = {kind: sorted(each.name for each in shelf.alive()) for kind, shelf in shelves.items()}
    return names | {"memberships": len(list(tenancy.memberships.alive()))}


def require_all_of_it_once(organisation):
    there = inventory(organisation)
    assert there.pop("keys")[0].startswith("todoku-nrt1-") and len(there) == 10
    assert len(organisation.client().dkims(organisation.client().email_domain("hoge.example"))) == 1
    assert there == {
        "domains": ["hoge.example"],
        "return paths": ["nrt1.rp.hoge.example"],
        "senders": ["@hoge.example", "alice@hoge.example", "postmaster@hoge.example"],
        "users": ["administrator", "todoku-relay"],
        "groups": ["Administrators", "todoku-senders"],
        "policies": ["Tenant Admin Policy", "todoku-senders"],
        "credentials": [organisation.keeper.kept[0]],
        "log groups": ["todoku"],
        "logs": ["hoge.example_outboundaccepted", "hoge.example_outboundrelayed"],
        "memberships": 2,  # the administrator's is the other one
    }


def test_the_steps_are_all_that_a_whole_apply_asks_for(obliged):
    outcome = apply(obliged, Patience())
    assert not outcome.failed and not outcome.waits, outcome
    require_all_of_it_once(obliged)
    operations = obliged.side.switch()["rest_seen"]["operations"]
    assert set(operations) == {*READS, *WRITES}
    assert {name: operations[name] for name in WRITES} == WRITES


@pytest.mark.parametrize(("operation", "number", "cut"), STEPS)
def test_apply_again_after_the_network_went_away_at(obliged, operation, number, cut):
    fault = Gone(cut=cut, operation=operation, skip=number)
    obliged.side.cloud.dispatcher.fault = fault

    outcome = apply(obliged, Patience(tries=2, first=0.01, longest=0.01))

    assert fault.gone
    assert outcome.failed
    obliged.side.cloud.dispatcher.fault = None
    again = apply(obliged, Patience(first=0.05, longest=0.2))
    assert not again.failed and not again.waits, again
    require_all_of_it_once(obliged)
