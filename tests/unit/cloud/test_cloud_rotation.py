# A key or a password that is replaced in the wrong order loses mail. Every rotation here is killed at each of
# its steps and run again: at every moment there is a key that signs and a credential that works.

from collections.abc import Callable
from dataclasses import replace

import pytest
from cloud_fake import Clock, FakeApi, FakeRelay, Keeper, cloud

from todoku.cloud import credential_rotation, dkim_rotation
from todoku.cloud.credential_rotation import Steps as CredentialSteps
from todoku.cloud.dkim import create_key, selector
from todoku.cloud.dkim_rotation import Stage
from todoku.cloud.smtp_credential import keep, make_credential
from todoku.cloud.values import ACTIVE, FAILED, GOING, SmtpCredential
from todoku.plan.resource import ChangeFailed

DOMAIN, HOST, USER = "hoge.example", "mx.hoge.example", "todoku-relay"
DAY = 24 * 3600


class Killed(BaseException):
    """As kill -9 would: nothing after it runs."""


class Keys:
    """A domain with a key that signs, a DNS that publishes, and rotations of it."""

    def __init__(self, region="ap-tokyo-1"):
        self.clock = Clock()
        self.api = FakeApi(self.clock)
        self.api.sending_region = region
        self.published = self.api.published = {}
        self.api.dkim_seen = True
        self.said = []
        self.die_after: Callable[[str], bool] = lambda _step: False
        client = cloud(self.api)
        domain = client.api.create_email_domain(DOMAIN, "t")
        first = create_key(domain, client)
        self.publish((dkim_rotation.Record(first.record_name, first.cname),))
        self.clock.sleep(100 * DAY)

    def publish(self, records):
        self._step("before publishing")
        for record in records:
            self.published[record.name] = record.cname or record.txt
        self._step("after publishing")

    def visible(self, record):
        return self.published.get(record.name) == (record.cname or record.txt)

    def rotate(self, wait=600.0):
        client = cloud(self.api)
        return dkim_rotation.rotate(
            DOMAIN,
            client,
            dkim_rotation.Steps(publish=self.publish, visible=self.visible, say=self.say, wait=wait),
        )

    def say(self, text):
        self.said.append(text)
        self._step(f"said {len(self.said)}")

    def _step(self, name):
        if self.die_after(name):
            self.die_after = lambda _step: False
            raise Killed(name)

    def signing(self):
        self.api.look_at_dns()
        return [key for key in self.api.keys if key.state == ACTIVE]

    def alive(self):
        return [key.selector for key in self.api.keys if key.state not in GOING]


def test_a_key_is_rotated_and_the_old_one_goes_after_its_day():
    keys = Keys()
    (old,) = keys.alive()

    done = keys.rotate()
    assert done.stage is Stage.OLD_REMAINS
    assert done.current != old and done.old == old
    assert len(keys.alive()) == 2  # both are published: what is under way still verifies

    keys.clock.sleep(DAY - 600)
    assert keys.rotate().stage is Stage.OLD_REMAINS
    keys.clock.sleep(700)
    done = keys.rotate()
    assert done.stage is Stage.DONE and keys.alive() == [done.current]
    assert done.old_record.startswith(old)


def test_where_apply_publishes_the_key_itself_a_rotation_does_too():
    # Outside the commercial realm Oracle tells a CNAME as well. Published, it would stand in the way of the TXT
    # record that the next apply wants.
    keys = Keys("eu-frankfurt-2")

    done = keys.rotate()

    assert done.stage is Stage.OLD_REMAINS
    assert keys.published[f"{done.current}._domainkey.{DOMAIN}"] == f"v=DKIM1; k=rsa; p={done.current}"
    assert any(text.endswith(f"{done.current}._domainkey.{DOMAIN} TXT") for text in keys.said)
    signs = dkim_rotation.status(DOMAIN, cloud(keys.api))[0]
    assert (signs.role, signs.target) == ("signs", f"v=DKIM1; k=rsa; p={done.current}")


STEPS = ["said 1", "before publishing", "after publishing", "said 2", "said 3"]


@pytest.mark.parametrize("step", STEPS)
def test_a_rotation_that_is_killed_goes_on_and_makes_no_third_key(step):
    keys = Keys()
    keys.die_after = lambda name: name == step
    with pytest.raises(Killed):
        keys.rotate()
    assert keys.signing()

    done = keys.rotate()

    assert done.stage is Stage.OLD_REMAINS
    assert len(keys.api.keys) == 2 and len(keys.signing()) == 1


@pytest.mark.parametrize("fault", ["lost", "unsent"])
def test_a_rotation_whose_connection_is_cut_makes_one_key(fault):
    keys = Keys()
    keys.api.breaks["create_dkim"] = [fault]

    assert keys.rotate().stage is Stage.OLD_REMAINS
    assert len(keys.api.keys) == 2


def test_a_record_that_does_not_appear_leaves_the_old_key_signing():
    keys = Keys()
    keys.publish = lambda _records: None

    done = keys.rotate(wait=60)

    assert done.stage is Stage.NOT_SEEN and done.new != done.current
    assert "_domainkey.hoge.example" in done.detail
    assert [key.selector for key in keys.signing()] == [done.current]


