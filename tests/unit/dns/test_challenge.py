# An authority looks for a record within seconds of its being published. What it does not find yet counts as a failure,
# and five of those an hour are all that it allows. And the name may hold somebody else's challenge at the same time.

from __future__ import annotations

import pytest
from test_record_resources import Shelf, names, shelf  # noqa: F401 - fixtures

from todoku.cli.services import acme_challenge
from todoku.dns import challenge
from todoku.dns.challenge import ChallengeFailed
from todoku.dns.client import Names
from todoku.dns.manual import Manual
from todoku.dns.publisher import ChangedMeanwhile, Replacement
from todoku.plan.outputs import Outputs

NAME = "_acme-challenge.mx.hoge.example"
DOMAIN = "mx.hoge.example"


def test_a_challenge_is_published_beside_others_and_only_it_is_taken_away(shelf, names):  # noqa: F811
    shelf.put(NAME, "TXT", "somebody-elses")
    challenge.publish(names, DOMAIN, "ours")
    assert shelf.records[NAME, "TXT"] == ("somebody-elses", "ours")
    challenge.publish(names, DOMAIN, "ours")
    assert len(shelf.applied) == 1
    challenge.remove(names, DOMAIN, "ours")
    assert shelf.records[NAME, "TXT"] == ("somebody-elses",)
    challenge.remove(names, DOMAIN, "ours")
    assert len(shelf.applied) == 2


def test_a_wildcard_is_challenged_at_the_name_below_it(shelf, names):  # noqa: F811
    challenge.publish(names, f"*.{DOMAIN}", "ours")
    assert shelf.records[NAME, "TXT"] == ("ours",)


def test_nobody_is_told_to_look_before_the_name_servers_show_it(shelf, names):  # noqa: F811
    shelf.served = False
    with pytest.raises(ChallengeFailed, match=r"after 0\.2 s ns0\.hoge\.example does not show it"):
        challenge.publish(names, DOMAIN, "ours", patience=0.2)


def test_a_zone_that_is_changed_by_somebody_else_is_read_again(shelf, names):  # noqa: F811
    apply, late = shelf.apply, ["theirs"]

    def interrupted(zone: str, replacement: Replacement) -> None:
        if late:
            shelf.put(NAME, "TXT", late.pop())
            raise ChangedMeanwhile(NAME, "TXT")
        apply(zone, replacement)

    shelf.apply = interrupted
    challenge.publish(names, DOMAIN, "ours")
    assert shelf.records[NAME, "TXT"] == ("theirs", "ours")


def test_an_alias_at_the_name_is_told(shelf, names):  # noqa: F811
    shelf.put(NAME, "CNAME", "elsewhere.example")
    with pytest.raises(ChallengeFailed, match="is a CNAME: somebody else answers"):
        challenge.publish(names, DOMAIN, "ours")


def test_a_person_cannot_answer_a_challenge(shelf):  # noqa: F811
    by_hand = Names(Manual(shelf.world.lookups()), shelf.world.lookups(), Outputs(), ("hoge.example",))
    with pytest.raises(ChallengeFailed, match=r"dns\.publisher is manual"):
        challenge.publish(by_hand, DOMAIN, "ours")


@pytest.mark.parametrize("missing", ["CERTBOT_DOMAIN", "CERTBOT_VALIDATION"])
def test_the_hook_is_nothing_to_type(monkeypatch, capsys, missing):
    for name in ("CERTBOT_DOMAIN", "CERTBOT_VALIDATION"):
        monkeypatch.setenv(name, "x")
    monkeypatch.delenv(missing)
    assert acme_challenge.main(["publish"]) == 2
    assert "certbot starts this" in capsys.readouterr().err