def test_oracle_may_take_its_hour():
    keys = Keys()
    keys.signing()
    keys.api.dkim_seen = False

    done = keys.rotate(wait=60)

    assert done.stage is Stage.NOT_ACTIVE and "hour" in done.detail


def test_without_a_key_that_signs_nothing_is_rotated():
    keys = Keys()
    keys.api.keys[0] = replace(keys.api.keys[0], state=FAILED)
    with pytest.raises(ChangeFailed, match="todoku apply"):
        keys.rotate()


def test_the_status_tells_age_and_the_advice_of_six_months():
    keys = Keys()
    keys.signing()
    (young,) = dkim_rotation.status(DOMAIN, cloud(keys.api))
    assert young.age_days == 100 and young.role == "signs" and young.advice == ""

    keys.clock.sleep(100 * DAY)
    (old,) = dkim_rotation.status(DOMAIN, cloud(keys.api))
    assert "six months" in old.advice and "todoku dkim rotate hoge.example" in old.advice


def test_selectors_name_region_and_month_and_are_never_used_twice():
    when = Clock().now()
    assert selector("ap-tokyo-1", when, []) == "todoku-nrt1-202611"
    assert selector("ap-tokyo-1", when, ["TODOKU-nrt1-202611"]) == "todoku-nrt1-202611-2"
    assert selector("eu-frankfurt-2", when, []) == "todoku-str-202611"  # no code is known outside oc1


class Credentials:
    """A user with a credential, the file that holds it, and a Postfix that has read it."""

    def __init__(self):
        self.clock = Clock()
        self.api = FakeApi(self.clock)
        self.keeper = Keeper()
        self.relay = FakeRelay(self.api, self.keeper)
        self.postfix = None
        self.said = []
        self.die_after: Callable[[str], bool] = lambda _step: False
        client = cloud(self.api)
        user = client.api.create_user(USER, "a@b.example", "t")
        keep(make_credential(user, f"todoku {HOST}", client), user, self.keeper, client)
        self.reload()
        self.clock.sleep(DAY)
        original = self.api.delete_smtp_credential

        def delete(user, credential):
            assert self.postfix is not None
            assert credential.username != self.postfix[0], "Postfix logs in with it"
            original(user, credential)

        self.api.delete_smtp_credential = delete

    def reload(self):
        self.postfix = self.keeper.kept

    def rotate(self):
        steps = CredentialSteps(
            keeper=self.keeper, relay=self.relay, reload=self.reload, say=self.say, sleep=self.clock.sleep
        )
        return credential_rotation.rotate(USER, HOST, cloud(self.api), steps)

    def say(self, text):
        self.said.append(text)
        self.clock.sleep(1)
        if self.die_after(text):
            self.die_after = lambda _step: False
            raise Killed(text)

    def postfix_can_log_in(self):
        name, password = self.postfix
        return self.api.passwords[name] == password and name in {
            each.username for each in self.api.credentials
        }


def test_a_credential_is_rotated_and_only_the_new_one_is_left():
    here = Credentials()
    before = here.keeper.kept

    done = here.rotate()

    assert here.keeper.kept != before and done.deleted == (before[0],)
    assert [each.username for each in here.api.credentials] == [done.username]
    assert here.postfix_can_log_in()
    assert not any(here.keeper.kept[1] in text for text in here.said)


@pytest.mark.parametrize(
    "text",
    ["making a new credential", "the relay accepts", "the new credential is stored", "Postfix has read"],
)
def test_a_rotation_that_is_killed_leaves_mail_flowing_and_is_completed(text):
    here = Credentials()
    before = here.keeper.kept
    here.die_after = lambda said: text in said
    with pytest.raises(Killed):
        here.rotate()
    assert here.postfix_can_log_in()

    here.rotate()

    assert here.postfix_can_log_in()
    assert here.keeper.kept != before
    assert [each.username for each in here.api.credentials] == [here.postfix[0]]


@pytest.mark.parametrize("fault", ["lost", "unsent", "throttled"])
def test_a_lost_answer_loses_no_credential(fault):
    here = Credentials()
    here.api.breaks["create_smtp_credential"] = [fault]

    here.rotate()

    assert here.postfix_can_log_in() and len(here.api.credentials) == 1


def test_a_new_credential_that_does_not_work_changes_nothing():
    here = Credentials()
    before = here.keeper.kept
    here.relay.knows_new_credentials = False

    with pytest.raises(ChangeFailed, match="old one stays in use"):
        here.rotate()

    assert here.keeper.kept == before and len(here.api.credentials) == 1
    assert here.postfix_can_log_in()


def test_a_credential_of_somebody_else_is_named_and_stays():
    here = Credentials()
    here.api.credentials.append(SmtpCredential("x", "shop@x", "the shop", here.clock.now()))

    with pytest.raises(ChangeFailed, match=r"shop@x \(the shop\)"):
        here.rotate()

    assert len(here.api.credentials) == 2
